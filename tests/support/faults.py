"""How many ends of a process a run tries."""

import os

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "2"))
