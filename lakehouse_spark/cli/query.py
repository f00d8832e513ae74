"""`lakehouse query`: a question in SQL, answered by DuckDB where that says exactly what Spark would, else by Spark."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse_spark.cli.output import Json, err, out, print_json, show_rows
from lakehouse_spark.errors import UsageError, in_a_sentence
from lakehouse_spark.lake import cursor
from lakehouse_spark.settings import Settings, load

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Rows = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""The names of the columns, of which two may be alike, and the rows."""


class Engine(StrEnum):
    AUTO = "auto"
    DUCKDB = "duckdb"
    SPARK = "spark"


def instant(text: str) -> datetime:
    try:
        return cursor.instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def run(
    sql: Annotated[str, typer.Argument(help='Spark SQL, e.g. "SELECT * FROM silver.trades LIMIT 5".')],
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most.")] = 100,
    engine: Annotated[
        Engine, typer.Option(help="Who answers; auto: DuckDB where it says exactly what Spark would, else Spark.")
    ] = Engine.AUTO,
    known_at: Annotated[
        datetime | None,
        typer.Option("--known-at", parser=instant, metavar="INSTANT", help="Read all tables as they were then."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask the tables a question in SQL, of small ones answered without Spark; nothing is written."""
    columns, rows = _answer(sql, limit + 1, engine, known_at)
    if as_json:
        print_json([_by_name(columns, row) for row in rows[:limit]])
        return
    show_rows(columns, rows[:limit])
    if len(rows) > limit:
        out.print(f"the first {limit:,} rows; --limit for more")


def _answer(sql: str, limit: int, engine: Engine, known_at: datetime | None) -> Rows:
    """The first rows, and on stderr who answered."""
    settings, why = load(), ""
    if engine != Engine.SPARK:
        try:
            from lakehouse_spark.query import embedded

            found = embedded.answer(settings, sql, limit, known_at)
        except Exception as error:  # whatever it is, Spark can do it, or has words of its own for it
            if known_at is not None and isinstance(error, UsageError):
                raise
            why = in_a_sentence(error)
            if engine == Engine.DUCKDB:
                raise UsageError(f"DuckDB does not answer this: {why}", "Spark does: --engine spark") from error
        else:
            err.print("answered by DuckDB", highlight=False)
            return found
    err.print(f"answered by Spark: {why}" if why else "answered by Spark", markup=False, highlight=False)
    if known_at is None:
        return _of_spark(sql, limit)
    with TemporaryDirectory() as folder:
        return _of_spark(sql, limit, _as_known(settings, Path(folder), sql, known_at))


def _as_known(settings: Settings, folder: Path, sql: str, moment: datetime) -> Settings:
    """The lakehouse as it was known at a moment; raises UsageError where the statement names a table that is not."""
    from lakehouse_spark.iceberg import copies
    from lakehouse_spark.query import of_spark

    staged, unknown = copies.as_known(settings, folder, moment)
    views = any(name in sql.lower() for name in of_spark.BITEMPORAL)
    for name, error in unknown.items():
        if name in sql.lower() or (views and name in of_spark.OF_BITEMPORAL):
            raise error
    return staged


def _of_spark(sql: str, limit: int, settings: Settings | None = None) -> Rows:
    from pyspark.errors import PySparkException

    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.query import of_spark

    with opened("query", settings) as (spark, _):
        spark.catalog.setCurrentCatalog("lake")
        try:
            found = of_spark.read(spark, sql)
            return found.columns, with_instants_as_text(found.limit(limit)).collect()
        except PySparkException as error:
            raise UsageError(in_a_sentence(error).split(";", maxsplit=1)[0]) from None


def with_instants_as_text(rows: "DataFrame") -> "DataFrame":
    """Instants as ISO-8601 in UTC: those of the year 1 have no room in Python's."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import TimestampType

    numbers = [str(number) for number in range(len(rows.columns))]  # a query may name two columns alike
    texts = [
        F.regexp_replace(F.date_format(F.col(number), "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"), r"\.000000$", "")
        if isinstance(field.dataType, TimestampType)
        else F.col(number)
        for number, field in zip(numbers, rows.schema, strict=True)
    ]
    return rows.toDF(*numbers).select(*texts).toDF(*rows.columns)


def _by_name(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """A row as JSON has it: of two columns that are alike, the last."""
    from pyspark.sql import Row

    return (row if isinstance(row, Row) else Row(*columns)(*row)).asDict(recursive=True)
