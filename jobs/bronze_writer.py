"""spark-submit entry: Kafka to bronze."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["bronze_writer", *sys.argv[1:]]))
