"""spark-submit entry: all maintenance that is due, in one session."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["maintenance", *sys.argv[1:]]))
