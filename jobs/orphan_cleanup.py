"""spark-submit entry: drop files that no snapshot knows."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["orphan_cleanup", *sys.argv[1:]]))
