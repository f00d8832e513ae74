"""Dimensions, facts and gold: keys resolve, versions fit together, and the same trades add up to the same sums."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS, FACTS
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_time, dim_trader, members
from lakehouse_spark.dim.dimension import changes
from lakehouse_spark.dim.reference_log import LOG, of_dimension, readable
from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_orderbook,
    fact_trades,
    market_overview,
    open_lots,
    trade_analytics,
)
from lakehouse_spark.lake import frames
from lakehouse_spark.lake.cursor import UpstreamCursor
from lakehouse_spark.lake.dimension_records import records
from lakehouse_spark.lake.queries import counts, kept
from lakehouse_spark.silver import rejected_records, trades
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import market_hours, scd_type2
from lakehouse_spark.transforms.market_hours import with_settlement_date
from lakehouse_spark.verify.finding import Finding, differing
from lakehouse_spark.verify.look import Look


def days_have_1440_minutes(looks: Sequence[Look]) -> Iterator[Finding]:
    """dim_time has one row per minute of every day of its years."""
    for look in looks:
        held = look.rows().groupBy("date").agg(F.count("*").alias("minutes"))
        first = F.trunc("date", "year")
        days = F.explode(F.sequence(first, F.date_sub(F.add_months(first, 12), 1))).alias("date")
        due = held.select(first.alias("date")).distinct().select(days)
        off = due.join(held, on="date", how="left").where(~F.col("minutes").eqNullSafe(F.lit(1440))).count()
        yield Finding("1,440 minutes a day", look.table.name, off, f"{off} days with another number")


def dimensions_follow_from_their_log(looks: Sequence[Look]) -> Iterator[Finding]:
    """A dimension's rows are what its change log says, up to where it was read."""
    for look in looks:
        table, dimension, check = look.table, DIMENSIONS[look.table.short_name], "rows follow from the change log"
        state = look.state()
        cursor = state.cursor_as(UpstreamCursor)
        upto = cursor.upto if cursor else None
        if upto is None:
            yield Finding(check, table.name, 0, "nothing loaded yet")
            continue
        if state.is_outdated:
            yield Finding(check, table.name, 0, f"{state.rules_moved}: waits for dimension_loader", waits=True)
            continue
        read, letters = look.rows(LOG).where(F.col("_ingested_at") <= F.lit(upto)), look.rows(rejected_records.TABLE)
        with kept(changes(records(look.spark, dimension, readable(read), letters), dimension)) as good:
            derived, held, stay = dimension.derive(good), look.rows(), ""
            if dimension.is_versioned:
                held = held.where(~F.col("is_inferred"))
            else:
                named = read.where(of_dimension(dimension)).select(F.col("natural_key").alias(dimension.natural_key))
                rejected = members.rejected(dimension, derived, held).select(dimension.natural_key)
                rejected = rejected.join(named, on=dimension.natural_key, how="left_semi")
                held = held.join(rejected, on=dimension.natural_key, how="left_anti")
                stay = _stay(rejected)
            off = differing(held.select(*derived.columns), derived)
        yield Finding(check, table.name, off, f"{off} rows differ{stay}")


_MOST_NAMED = 10


