"""spark-submit entry: every step once, in one session."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["pipeline", *sys.argv[1:]]))
