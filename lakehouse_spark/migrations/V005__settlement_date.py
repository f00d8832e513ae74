"""When trades settle, which exchanges state: derived for the facts there are, by what the shipped exchanges say now."""  # noqa: N999

from collections.abc import Sequence
from hashlib import sha256

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim.dim_exchange import DIMENSION as EXCHANGES
from lakehouse_spark.gold.fact_trades import TABLE as FACTS
from lakehouse_spark.lake import change_log, commit
from lakehouse_spark.migrations.migration import Step
from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition
from lakehouse_spark.types import BYTES, INTEGER, LONG, TEXT

_SOURCE = "V005__settlement_date"
_NEXT_DAY = {
    "AMEX": "XASE", "ARCA": "ARCX", "BATS": "BATS", "IEX": "IEXG", "NASDAQ": "XNAS", "NYSE": "XNYS", "SSE": "XSHG",
    "TSX": "XTSE",
}  # fmt: skip
"""The shipped exchanges that settle on the next trading day, with their MICs: a code may be another exchange's too."""
_BEFORE_ALL = "1899-12-31"
"""The day before that of the statements which a lakehouse began with: any other statement wins."""


def state_settlement(spark: SparkSession) -> None:
    """Those of the shipped exchanges that settle on the next trading day say so in the change log, where there are
    any, as they do in a lakehouse that begins now.

    The dimension is derived whole by the next dimension_loader, since what records said of it was ignored until now,
    and the facts by the next fact_loader.
    """
    exchanges, facts = (spark.table(table.identifier) for table in (EXCHANGES.table, FACTS))
    unstated = exchanges.where(F.col("settlement_days").isNull()).select("exchange_code", "mic")
    codes = {row["exchange_code"]: row["mic"] for row in unstated.orderBy("exchange_code").collect()}
    if sooner := [code for code, mic in codes.items() if mic is not None and _NEXT_DAY.get(code) == mic]:
        digest = sha256("\n".join(sooner).encode()).hexdigest()
        change_log.land(spark, EXCHANGES, _statements(spark, sooner), _SOURCE, digest)
    if codes:
        commit.outdate(spark, EXCHANGES.table)
    if not facts.where(F.col("settlement_date").isNull()).isEmpty():
        commit.outdate(spark, FACTS)


def _statements(spark: SparkSession, codes: Sequence[str]) -> DataFrame:
    """A record per exchange, as a file's."""
    rows = spark.createDataFrame(list(enumerate(codes)), "_source_row long, code string").coalesce(1)
    stated = {"exchange_code": F.col("code"), "settlement_days": F.lit("1"), "effective_date": F.lit(_BEFORE_ALL)}
    attributes = F.create_map(*(part for name, value in stated.items() for part in (F.lit(name), value)))
    return rows.select(
        F.lit(EXCHANGES.name).alias("dimension"),
        attributes.alias("attributes"),
        F.to_json(attributes).alias("raw_payload"),
        F.lit(None).cast(TEXT).alias("_kafka_topic"),
        F.lit(None).cast(INTEGER).alias("_kafka_partition"),
        F.lit(None).cast(LONG).alias("_kafka_offset"),
        "_source_row",
        F.lit(None).cast(BYTES).alias("_raw_bytes"),
    )


OPERATIONS = (
    AddColumn(
        table="dim.dim_exchange",
        column=ColumnDefinition(
            "settlement_days", "int", "Trading days from a trade to its settlement (T+2: 2); not stated, 2 count"
        ),
        after="mic",
    ),
    AddColumn(
        table="gold.fact_trades",
        column=ColumnDefinition(
            "settlement_date", "date", "When it settles: dim_exchange's settlement_days after the local trading day"
        ),
        after="status",
    ),
    Step("state settlement", state_settlement),
)
