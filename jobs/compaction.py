"""spark-submit entry: small files into large ones."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["compaction", *sys.argv[1:]]))