def _stay(rejected: DataFrame) -> str:
    """Members that were there before newer rules rejected all that states them, by name: they want a new record."""
    found = [row[0] for row in rejected.orderBy(rejected.columns[0]).limit(_MOST_NAMED + 1).collect()]
    listed = ", ".join(found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")
    return f"; rows kept without what breaks a rule, all records refused: {listed}" if found else ""


def versions_are_disjoint(looks: Sequence[Look]) -> Iterator[Finding]:
    """One current version per live key, ranges in order and disjoint, those of inferred members up to the next one."""
    for look in looks:
        key = DIMENSIONS[look.table.short_name].natural_key
        following = F.lead("effective_date").over(Window.partitionBy(key).orderBy("effective_date"))
        gap = F.col("is_inferred") & (following > F.date_add("expiry_date", 1))
        checked = scd_type2.with_faults(look.rows().withColumn("_gap", gap), key)
        wrong = (F.size("_faults") > 0) | F.coalesce("_gap", F.lit(False))
        off = checked.where(wrong).count()
        yield Finding("one current version, disjoint ranges", look.table.name, off, f"{off} versions")


def previous_values_have_a_date(looks: Sequence[Look]) -> Iterator[Finding]:
    """SCD3: a previous value exactly where there is a change date."""
    for look in looks:
        wrong = F.lit(False)
        for pair in dim_account.PAIRS:
            wrong |= F.col(pair.previous).isNull() != F.col(pair.changed_on).isNull()
        off = look.rows().where(wrong).count()
        yield Finding("a previous value has a change date", look.table.name, off, f"{off} accounts")


def facts_follow_silver(looks: Sequence[Look]) -> Iterator[Finding]:
    """A fact for every silver row at the same instant, and no other."""
    for look in looks:
        declared, check = FACTS[look.table.short_name], "one fact per silver row"
        fact, source = declared.table, declared.source
        if look.progress.waits_for(source):
            yield Finding(check, fact.name, 0, f"{source.name} waits for fact_loader", waits=True)
            continue
        facts, rows = look.of_days_changed(fact, source)
        key, fact_time, time = fact.key[0], declared.fact_time, declared.source_time
        off = differing(facts.select(key, fact_time), rows.select(key, time))
        yield Finding(check, fact.name, off, f"{off} rows without the other")


_REFERENCES = {
    fact_trades.TABLE: (dim_symbol.TABLE, dim_trader.TABLE, dim_exchange.TABLE, dim_time.TABLE),
    fact_orderbook.TABLE: (dim_symbol.TABLE, dim_time.TABLE),
}


def foreign_keys_resolve(looks: Sequence[Look]) -> Iterator[Finding]:
    """No foreign key is NULL or dangling, and a version is valid on the fact's date."""
    dangling = {}
    for look in looks:
        fact, references = look.table, _REFERENCES[look.table]
        facts = look.gained() if look.are_as_proved(references) else look.rows()
        for dimension in references:
            key = f"{dimension.short_name.removeprefix('dim_')}_key"
            if look.progress.is_begun and look.progress.waits_for(dimension):
                detail = f"{dimension.name} waits for fact_loader"
                yield Finding(f"{key} resolves", fact.name, 0, detail, waits=True)
                continue
            found = look.rows(dimension).withColumnRenamed(key, "_key")
            matches: Column = F.col(key) == F.col("_key")
            if "expiry_date" in dimension.column_names:
                valid = F.col("effective_date"), F.col("expiry_date")
                matches &= F.to_date(str(fact.day_column)).between(*valid)
            dangling[f"{key} {fact.name} {dimension.name}"] = facts.join(found, on=matches, how="left_anti")
    for place, off in counts(dangling).items():
        key, fact_name, name = place.split()
        yield Finding(f"{key} resolves", fact_name, off, f"{off} facts without their {name} row")


def trades_settle_as_their_exchange_says(looks: Sequence[Look]) -> Iterator[Finding]:
    """The settlement dates of the facts are those by dim_exchange and the calendars."""
    for look in looks:
        check = "settlement date by the exchange's calendar"
        if look.progress.is_behind:
            yield Finding(check, look.table.name, 0, "waits for fact_loader", waits=True)
            continue
        instant = F.col("event_timestamp")
        facts = look.gained() if look.are_as_proved([dim_exchange.TABLE]) else look.rows()
        traded = facts.join(look.rows(dim_exchange.TABLE), on="exchange_key", how="inner").select(
            F.col("exchange_code").alias("exchange"),
            F.to_date(instant).alias("trade_date"),
            instant.alias("trade_timestamp"),
            F.col("settlement_date").alias("_held"),
            F.struct(*market_hours.EXCHANGE_COLUMNS).alias("_exchange"),
        )
        places = traded.agg(F.collect_set("_exchange"), F.min("trade_date"), F.max("trade_date"))
        exchanges, first, last = places.collect()[0]
        rows = market_hours.settlements(exchanges, [(first, last)]) if exchanges else []
        settled = with_settlement_date(traded, frames.of_rows(look.spark, rows, market_hours.SETTLEMENTS))
        off = settled.where(~F.col("settlement_date").eqNullSafe(F.col("_held"))).count()
        yield Finding(check, look.table.name, off, f"{off} trades with another one")


_VALUES: Mapping[Table, tuple[str, Mapping[str, str]]] = {
    fact_trades.TABLE: ("total_value", {}),
    daily_trading_summary.TABLE: ("total_value", {"summary_date": "trade_date", "symbol": "symbol"}),
    market_overview.TABLE: ("total_value", {"overview_date": "trade_date", "exchange": "exchange"}),
    trade_analytics.TABLE: (
        "notional_value",
        {"analytics_date": "trade_date", "symbol": "symbol", "exchange": "exchange"},
    ),
}
"""The column of a table that is added up, and what its groups are of the trades."""


def values_add_up(looks: Sequence[Look]) -> Iterator[Finding]:
    """Day by day, the value of the trades that count is the same in silver, the facts and three gold tables.

    Left out are groups of a gold table with a value beyond its column's type, which is NULL there.
    """
    check = "total value as in silver.trades"
    for look in looks:
        table, (column, group) = look.table, _VALUES[look.table]
        if look.progress.waits_for(trades.TABLE):
            yield Finding(check, table.name, 0, f"{trades.TABLE.name} waits for its turn", waits=True)
            continue
        rows, traded = look.of_days_changed(table, trades.TABLE)
        live = trades.live(traded)
        if group:
            beyond = rows.where(F.col(column).isNull()).select(*group).distinct()
            rows = rows.join(beyond, on=list(group), how="left_anti")
            live = live.join(beyond.withColumnsRenamed(dict(group)), on=list(group.values()), how="left_anti")
        else:
            rows = rows.where(F.col("status") != "CANCELLED")
        ours = rows.select(F.to_date(str(table.day_column)).alias("day"), F.col(column).alias("ours"))
        theirs = live.select(F.to_date("trade_timestamp").alias("day"), F.col("total_value").alias("theirs"))
        here, there, off = _totals(ours.unionByName(theirs, allowMissingColumns=True))
        yield Finding(check, table.name, int(off), f"{here:,} here, {there:,} there")


def _totals(values: DataFrame) -> tuple[Decimal, Decimal, bool]:
    """What the two columns add up to, and whether that differs on any day."""

    def total(column: str) -> Column:
        return F.coalesce(F.sum(column), F.lit(0)).cast("decimal(38,6)").alias(column)

    by_day = values.groupBy("day").agg(total("ours"), total("theirs"))
    here, there, days = by_day.agg(
        total("ours"), total("theirs"), F.count_if(F.col("ours") != F.col("theirs"))
    ).collect()[0]
    return here, there, days > 0


_HOLDING = ["trader_id", "account_id", "symbol"]


def lots_add_up(looks: Sequence[Look]) -> Iterator[Finding]:
    """At the end of every day, open lots and positions are the shares bought up to then less the shares sold."""
    check = "open shares = bought - sold"
    of_positions = F.sum(F.col("quantity").cast("decimal(38,0)"))
    for look in looks:
        is_of_lots = look.table is open_lots.TABLE
        day, held = ("lot_date", _signed("side")) if is_of_lots else ("position_date", of_positions)
        followed = (trades.TABLE, dim_account.TABLE) if look.progress.is_begun else (trades.TABLE,)
        waiting = [source.name for source in followed if look.progress.waits_for(source)]
        if waiting:
            detail = f"{' and '.join(waiting)}: news wait for gold_aggregator"
            yield Finding(check, look.table.name, 0, detail, waits=True)
            continue
        ours = look.rows().groupBy(day, *_HOLDING).agg(held.alias("net"))
        off = differing(ours, _net_positions(look).select("day", *_HOLDING, "net"))
        yield Finding(check, look.table.name, off, f"{off} positions differ")


def _net_positions(look: Look) -> DataFrame:
    """Shares bought less shares sold by the end of each day with trades anywhere, where they are not as many."""
    booked = open_lots.booked(trades.live(look.rows(trades.TABLE)), look.rows(dim_account.TABLE))
    traded = booked.groupBy(*_HOLDING, "trade_date").agg(_signed("trade_type").alias("net"))
    in_order = Window.partitionBy(*_HOLDING).orderBy("trade_date")
    net = F.sum("net").over(in_order.rowsBetween(Window.unboundedPreceding, 0)).cast("decimal(38,0)")
    spans = traded.select(*_HOLDING, "trade_date", net.alias("net"), F.lead("trade_date").over(in_order).alias("until"))
    days = look.rows(daily_trading_summary.TABLE).select(F.col("summary_date").alias("day")).distinct()
    lasts = (F.col("day") >= F.col("trade_date")) & (F.col("until").isNull() | (F.col("day") < F.col("until")))
    return spans.where(F.col("net") != 0).join(F.broadcast(days), on=lasts, how="inner")


def _signed(side: str) -> Column:
    shares = F.col("quantity").cast("decimal(28,0)")
    return F.sum(F.when(F.col(side) == "BUY", shares).otherwise(-shares)).cast("decimal(38,0)")
