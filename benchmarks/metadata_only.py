"""Tables with many files and many snapshots, in minutes: metadata as commits leave it, without the commits.

What it names need not be there: planning and expiry never open data.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table as IcebergTable
from pyiceberg.typedef import Record
from pyiceberg.types import TimestamptzType

from benchmarks import contents, lake
from lakehouse_spark.lake.cursor import CURSOR
from lakehouse_spark.table import Table

DAYS = 100
"""Over so many partitions files are spread, up to the day of the file that they are made after."""

_AT_ONCE = 10_000
"""Files of a manifest, which has 4 MB then: between the many small ones of commits and the 8 MiB Iceberg aims at."""
_SECONDS = 10
"""Between two commits of a stream."""
_MICROS = 86_400_000_000


def add_files(iceberg: IcebergTable, table: Table, number: int, *, at_once: int = _AT_ONCE) -> None:
    """Commits so many files like the table's first one, each with its metrics; the table is one by days."""
    [like, *_] = (task.file for task in iceberg.scan().plan_files())
    cursor = str(_summary(iceberg)[CURSOR])
    files = _files(like, _stamp_id(iceberg, table), f"{iceberg.location()}/data", number)
    for left in range(number, 0, -at_once):
        with (
            iceberg.transaction() as transaction,
            transaction.update_snapshot({CURSOR: cursor}).fast_append() as append,
        ):
            for file in islice(files, min(left, at_once)):
                append.append_data_file(file)


def _stamp_id(iceberg: IcebergTable, table: Table) -> int:
    return iceberg.schema().find_field(str(table.stamp)).field_id


def _summary(iceberg: IcebergTable) -> Mapping[str, Any]:
    snapshot = iceberg.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return snapshot.summary.additional_properties


def _files(like: DataFile, stamp: int, folder: str, number: int) -> Iterator[DataFile]:
    same = (
        "content", "file_format", "record_count", "file_size_in_bytes", "column_sizes", "value_counts",
        "null_value_counts", "nan_value_counts", "split_offsets",
    )  # fmt: skip
    made = {name: getattr(like, name) for name in same}
    for each in range(number):
        day = like.partition[0] - each % DAYS
        at = to_bytes(TimestamptzType(), (day + 1) * _MICROS - 1)
        yield DataFile.from_args(
            **made,
            file_path=f"{folder}/timestamp_day={day}/{uuid.uuid4()}.parquet",
            partition=Record(day),
            lower_bounds={**like.lower_bounds, stamp: at},
            upper_bounds={**like.upper_bounds, stamp: at},
        )


def add_snapshots(home: Path, table: Table, number: int) -> None:
    """Makes the newest snapshot, with its cursor, the last of so many, a commit each ten seconds."""
    current = contents.catalog(home).load_table(table.name).metadata_location
    file = Path(contents.local(current))
    metadata = json.loads(file.read_text())
    like, last = metadata["snapshots"][-1], int(time.time() * 1000)
    cursor = json.loads(like["summary"][CURSOR])
    made = []
    for each in range(1, number + 1):
        at = last - (number - each) * _SECONDS * 1000
        stamp = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="microseconds")
        summary = {**like["summary"], CURSOR: json.dumps({**cursor, "stamp": stamp}, separators=(",", ":"))}
        numbers = {"snapshot-id": each, "parent-snapshot-id": each - 1, "sequence-number": each, "timestamp-ms": at}
        made.append({**like, **numbers, "summary": summary})
    del made[0]["parent-snapshot-id"]
    metadata |= {
        "snapshots": made,
        "snapshot-log": [{"snapshot-id": each["snapshot-id"], "timestamp-ms": each["timestamp-ms"]} for each in made],
        "current-snapshot-id": number, "last-sequence-number": number, "last-updated-ms": last, "metadata-log": [],
        "refs": {"main": {"snapshot-id": number, "type": "branch"}},
    }  # fmt: skip
    made_file = file.with_name(f"{int(file.name.partition('-')[0]) + 1:05d}-{uuid.uuid4()}.metadata.json")
    made_file.write_text(json.dumps(metadata, separators=(",", ":")))
    lake.point(home, {table.name: current.replace(file.name, made_file.name)})
