"""spark-submit entry: drop snapshots that need not be kept."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["snapshot_expiration", *sys.argv[1:]]))
