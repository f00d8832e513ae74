"""Which record of a key counts: every repeat is a duplicate, an update or a conflict, and none is lost.

Records of a key are judged in arrival order against the row already held, so that the outcome depends neither on how
the records were cut into batches nor on how often they are read again. Where a topic is read again from the start and
the batch holds the very record that made the row, that record is judged in place of the row, before all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"

ROW = "_row"
"""Column of the results: 'insert' or 'update' on the one record per key that has to be written."""

NEW = "_new"
"""Column of the results: whether the record is the first accepted one of a key that no other record had before."""

STANDS = "_stands"
"""Column of the results: the values of the held row where they stay although a record of its key was accepted."""

CONFLICT = "conflicting_duplicate"


@dataclass(frozen=True)
class _Judgement:
    """How records are judged beside the rows held: of these the columns `known`, joined to the records, to which each
    of the `stages` adds columns."""

    known: tuple[Column, ...]
    stages: tuple[dict[str, Column], ...]

    def of(self, records: DataFrame, held: DataFrame, key: str, added: Sequence[str]) -> DataFrame:
        judged = records.join(held.select(*self.known), on=key, how="left")
        for columns in self.stages:
            judged = judged.withColumns(columns)
        return judged.select(*records.columns, *added)


def classify(
    records: DataFrame,
    held: DataFrame,
    *,
    key: str,
    content: Sequence[str],
    arrival: Sequence[str],
    status: str | None = None,
    steps: Sequence[str] = (),
    untimed: str | None = None,
    from_start: bool = False,
) -> DataFrame:
    """The records with `_outcome`, `_row`, `_new` and `_stands`, for tables in which the first content of a key stands.

    `records` are good ones with distinct `arrival`; `held` the table's rows of those keys: `key`, `content`, `arrival`
    of the record that made the row, `status`. The status may only move forward through `steps`; the written record
    carries the last one. Other content for a held key is `rejected`; but the column `untimed` of it is not compared
    where the record or the row has come to the last step, so that a cancellation may have a time of its own. With
    `from_start` the records are all there ever were, so that held rows may stem from them.
    """
    shared = tuple(name for name in held.columns if name in records.columns)
    judgement = _classifying(
        shared, key, tuple(content), tuple(arrival), status, tuple(steps), untimed, from_start=from_start
    )
    return judgement.of(records, held, key, ("_outcome", ROW, NEW, STANDS))


@cache
def _classifying(
    shared: tuple[str, ...],
    key: str,
    content: tuple[str, ...],
    arrival: tuple[str, ...],
    status: str | None,
    steps: tuple[str, ...],
    untimed: str | None,
    *,
    from_start: bool,
) -> _Judgement:
    """See `classify`; records and rows held have the columns `shared` in common."""
    place = [name for name in arrival if name in shared]
    compared = [name for name in content if name != untimed]
    time = F.col(untimed) if untimed else F.lit(0)
    stays = [name for name in shared if name not in (key, status)]
    known = (
        F.col(key),
        F.struct(*compared).alias("_held_content"),
        time.alias("_held_time"),
        (_rank(F.col(status), steps) if status else F.lit(0)).alias("_held_rank"),
        F.struct(*place).alias("_held_place"),
        F.struct(*stays).alias("_held"),
    )
    of_key = Window.partitionBy(key)
    in_order = of_key.orderBy(F.desc("_is_own"), *arrival)
    before = in_order.rowsBetween(Window.unboundedPreceding, -1)
    own = F.lit(from_start) & (F.struct(*place) == F.col("_held_place"))
    # A topic made anew gives places a second time.
    own &= F.struct(*compared).eqNullSafe(F.col("_held_content")) & time.eqNullSafe(F.col("_held_time"))

    told = {
        "_content": F.struct(*compared),
        "_time": time,
        "_rank": _rank(F.col(status), steps) if status else F.lit(0),
        "_is_own": F.coalesce(own, F.lit(False)),
    }
    is_held = F.col("_held_place").isNotNull()
    judged_by_held = is_held & ~F.col("_own")

    def standing(name: str) -> Column:
        return F.when(judged_by_held, F.col(f"_held{name}")).otherwise(F.first(name).over(in_order))

    def is_last(rank: Column) -> Column:
        return F.lit(untimed is not None) & (rank == len(steps) - 1)

    # Alike but for the time: what has the row's time counts, and what is at the last step, where no time is compared.
    # Once one of these has moved the row there, all of them are the same.
    alike = {
        "_alike": F.col("_content").eqNullSafe(standing("_content")),
        "_timed": F.col("_time").eqNullSafe(standing("_time")),
    }
    counts = F.col("_alike") & (F.col("_timed") | is_last(F.col("_rank")))
    rank_before = F.greatest(
        F.when(judged_by_held, F.col("_held_rank")), F.max(F.when(counts, F.col("_rank"))).over(before)
    )
    is_same = counts | (F.col("_alike") & F.coalesce(is_last(F.col("_rank_before")), F.lit(False)))
    outcome = (
        F.when(~is_same, REJECTED)
        .when(F.col("_rank_before").isNull() | (F.col("_rank") > F.col("_rank_before")), ACCEPTED)
        .otherwise(DUPLICATE)
    )
    accepted = F.col("_outcome") == ACCEPTED
    last_rank = F.max(F.when(accepted, F.col("_rank"))).over(of_key)
    first = accepted & (F.count_if(accepted).over(in_order) == 1)
    row = F.when(first & ~is_held, "insert").when(first & (last_rank > F.col("_held_rank")), "update")
    written = {ROW: row, NEW: first & ~judged_by_held, "_last_rank": last_rank}
    final: dict[str, Column] = {}
    if status:
        reached = F.get(F.array(*(F.lit(step) for step in steps)), F.col("_last_rank"))
        final[status] = F.when(F.col(ROW).isNotNull(), reached).otherwise(F.col(status))
    stands = {STANDS: F.when(F.col(ROW) == "update", F.col("_held"))}
    return _Judgement(
        known,
        (
            told, {"_own": F.max("_is_own").over(of_key)}, alike, {"_rank_before": rank_before}, {"_outcome": outcome},
            written, {**final, **stands},
        ),
    )  # fmt: skip


def restate(
    records: DataFrame,
    held: DataFrame,
    *,
    key: str,
    content: Sequence[str],
    arrival: Sequence[str],
    from_start: bool = False,
) -> DataFrame:
    """The records with `_outcome`, `_row` and `_accepted_hashes`, for tables in which the latest content wins.

    `held` also carries `_accepted_hashes`, the hashes of all contents its key was ever accepted with: a record equal
    to any of them is a duplicate, so that reading a topic a second time ends in the same rows. Where the records to
    write are older than the row held, `_stands` holds that row's values: only its hashes change.
    """
    judgement = _restating(key, tuple(content), tuple(arrival), from_start=from_start)
    return judgement.of(records, held, key, ("_outcome", ROW, NEW, "_accepted_hashes", STANDS))


@cache
def _restating(key: str, content: tuple[str, ...], arrival: tuple[str, ...], *, from_start: bool) -> _Judgement:
    """See `restate`."""
    known = (
        F.col(key),
        F.col("_accepted_hashes").alias("_held_hashes"),
        F.struct(*arrival).alias("_held_place"),
        F.struct(*content, *arrival).alias("_held"),
    )
    of_key = Window.partitionBy(key)
    in_order = of_key.orderBy(*arrival)
    own = F.lit(from_start) & (F.struct(*arrival) == F.col("_held_place"))
    told = {
        "_hash": F.xxhash64(*content, *(F.isnull(name) for name in content)),
        "_own": F.max(F.coalesce(own, F.lit(False))).over(of_key),
    }
    earlier = F.when(~F.col("_own"), F.col("_held_hashes"))
    repeat = F.row_number().over(Window.partitionBy(key, "_hash").orderBy(*arrival)) > 1
    seen = F.coalesce(F.array_contains(earlier, F.col("_hash")), F.lit(False))
    outcome = {"_outcome": F.when(repeat | seen, DUPLICATE).otherwise(ACCEPTED)}
    accepted = F.col("_outcome") == ACCEPTED
    newest = accepted & (F.count_if(accepted).over(of_key) == F.count_if(accepted).over(in_order))
    known_hashes = F.coalesce(F.col("_held_hashes"), F.array().cast("array<bigint>"))
    hashes = F.array_sort(F.array_union(known_hashes, F.collect_set(F.when(accepted, F.col("_hash"))).over(of_key)))
    is_older = F.struct(*arrival) <= F.col("_held_place")
    is_no_news = is_older & (F.size(hashes) == F.size("_held_hashes"))
    row = F.when(newest & F.col("_held_place").isNull(), "insert").when(newest & ~is_no_news, "update")
    new = accepted & (F.count_if(accepted).over(in_order) == 1) & earlier.isNull()
    stands = F.when(newest & is_older, F.col("_held"))
    written = {ROW: row, NEW: new, "_accepted_hashes": hashes, STANDS: stands}
    return _Judgement(known, (told, outcome, written))


def to_write(decided: DataFrame) -> DataFrame:
    """The rows that have to be written, of what `classify` or `restate` decided; grain: one row per key."""
    rows = decided.where(F.col(ROW).isNotNull())
    held = F.col(STANDS)
    names = decided.select(f"{STANDS}.*").columns
    return rows.withColumns({name: F.when(held.isNotNull(), held[name]).otherwise(F.col(name)) for name in names})


def _rank(status: Column, steps: Sequence[str]) -> Column:
    return F.array_position(F.array(*(F.lit(step) for step in steps)), status).cast("int") - 1
