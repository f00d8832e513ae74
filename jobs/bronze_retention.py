"""spark-submit entry: drop rows of bronze that are old and consumed."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["bronze_retention", *sys.argv[1:]]))
