"""The log of maintenance, whose rows are its leases too: without it no maintenance job knows of another."""  # noqa: N999

from lakehouse_spark.schema.operations import ColumnDefinition, CreateTable

OPERATIONS = (
    CreateTable(
        table="_metadata.maintenance_log",
        comment="What maintenance did to tables: rows are added as a run begins, renews its lease on a table, and "
        "ends.",
        columns=(
            ColumnDefinition("run_id", "string", "The run of a job, one for all tables of it"),
            ColumnDefinition("table_name", "string", "The table that was maintained"),
            ColumnDefinition(
                "job",
                "string",
                "compaction, snapshot_expiration, orphan_cleanup, manifest_rewrite or bronze_retention",
            ),
            ColumnDefinition(
                "status", "string", "STARTED, RENEWED, DONE or FAILED; until the last two the run holds the table"
            ),
            ColumnDefinition(
                "lease_until",
                "timestamp",
                "When a run that says nothing more is taken for dead; NULL once it has ended",
            ),
            ColumnDefinition("reason", "string", "Why it was due"),
            ColumnDefinition(
                "planned",
                "map<string,bigint>",
                "What was planned, by what was counted (files, bytes, snapshots, manifests, rows)",
            ),
            ColumnDefinition(
                "done",
                "map<string,bigint>",
                "What was found afterwards, by the same names; NULL until it ended",
            ),
            ColumnDefinition(
                "detail", "string", "What else there is to tell, as JSON: partitions, files that went, the error"
            ),
            ColumnDefinition("_logged_at", "timestamp", "Commit stamp: when it was logged"),
        ),
        partitioned_by=("months(_logged_at)",),
    ),
)
