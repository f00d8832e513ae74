"""`lakehouse report`: the lakehouse on one HTML page that stands for itself."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.report import page, reading
from lakehouse_spark.report.model import Report, Traced
from lakehouse_spark.settings import Settings

Trace = Callable[[str, Mapping[str, str]], Traced]
"""Traces the row of a table that has these values."""


def write(
    spark: SparkSession,
    settings: Settings,
    file: Path | None = None,
    *,
    symbol: str | None = None,
    trader: str | None = None,
    day: date | None = None,
    trace: Trace | None = None,
) -> tuple[Path, tuple[str, ...]]:
    """Writes the page, whole or not at all, to `file` or into the lakehouse's home; with it, what is missing in it.

    With `trace`, the numbers of the symbol, the trader and the first position lead to where they come from.
    """
    target = (file.expanduser() if file else settings.root / "report.html").resolve()
    report = reading.read(spark, settings, symbol=symbol, trader=trader, day=day)
    if trace is not None:
        report = _traced(report, trace)
    begun = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        begun.write_text(page.render(report), encoding="utf-8")
        begun.replace(target)
    except OSError as error:
        with suppress(OSError):
            begun.unlink()
        raise UsageError(
            f"report: {target} cannot be written: {error.strerror}; name another file with --out"
        ) from None
    return target, report.missing


def _traced(report: Report, trace: Trace) -> Report:
    traces, missing = {}, [*report.missing]
    for name, subject in report.subjects.items():
        try:
            traces[name] = trace(*subject)
        except LakehouseError as error:  # as where a beat has taken the row away meanwhile
            missing.append(f"not traced: {in_a_sentence(error)}")
    return replace(report, traces=traces, missing=tuple(missing))
