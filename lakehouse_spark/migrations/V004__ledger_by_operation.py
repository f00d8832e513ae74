"""The ledger of migrations is kept by operation: what each did, how long it took, and which snapshots it lies between.

Until now it said of a version that it was applied, and one that was interrupted began again.
"""  # noqa: N999

from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition, SetProperties

_LEDGER = "_metadata.schema_migrations"

OPERATIONS = (
    AddColumn(
        _LEDGER, ColumnDefinition("operation_index", "int", "Which of its operations, from 1; NULL: all of them")
    ),
    AddColumn(_LEDGER, ColumnDefinition("operation", "string", "What the operation did, in a sentence")),
    AddColumn(
        _LEDGER, ColumnDefinition("class", "string", "additive or breaking: whether it may break who reads the table")
    ),
    AddColumn(_LEDGER, ColumnDefinition("table_name", "string", "The table that it changed; NULL of a step of code")),
    AddColumn(_LEDGER, ColumnDefinition("seconds", "double", "How long it took")),
    AddColumn(_LEDGER, ColumnDefinition("snapshot_before", "bigint", "The table's current snapshot before it")),
    AddColumn(_LEDGER, ColumnDefinition("snapshot_after", "bigint", "The table's current snapshot after it")),
    AddColumn(_LEDGER, ColumnDefinition("schema_before", "int", "Iceberg's id of the table's schema before it")),
    AddColumn(_LEDGER, ColumnDefinition("schema_after", "int", "Iceberg's id of the table's schema after it")),
    AddColumn(
        _LEDGER,
        ColumnDefinition("major", "int", "Major version of the lakehouse, raised by what breaks its readers; NULL: 1"),
    ),
    SetProperties(
        _LEDGER,
        (
            (
                "comment",
                "Applied schema migrations, one row per version.",
                "Applied schema migrations, one row per operation, or, in a new lakehouse, per version.",
            ),
        ),
    ),
)
