"""`_metadata.payload_drift`: what the payloads of a topic held that its declaration does not say."""

from dataclasses import replace

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT

UNKNOWN, RETYPED, VANISHED, OTHER = "UNKNOWN", "RETYPED", "VANISHED", "OTHER"
CHANGES = (UNKNOWN, RETYPED, VANISHED, OTHER)
MOST_NAMES = 50
"""So many unknown names are kept of a topic; fields of more names are counted together."""

TABLE = Table(
    name="_metadata.payload_drift",
    doc="Fields of payloads that are not as their topic declares them, counted for each batch that silver took in.",
    columns=(
        column("topic", TEXT, "The topic, by its bronze table"),
        column("batch", TEXT, "The bronze stamp after which the batch began; `start` is the first"),
        column("name", TEXT, "The field; of OTHER none"),
        column("change", TEXT, "UNKNOWN, RETYPED, VANISHED: no record has it; OTHER: unknown ones beyond 50 names"),
        column("json_type", TEXT, "What it held: string, integer, number, boolean, array, object, null; else none"),
        column("records", LONG, "How many records of the batch had it so; how many fields of OTHER"),
        column("readable", LONG, "How many records of the batch are JSON objects"),
        column("upto", INSTANT, "The bronze stamp that the batch ended with"),
        column("_noted_at", INSTANT, "Commit stamp: when it was noted"),
    ),
    key=("topic", "batch", "name", "change", "json_type"),
    stamp="_noted_at",
    policy=replace(DIM_POLICY, max_snapshots=1_000),  # a producer's new field is noted with every batch
)
