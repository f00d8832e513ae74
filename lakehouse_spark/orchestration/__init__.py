"""The lakehouse as Dagster sees it: assets, checks, schedules and sensors, all derived from the declarations.

No JVM starts in Dagster's processes: work is done by spark-submit, in a process of its own, and what only looks reads
metadata. Load `lakehouse_spark.orchestration.definitions`.
"""
