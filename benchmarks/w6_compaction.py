"""W6, compaction: the small files of a stream into large ones, and finding that there is nothing to do for the rest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import functions as F

from benchmarks import contents, lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter, compared, within
from benchmarks.w6_inputs import BY_SYMBOL, DIGEST, OF_A_FILE, RAW, inputs, later
from lakehouse_spark.jobs import maintenance
from lakehouse_spark.maintenance import survey
from lakehouse_spark.maintenance.plan import Compaction
from lakehouse_spark.table import CATALOG


class OnBronze(lake.OnKept):
    """Each turn begins with the small files."""

    def result(self) -> Result:
        table = contents.catalog(self.home).load_table(RAW.name)
        found = contents.of_iceberg(table, {"rows": DIGEST}, self.job.inputs["snapshot"])
        return replace(found, digests={**found.digests, "files": str(len(contents.files(table)))})


class Ours(OnBronze):
    name = "lakehouse"
    note = "the job compaction: planned, sorted, staged, checked row by row, logged"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def work(self) -> dict[str, Any]:
        [done] = maintenance.run(self.spark, self.settings, jobs=(Compaction.job,), tables=(RAW.name,), now=later())
        return {"seconds": done.seconds}


class Default(OnBronze):
    name = "rewrite_data_files"
    note = "Iceberg's procedure with nothing else said: not sorted, not checked"

    def work(self) -> None:
        self.spark.sql(f"CALL {CATALOG}.system.rewrite_data_files(table => '{RAW.name}')").collect()


class ToParquet(lake.InSpark):
    name = "limit: read, Parquet"
    note = "the files of the newest day into one, no table"
    is_limit = True

    def work(self) -> None:
        rows = self.spark.read.parquet(*self.job.inputs["newest"]).coalesce(1)
        rows.write.mode("overwrite").option("compression", "zstd").parquet(str(self.job.scratch / "rows"))

    def result(self) -> Result:
        return contents.of_parquet((self.job.scratch / "rows").glob("*.parquet"), {"rows of the newest day": DIGEST})


class ReadBefore(OnBronze):
    name = "a read before"
    note = "quantity by symbol of the newest day, from the small files"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def work(self) -> None:
        rows = self.spark.table(RAW.identifier).where(F.to_date("timestamp") == self.job.inputs["day"])
        self.found = rows.groupBy("symbol").agg(F.sum("quantity").alias("total")).toArrow()

    def result(self) -> Result:
        con = duckdb.connect()
        con.register("found", self.found)
        return Result({"by symbol": contents.digest_in(con, "found", BY_SYMBOL)}, 0, 0, 0)


class ReadAfter(ReadBefore):
    name = "a read after"
    note = "the same after the job compaction"
    is_compacted = False

    def prepare(self) -> None:
        if not self.is_compacted:
            super().prepare()
            maintenance.run(self.spark, self.settings, jobs=(Compaction.job,), tables=(RAW.name,), now=later())
            self.is_compacted = True


class Plan(Contender):
    name = "lakehouse plan"
    note = "survey.take, no Spark: as many files as the case says, in the metadata alone"

    def open(self) -> None:
        self.settings = lake.here(Path(self.job.inputs["home"]))

    def work(self) -> None:
        [self.plan] = survey.take(self.settings, [RAW], later()).plans

    def result(self) -> Result:
        [due] = self.plan.of([Compaction.job]).actions
        return Result({"files": str(due.before["files"])}, 0, 0, 0)


COMPACTING = (Ours, Default, ToParquet)
CONTENDERS: tuple[type[Contender], ...] = (*COMPACTING, ReadBefore, ReadAfter, Plan)
_FILES = {"20 files": 20, "100 files": 100, "1 k files": 1_000, "5 k files": 5_000}
_CHANGED, _PLANNED = "1 of 100 days changed", "a plan of 100 k files"


def cases(size: str, runs: int) -> Sequence[Case]:
    def due(name: str) -> Case:
        files = _FILES[name]
        params = {"records": files * OF_A_FILE, "days": 1, "files": files}
        return Case(name, params, CONTENDERS[:-1], runs, timeout=1200, children=1)

    def changed(name: str, days: int, fresh: int) -> Case:
        params = {"records": fresh * OF_A_FILE, "days": days, "files": 10, "fresh": fresh}
        return Case(name, params, COMPACTING, runs, timeout=1200, children=1)

    def planned(name: str, files: int) -> Case:
        return Case(name, {"records": 0, "days": 1, "files": 1, "named": files}, (Plan,), runs, children=1)

    if size == "tiny":
        return [due("20 files"), changed("1 of 10 days changed", 10, 10), planned("a plan of 1 k files", 1_000)]
    names = ("100 files", "1 k files") if size == "small" else ("100 files", "1 k files", "5 k files")
    return [*map(due, names), changed(_CHANGED, 100, 100), planned(_PLANNED, 100_000)]


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals; what else there is to compare is shown and not judged."""
    large = next((name for name in reversed(_FILES) if results.of(name, Ours.name)), "5 k files")
    due = "all that is due in"
    return [
        _ratio(results, _CHANGED, Default, Ours, f"at least 5x as fast as {Default.name}: {_CHANGED}", least=5),
        within(f"{_PLANNED}: at most 5 s", results.median(_PLANNED, Plan.name), 5),
        _ratio(results, large, Ours, ToParquet, f"{due} {large}, beside reading and writing the same bytes"),
        _ratio(results, large, Default, Ours, f"{due} {large}: {Default.name} beside the lakehouse"),
        _ratio(results, large, ReadBefore, ReadAfter, f"{large}: a read of the day before, beside one after"),
    ]


def _ratio(
    results: Results, case: str, one: type[Contender], other: type[Contender], goal: str, least: float | None = None
) -> Verdict:
    above, below = (results.median(case, contender.name) for contender in (one, other))
    return compared(goal, above, below, None if least is None else lambda times: times >= least)


WORKLOAD = Workload(
    name="W6",
    title="compaction",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "small files", by_parameter("files", "cpu", tuple(_FILES))),
        Curve("wall seconds, warm", "small files", by_parameter("files", "wall", tuple(_FILES))),
    ),
)
