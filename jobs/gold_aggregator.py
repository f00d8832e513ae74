"""spark-submit entry: silver to the five gold tables."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["gold_aggregator", *sys.argv[1:]]))
