"""`dim.dim_exchange`: the exchanges trades may name (SCD1), seeded from a reference file."""

import csv
from pathlib import Path

from lakehouse_spark.errors import UsageError
from lakehouse_spark.table import DIM_RETENTION, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT

TABLE = Table(
    name="dim.dim_exchange",
    doc="Exchanges (SCD1), one row per exchange code.",
    columns=(
        column("exchange_key", LONG, "Surrogate key"),
        column("exchange_code", TEXT, "Natural key (e.g., NYSE, NASDAQ)"),
        column("exchange_name", TEXT, "Full name"),
        column("timezone", TEXT, "IANA timezone (e.g., America/New_York)"),
        column("country", TEXT, "Country code (US, UK, JP)"),
        column("currency", TEXT, "Primary trading currency (ISO 4217)"),
        column("market_open_time", TEXT, "Regular market open, local time (HH:MM)"),
        column("market_close_time", TEXT, "Regular market close, local time (HH:MM)"),
        column("mic", TEXT, "ISO 10383 market identifier code, which names the exchange's trading calendar"),
        column("_updated_at", INSTANT, "Commit stamp: when the row was written"),
    ),
    key=("exchange_code",),
    stamp="_updated_at",
    retention=DIM_RETENTION,
    sources=("bronze.raw_reference",),
)

_FILE_COLUMNS = [name for name in TABLE.column_names if name not in ("exchange_key", "_updated_at")]


def read(path: Path) -> list[tuple[int | str | None, ...]]:
    """The rows of a reference CSV in the table's column order without the stamp; empty fields are NULL.

    `exchange_key` is the line's position from 1, so new exchanges go at the end of the file. Raises UsageError for a
    file that is missing, lacks a column, or has an empty or repeated code.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = set(_FILE_COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise UsageError(f"{path}: expected the columns {', '.join(_FILE_COLUMNS)}; missing {sorted(missing)}")
            lines = list(reader)
    except OSError as error:
        raise UsageError(f"{path}: cannot read the exchange reference file: {error.strerror}") from error
    rows: list[tuple[int | str | None, ...]] = []
    codes: set[str] = set()
    for key, line in enumerate(lines, start=1):
        values = [(line[name] or "").strip() or None for name in _FILE_COLUMNS]
        code = values[0]
        if code is None or code in codes:
            raise UsageError(f"{path}: exchange {key}: expected a new exchange_code, found {code!r}")
        codes.add(code)
        rows.append((key, *values))
    return rows
