"""`lakehouse verify`: the invariants of the lakehouse, each checked against the data itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import DIMENSIONS, FACTS, FEEDS, TABLES, TOPICS
from lakehouse_spark.dim import dim_account, dim_time
from lakehouse_spark.errors import UsageError
from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_trades,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
)
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import trader_activity
from lakehouse_spark.table import Table
from lakehouse_spark.verify import ingestion, model, proof, storage
from lakehouse_spark.verify.finding import FULL, NEW, NOTHING_NEW, Finding
from lakehouse_spark.verify.look import Look, Moment
from lakehouse_spark.verify.proof import Proof, Proofs

__all__ = ["CHECKS", "FULL", "NEW", "NOTHING_NEW", "Finding", "findings", "go_on", "run"]

Check = Callable[[Sequence[Look]], Iterator[Finding]]

_BRONZE = tuple(topic.table for topic in TOPICS.values())
_OF_FEEDS = tuple(table for feed in FEEDS.values() for table in (feed.table, feed.topic.table))
_DIMENSIONS = tuple(dimension.table for dimension in DIMENSIONS.values())
_VERSIONED = tuple(dimension.table for dimension in DIMENSIONS.values() if dimension.is_versioned)
_FACTS = tuple(fact.table for fact in FACTS.values())
_OF_TRADES = (fact_trades.TABLE, daily_trading_summary.TABLE, market_overview.TABLE, trade_analytics.TABLE)


class Invariant(NamedTuple):
    """A check, with the tables that it is about; without any it is about every table.

    One that looks `elsewhere`, or at nothing that takes long, is checked though the tables are as they were.
    """

    check: Check
    about: tuple[Table, ...] = ()
    elsewhere: bool = False

    @property
    def name(self) -> str:
        return self.check.__name__


CHECKS = (
    Invariant(ingestion.offsets_are_there_once, _BRONZE),
    Invariant(ingestion.offsets_are_complete, _BRONZE, elsewhere=True),
    Invariant(ingestion.rows_are_accounted_for, _OF_FEEDS),
    Invariant(ingestion.activity_follows_from_trades, (trader_activity.TABLE,)),
    Invariant(storage.keys_are_unique),
    Invariant(model.days_have_1440_minutes, (dim_time.TABLE,)),
    Invariant(model.dimensions_follow_from_their_log, _DIMENSIONS),
    Invariant(model.versions_are_disjoint, _VERSIONED),
    Invariant(model.previous_values_have_a_date, (dim_account.TABLE,)),
    Invariant(model.facts_follow_silver, _FACTS),
    Invariant(model.foreign_keys_resolve, _FACTS),
    Invariant(model.trades_settle_as_their_exchange_says, (fact_trades.TABLE,)),
    Invariant(model.values_add_up, _OF_TRADES),
    Invariant(model.lots_add_up, (open_lots.TABLE, portfolio_positions.TABLE)),
    Invariant(storage.texts_are_utf8),
    Invariant(storage.declarations_hold, elsewhere=True),
    Invariant(storage.files_exist),
)

_AT_ONCE = 4
"""Most checks are small queries, that wait for their planning and for Kafka more than for a core."""


def _ignore(finding: Finding) -> None:
    pass


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[Table] = (),
    *,
    report: Callable[[Finding], None] = _ignore,
) -> list[Finding]:
    """Checks every invariant of these tables in full, by default of all, some at a time; writes nothing.

    Raises UsageError if it was never migrated.
    """
    return _all_found(_moment(spark, settings), tables or TABLES, {}, True, report, {})


class Verified(NamedTuple):
    """What a look at what is new found; `complaint` says why its proofs could not be kept, if they could not."""

    findings: Sequence[Finding]
    complaint: str | None


def go_on(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[Table] = (),
    *,
    in_full: bool = False,
    report: Callable[[Finding], None] = _ignore,
) -> Verified:
    """Checks what is new in these tables since each invariant was proved, or all that there is, and keeps in the
    lakehouse how far they are proved now.

    Raises UsageError if it was never migrated.
    """
    moment, proved = _moment(spark, settings), dict[tuple[str, str], Proof | None]()
    began = proof.properties(spark)
    try:
        findings = _all_found(moment, tables or TABLES, proof.told(began), in_full, report, proved)
    finally:  # what is broken is so whatever becomes of the other checks
        complaint = proof.keep(spark, proved, began)
    return Verified(findings, complaint and settings.without_secrets(complaint))


def findings(spark: SparkSession, settings: Settings, *checks: Check, tables: Sequence[Table] = ()) -> list[Finding]:
    """What some of the checks find in full, of these tables, by default of all that are there."""
    moment = Moment.now(spark, settings, TABLES)
    chosen = [table for table in tables or TABLES if table.name in moment.pins]
    by_check = {each.check: each for each in CHECKS}
    return [each for check in checks for each in _found(by_check[check], moment, chosen, {}, True)[0]]


def _moment(spark: SparkSession, settings: Settings) -> Moment:
    moment = Moment.now(spark, settings, TABLES)
    missing = [table.name for table in TABLES if table.name not in moment.pins]
    if missing:
        raise UsageError(f"tables are missing: {', '.join(missing)}; run: lakehouse migrate")
    return moment


Proved = Mapping[tuple[str, str], Proof | None]


def _all_found(
    moment: Moment,
    tables: Sequence[Table],
    proofs: Proofs,
    in_full: bool,
    report: Callable[[Finding], None],
    proved: dict[tuple[str, str], Proof | None],
) -> list[Finding]:
    """What all checks find of these tables; `proved` gets what is proved by it, as each is done. None: not any more."""

    def found_by(invariant: Invariant) -> list[Finding]:
        found, more = _found(invariant, moment, tables, proofs, in_full)
        proved.update(more)
        return found

    findings: list[Finding] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(found_by, CHECKS):
            for finding in found:
                report(finding)
                findings.append(finding)
    return findings


def _found(
    invariant: Invariant, moment: Moment, tables: Sequence[Table], proofs: Proofs, in_full: bool
) -> tuple[list[Finding], Proved]:
    """What a check finds, with what was proved before and is as it was; and its proofs."""
    chosen = [table for table in tables if not invariant.about or table in invariant.about]
    before = {table: proofs.get((invariant.name, table.name)) for table in chosen}
    looks, found = [], []
    for table, known in before.items():
        if known is None or in_full or invariant.elsewhere or not moment.is_still(known.read):
            looks.append(Look(moment, table, None if in_full else known))
        else:
            found += [_as_proved(invariant, table, check, known) for check in known.checks]
    by_table: dict[str, list[Finding]] = {}
    for finding in invariant.check(looks) if looks else ():
        by_table.setdefault(finding.table, []).append(replace(finding, invariant=invariant.name))
    proved: dict[tuple[str, str], Proof | None] = {}
    for look in looks:
        own, known = by_table.get(look.table.name, []), before[look.table]
        now = _proof(look, own, known, in_full)
        if look.read and (now is not known or any(finding.violations for finding in own)):
            proved[invariant.name, look.table.name] = now
        checked, full_at = NEW if look.is_of_new else FULL, now.in_full if now else None
        found += [replace(each, checked=checked, proved_in_full=full_at) for each in own]
    return found, proved


def _as_proved(invariant: Invariant, table: Table, check: str, known: Proof) -> Finding:
    detail = f"as proved at {known.at:%Y-%m-%d %H:%M} UTC"
    return Finding(check, table.name, 0, detail, invariant.name, checked=NOTHING_NEW, proved_in_full=known.in_full)


def _proof(look: Look, found: Sequence[Finding], known: Proof | None, in_full: bool) -> Proof | None:
    """How far an invariant of a table is proved now: all of what was read, or what is new of it since a proof, which is
    then as old in full as that one. What waits, or could not be checked, leaves that as it was."""
    if any(finding.violations for finding in found):
        return None
    if not found or not all(finding.holds and not finding.waits for finding in found):
        return known
    if known is not None and known.read == look.read and not in_full:
        return known
    full_at = known.in_full if known is not None and look.is_of_new else look.moment.at
    return Proof(look.moment.at, full_at, tuple(finding.check for finding in found), dict(look.read))
