"""spark-submit entry of every job: its arguments are the job's name and options."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
