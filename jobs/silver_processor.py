"""spark-submit entry: bronze to silver."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["silver_processor", *sys.argv[1:]]))
