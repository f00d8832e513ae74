"""Kafka headers: what a producer says beside the payload (a trace, a schema, who sent it) was dropped until now."""  # noqa: N999

from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition

_HEADERS = ColumnDefinition(
    "_kafka_headers",
    "array<struct<key:string,value:binary>>",
    "Kafka headers as sent, in order; NULL where not asked for, or none",
)

OPERATIONS = (
    AddColumn("bronze.raw_trades", _HEADERS),
    AddColumn("bronze.raw_orderbook", _HEADERS),
    AddColumn("bronze.raw_marketdata", _HEADERS),
)
