"""spark-submit entry: create the tables, or bring them to this release."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["schema_migration", *sys.argv[1:]]))
