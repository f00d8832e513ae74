"""spark-submit entry: reference data to dimensions."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["dimension_loader", *sys.argv[1:]]))
