"""spark-submit entry of every job: its arguments are the job's name and options."""

import os
import sys

from lakehouse_spark.cli.run import main
from lakehouse_spark.cli.submit import take_over

if __name__ == "__main__":
    take_over(os.environ)
    sys.exit(main(sys.argv[1:]))
