"""spark-submit entry: Kafka to bronze."""

import sys

from lakehouse_spark.cli.entry import main

if __name__ == "__main__":
    sys.exit(main("bronze_writer", sys.argv[1:]))
