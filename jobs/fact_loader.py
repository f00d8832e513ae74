"""spark-submit entry: silver to facts."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["fact_loader", *sys.argv[1:]]))
