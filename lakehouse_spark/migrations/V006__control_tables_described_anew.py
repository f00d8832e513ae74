"""The log of maintenance holds the leases of live mode and of continuous writers too; a checksum is of operations."""  # noqa: N999

from lakehouse_spark.schema.operations import CommentColumn, SetProperties

_LOG = "_metadata.maintenance_log"

OPERATIONS = (
    CommentColumn(
        _LOG,
        "table_name",
        "The table that was maintained",
        "The table that was maintained, or is held by a lease; * is all of them",
    ),
    CommentColumn(
        _LOG,
        "job",
        "compaction, snapshot_expiration, orphan_cleanup, manifest_rewrite or bronze_retention",
        "The job of maintenance; live, drain or bronze_writer where it is a lease alone",
    ),
    CommentColumn(
        "_metadata.schema_migrations",
        "checksum",
        "SHA-256 of its source when it was applied",
        "SHA-256 of its operations, as they were applied",
    ),
    SetProperties(
        _LOG,
        (
            (
                "comment",
                "What maintenance did to tables: rows are added as a run begins, renews its lease on a table, and "
                "ends.",
                "What maintenance did to tables, and who holds one by a lease: rows are added as runs begin, go on "
                "and end.",
            ),
        ),
    ),
)
