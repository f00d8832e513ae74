"""All tables of the first release: a new lakehouse is made from the declarations, and one that has this, has them."""  # noqa: N999

OPERATIONS = ()
CHECKSUMS_BEFORE = ("45adde40cbecc65896761ec1901cc4a8651f6321f29b6577488a2b046e7915cc",)
