"""What spark-submit is given: a folder of its own, because Spark puts the folder of its program on Python's path."""
