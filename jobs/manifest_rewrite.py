"""spark-submit entry: many manifests into few."""

import sys

from lakehouse_spark.cli.run import main

if __name__ == "__main__":
    sys.exit(main(["manifest_rewrite", *sys.argv[1:]]))
