"""The tables of docs/how-to/size-a-cluster.md."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.scale import limits
from benchmarks.scale.figures import all_figures, simulated, value
from benchmarks.scale.model import HOUR, TUNED, Day, Exchange, Setup
from lakehouse_spark.catalog import BY_NAME

FACTORS = (1, 10, 100)
DAY = Day(Exchange(), TUNED)
_OFFSETS, _SHUFFLE = "LAKEHOUSE_INGEST__MAX_OFFSETS_PER_TRIGGER", "LAKEHOUSE_SPARK__SHUFFLE_PARTITIONS"


@dataclass(frozen=True)
class Prices:
    """Of anybody: put in your own."""

    core_hour: float = 0.05
    gb_month: float = 0.023
    thousand_writes: float = 0.005
    thousand_reads: float = 0.0004


def grid(head: str, rows: Iterable[Iterable[object]]) -> str:
    lines = [f"| {head} |", "|" + "---|" * len(head.split(" | "))]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def short(number: float) -> str:
    """Three digits, in thousands, millions or thousands of millions where it is as large."""
    for unit, least in (("bn", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= least:
            of_unit = 1_000 if unit == "k" else least
            return f"{_digits(number / of_unit)} {unit}"
    return _digits(number)


def _digits(number: float) -> str:
    if number == round(number) or number >= 100:
        return f"{number:,.0f}"
    return f"{number:,.1f}" if number >= 10 else f"{number:.2g}"


def size(number: float) -> str:
    for unit, of_unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= of_unit:
            return f"{_digits(number / of_unit)} {unit}"
    return f"{number:,.0f} B"


def hours(cpu: float) -> str:
    return f"{_digits(cpu / HOUR)}"


def assumed() -> str:
    of, how = DAY.exchange, DAY.setup
    rows = [
        ("trades", f"{of.trades:,}", "given"),
        ("order-book updates, each a record with 10 levels a side", f"{of.books:,}", "given"),
        ("bars", f"{of.symbols:,} symbols x {of.bars} minutes", "given"),
        ("partitions of each topic", f"{of.partitions}", "given"),
        ("session", f"{of.session_minutes} minutes, {DAY.beats} beats of {how.beat_minutes}, all alike", "given"),
        ("trader and symbol pairs with a trade", f"{of.holdings:,}", "assumed"),
        ("trades whose lot stays open", f"{of.left_open:.0%}, of {how.history_days} days of history", "assumed"),
        ("heaviest symbol", f"{of.heaviest_symbol:.0%} of the trades", "assumed"),
        ("heaviest trader in one symbol", f"{of.heaviest_holding:.1%} of the trades", "assumed"),
        ("trade ids", "grow with time" if of.ids_grow else "random", "assumed"),
        (f"`{_OFFSETS}`", f"{how.most_offsets:,}, not {Setup().most_offsets:,}", "this page"),
        (f"`{_SHUFFLE}`", f"{how.shuffle_partitions:,}, not {Setup().shuffle_partitions}", "this page"),
    ]
    return grid("what | how much | by", rows)


def figures() -> str:
    rows = ((name, _digits(f.value), f.unit, f.kind, f.source) for name, f in all_figures().items())
    return grid("one … | takes | unit | kind | where from", rows)


def found() -> str:
    said = simulated()
    two, ten = said["bytes a row, 2 levels a side"], said["bytes a row, 10 levels a side"]
    measured = {name: f"{value(name):.1f}" for name in ("bronze.raw_trades", "silver.trades", "gold.fact_trades")}
    rows = [(name, two[name], ten[name], measured.get(name, "-")) for name in two]
    return grid("bytes | books of 2 levels | books of 10 levels | measured, 200 symbols", rows)


def steps(day: Day = DAY) -> str:
    rows = [
        (
            f"`{step.table}`" if step.table in BY_NAME else step.table, short(step.rows_in), size(step.bytes_in),
            short(step.rows_out), size(step.bytes_out), short(step.files), short(step.commits), size(step.disk),
            hours(step.cpu), hours(step.last_cpu), _digits(step.last_cpu / _seconds(day)),
        )
        for step in day.steps
    ]  # fmt: skip
    total = ("all", "", "", "", "", short(sum(s.files for s in day.steps)), short(sum(s.commits for s in day.steps)),
             size(sum(s.disk for s in day.steps)), hours(day.cpu), hours(day.last_cpu), _digits(day.cores))  # fmt: skip
    head = (
        "table | rows read | bytes read | rows | bytes | files | snapshots | disk of shuffles | core hours | "
        "of the last beat | cores for it"
    )
    return grid(head, [*rows, total])


def _seconds(day: Day) -> float:
    return (day.setup.beat_minutes * 60 - value("a small beat")) * value("cores kept busy")


def beat() -> str:
    """The last beat, by how many cores there are."""
    day = Day(Exchange(), TUNED)
    batch, looked = day.step("silver.orderbook_snapshots"), day.exchange.books / day.beats
    rows = []
    for cores in (64, 128, 256, 512):
        seconds = day.last_seconds(cores)
        rows.append(
            (
                cores, f"{cores // 4} of 4 cores, 6 GB", f"{seconds / 60:.0f} min", f"{seconds / 60 / 15:.1f}",
                size(batch.last_disk / cores), size(looked * value("silver's batch, in memory") * 2 / cores),
            )
        )  # fmt: skip
    return grid("cores | executors | last beat | beats it takes | shuffle, a core | books kept twice, a core", rows)


def metadata(
    days: Sequence[tuple[str, Day]] = (("as the profile says", Day(Exchange(), Setup())), ("one commit a beat", DAY)),
) -> str:
    rows = []
    for name, day in days:
        for table in ("bronze.raw_orderbook", "bronze.raw_trades", "silver.orderbook_snapshots", "gold.fact_orderbook"):
            step = day.step(table)
            rows.append(
                (
                    f"`{table}`", name, short(step.commits), short(day.snapshots(table, step.commits)),
                    size(day.metadata(table, step.commits)), size(day.metadata_written(table, step.commits)),
                    f"{day.commit_seconds(table, step.commits):.1f} s", short(step.files),
                    size(step.bytes_out / step.files), size(step.files * value("a file in its manifest")),
                )
            )  # fmt: skip
    head = (
        "table | bronze is written | commits a day | snapshots kept | file of metadata | written of it a day | "
        "a commit at its end | files a day | of | their manifests"
    )
    return grid(head, rows)


def cursors() -> str:
    said, by = simulated(), simulated()["bytes of a bronze cursor, by partitions"]
    sizes = said["metadata, 200 partitions"]
    rows = [(f"cursor of a topic of {int(number):,} partitions", f"{by[number]:,} B") for number in by]
    rows += [(f"{name}, 200 partitions", f"{number:,} B") for name, number in sizes.items()]
    rows += [
        (f"a plan of {int(files):,} live files", f"{of['seconds']} s, peak RSS {of['peak_rss_mib']:,} MiB")
        for files, of in said["a plan, by live files"].items()
    ]
    return grid("what | takes", rows)


def upkeep() -> str:
    day = DAY
    files = sum(step.files for step in day.steps)
    target = BY_NAME["bronze.raw_trades"].policy.target_file_bytes
    bronze, all_of = _stored("bronze", day), "keys and lots of all days"
    kept = bronze + _stored("silver", day) + _stored("gold.fact", day)
    snapshots = sum(step.commits for step in day.steps)
    rows = [
        ("`compaction` of the day", f"{short(files)} files, {size(kept)}", f"{short(kept / target)} files"),
        ("`bronze_retention`", f"a day's files, {size(bronze)}", "nothing"),
        ("`snapshot_expiration`", f"{short(snapshots)} snapshots", "nothing"),
        ("`verify` of what is new, after one day", all_of, "-"),
        (f"`verify` of what is new, after {day.setup.history_days} days", all_of, "-"),
    ]
    takes = (
        f"{hours(day.compaction)} core hours", "metadata alone", "0.7 s for a hundred (W7)",
        f"{hours(day.verified(1))} core hours", f"{hours(day.verified(day.setup.history_days))} core hours",
    )  # fmt: skip
    return grid("what | takes up | leaves | takes", ((*row, took) for row, took in zip(rows, takes, strict=True)))


def _stored(layer: str, day: Day) -> float:
    return sum(step.bytes_out for step in day.steps if step.table.startswith(layer))


def cost() -> str:
    prices, day = Prices(), Day(Exchange(), TUNED)
    standing = day.cores * day.exchange.session_minutes / 60 + day.compaction / HOUR / value("cores kept busy")
    gb_day = prices.gb_month / 30
    bronze = _stored("bronze", day) / 1e9 * 90
    rest = (_stored("silver", day) + _stored("gold.fact", day)) / 1e9 * 252
    writes = sum(step.files + step.commits * 4 for step in day.steps)
    reads = 3 * sum(step.files for step in day.steps) * day.read_again
    lines = [
        (f"{day.cores:.0f} cores through the session, then compaction", f"{short(standing)} core hours",
         f"{prices.core_hour} an hour", standing * prices.core_hour),
        ("bronze, 90 days of it", f"{short(bronze)} GB", f"{prices.gb_month} a month", bronze * gb_day),
        ("silver and facts, 252 days of them", f"{short(rest)} GB", f"{prices.gb_month} a month", rest * gb_day),
        ("files written", short(writes), f"{prices.thousand_writes} a thousand", writes / 1e3 * prices.thousand_writes),
        ("files read, by three requests each", short(reads), f"{prices.thousand_reads} a thousand",
         reads / 1e3 * prices.thousand_reads),
    ]  # fmt: skip
    total = ("all", "", "", sum(line[-1] for line in lines))
    return grid("what | how much | price | cost a day", ((*line[:-1], f"{line[-1]:,.1f}") for line in [*lines, total]))


def beats() -> str:
    """The same day on other beats."""
    rows = []
    for minutes in (5, 15, 30, 65, 390):
        day = Day(Exchange(), replace(TUNED, beat_minutes=minutes))
        disk = sum(step.disk for step in day.steps)
        rows.append((minutes, day.beats, short(day.cpu / HOUR), short(day.cores), size(disk)))
    head = "minutes a beat | beats | core hours | cores for the last beat | shuffles"
    return grid(head, rows)


def volumes() -> str:
    rows = []
    for factor in FACTORS:
        day = Day(
            Exchange().times(factor),
            replace(
                TUNED, most_offsets=TUNED.most_offsets * factor, shuffle_partitions=TUNED.shuffle_partitions * factor
            ),
        )
        profile = Day(Exchange().times(factor), Setup())
        kept = sum(step.bytes_out for step in day.steps if step.table.startswith(("bronze", "silver", "gold.fact")))
        disk = day.step("silver.orderbook_snapshots").last_disk
        rows.append(
            (
                f"{factor}x", short(day.exchange.trades), short(day.exchange.books), f"{day.exchange.partitions:,}",
                size(kept), short(profile.step("bronze.raw_orderbook").commits),
                short(day.step("bronze.raw_orderbook").commits), short(day.cpu / HOUR), short(day.cores), size(disk),
            )
        )  # fmt: skip
    head = (
        "day | trades | books | partitions | stored | commits to raw_orderbook: profile | one a beat | core hours | "
        "cores for the last beat | its largest shuffle"
    )
    return grid(head, rows)


def breaks() -> str:
    rows = []
    for number, limit in enumerate(limits.by_volume(Exchange(), Setup()), 1):
        tuned = next(each for each in limits.by_volume(Exchange(), TUNED) if each.what == limit.what)
        taken = f"{_digits(limit.takes(1))} {limit.unit} of {_digits(limit.most)}"
        rows.append((number, limit.what, taken, _times(limit.at), _times(tuned.at), limit.moves))
    return grid("no. | what | at 1x | breaks at: profile | with both settings | what moves it", rows)


def limits_of(exchange: Exchange, setup: Setup) -> str:
    """Of one exchange and one way to run, what comes first."""
    rows = (
        (each.what, f"{_digits(each.takes(1))} {each.unit} of {_digits(each.most)}", _times(each.at), each.moves)
        for each in limits.by_volume(exchange, setup)
    )
    return grid("what | takes | breaks at | what moves it", rows)


def _times(at: float | None) -> str:
    return "not up to 10,000x" if at is None else f"{_digits(at)}x"


def history() -> str:
    found = {factor: limits.by_history(Exchange().times(factor), Setup()) for factor in FACTORS}
    rows = [
        (one.what, f"{_digits(one.a_day)} CPU s", *(f"{_digits(found[f][at].days)} days" for f in FACTORS), one.moves)
        for at, one in enumerate(found[1])
    ]
    return grid("what | more for each day, 1x | 1x | 10x | 100x | what moves it", rows)


def restated() -> str:
    rows = []
    for what, times, bars in (
        ("a bar a minute, stated once", 1, 3_900_000),
        ("a bar a minute, stated anew each second", 60, 3_900_000),
        ("a bar a day, stated anew each second", 23_400, 10_000),
    ):
        row, compared = limits.restated(times, bars)
        rows.append((what, size(row), size(row * bars), short(compared)))
    return grid("feed | `_accepted_hashes` of a row | of a day | hashes compared a day", rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "scale_assumed": assumed,
    "scale_figures": figures,
    "scale_found": found,
    "scale_steps": steps,
    "scale_beat": beat,
    "scale_beats": beats,
    "scale_metadata": metadata,
    "scale_cursors": cursors,
    "scale_upkeep": upkeep,
    "scale_cost": cost,
    "scale_volumes": volumes,
    "scale_breaks": breaks,
    "scale_history": history,
    "scale_restated": restated,
}
