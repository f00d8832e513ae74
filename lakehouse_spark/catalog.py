"""All declarations of the lakehouse, in dependency order: tables, topics, feeds, dimensions and facts."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from lakehouse_spark.bronze import raw_marketdata, raw_orderbook, raw_reference, raw_trades
from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_time, dim_trader
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.dim.reference_log import ReferenceTopic
from lakehouse_spark.errors import UsageError
from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_orderbook,
    fact_trades,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.gold.fact import Fact
from lakehouse_spark.metadata import maintenance_log, payload_drift, retired_keys, schema_migrations, surrogate_keys
from lakehouse_spark.silver import market_data, orderbook_snapshots, rejected_records, trader_activity, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.table import Table

TABLES: tuple[Table, ...] = (
    schema_migrations.TABLE,
    maintenance_log.TABLE,
    payload_drift.TABLE,
    surrogate_keys.TABLE,
    retired_keys.TABLE,
    raw_trades.TABLE,
    raw_orderbook.TABLE,
    raw_marketdata.TABLE,
    raw_reference.TABLE,
    dim_exchange.TABLE,
    dim_symbol.TABLE,
    dim_trader.TABLE,
    dim_account.TABLE,
    dim_time.TABLE,
    trades.TABLE,
    orderbook_snapshots.TABLE,
    market_data.TABLE,
    trader_activity.TABLE,
    rejected_records.TABLE,
    fact_trades.TABLE,
    fact_orderbook.TABLE,
    daily_trading_summary.TABLE,
    open_lots.TABLE,
    trader_performance.TABLE,
    market_overview.TABLE,
    portfolio_positions.TABLE,
    trade_analytics.TABLE,
)
"""Every table after the tables it is built from."""

DIMENSIONS: Mapping[str, Dimension] = {
    dimension.name: dimension
    for dimension in (dim_exchange.DIMENSION, dim_symbol.DIMENSION, dim_trader.DIMENSION, dim_account.DIMENSION)
}
"""The dimensions that follow from the change log, by name, in the order in which they are loaded."""

REFERENCE_TOPIC = ReferenceTopic(tuple(DIMENSIONS.values()))
"""Reference data may come from files alone: by default its topic is read where there is one."""

TOPICS: Mapping[str, Topic | ReferenceTopic] = {
    topic.name: topic for topic in (raw_trades.TOPIC, raw_orderbook.TOPIC, raw_marketdata.TOPIC, REFERENCE_TOPIC)
}
"""The Kafka topics, by the short name of the bronze table that each lands in."""

FEEDS: Mapping[str, Feed] = {
    feed.table.short_name: feed for feed in (trades.FEED, orderbook_snapshots.FEED, market_data.FEED)
}
"""How bronze tables become silver ones, by the short name of the silver table."""

FACTS: Mapping[str, Fact] = {fact.table.short_name: fact for fact in (fact_trades.FACT, fact_orderbook.FACT)}
"""The fact tables, by short name."""

LAYERS = tuple(dict.fromkeys(table.namespace for table in TABLES))
"""The namespaces, in the order of the tables."""

BY_NAME: Mapping[str, Table] = MappingProxyType({table.name: table for table in TABLES})


def with_downstream(names: Iterable[str]) -> tuple[str, ...]:
    """These tables and all that are built from them, directly or not, each after its sources."""
    found = set(names)
    for table in TABLES:
        if found.intersection(table.sources):
            found.add(table.name)
    return tuple(table.name for table in TABLES if table.name in found)


def table(name: str) -> Table:
    """The table of this name, with or without its namespace; UsageError with the nearest names for any other."""
    if name in BY_NAME:
        return BY_NAME[name]
    by_short_name = {t.short_name: t for t in TABLES}  # no two namespaces share a short name: see the tests
    if name in by_short_name:
        return by_short_name[name]
    near = difflib.get_close_matches(name, [*BY_NAME, *by_short_name], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the tables are {', '.join(BY_NAME)}"
    raise UsageError(f"there is no table {name!r}: {hint}")
