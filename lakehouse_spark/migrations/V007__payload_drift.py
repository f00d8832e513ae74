"""Payload drift: without the table nobody sees that a producer sends fields which no column takes."""  # noqa: N999

from lakehouse_spark.schema.operations import ColumnDefinition, CreateTable

OPERATIONS = (
    CreateTable(
        table="_metadata.payload_drift",
        comment="Fields of payloads that are not as their topic declares them, counted for each batch that silver took "
        "in.",
        columns=(
            ColumnDefinition("topic", "string", "The topic, by its bronze table"),
            ColumnDefinition("batch", "string", "The bronze stamp after which the batch began; `start` is the first"),
            ColumnDefinition("name", "string", "The field; of OTHER none"),
            ColumnDefinition(
                "change",
                "string",
                "UNKNOWN, RETYPED, VANISHED: no record has it; OTHER: unknown ones beyond 50 names",
            ),
            ColumnDefinition(
                "json_type",
                "string",
                "What it held: string, integer, number, boolean, array, object, null; else none",
            ),
            ColumnDefinition("records", "bigint", "How many records of the batch had it so; how many fields of OTHER"),
            ColumnDefinition("readable", "bigint", "How many records of the batch are JSON objects"),
            ColumnDefinition("upto", "timestamp", "The bronze stamp that the batch ended with"),
            ColumnDefinition("_noted_at", "timestamp", "Commit stamp: when it was noted"),
        ),
    ),
)
