"""PySpark's daemon of Python workers, without a search through all that it imported after each task."""

import gc
import runpy

import pyspark.worker  # noqa: F401, what every worker is forked with

if __name__ == "__main__":
    gc.freeze()  # a worker collects garbage whenever it is done, which takes longer than the rows of a test
    runpy.run_module("pyspark.daemon", run_name="__main__")
