"""What W7 starts from: bronze with many files, of which most are in the metadata alone or empty, or many snapshots."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyiceberg.table import Table as IcebergTable

from benchmarks import contents, lake, metadata_only
from benchmarks.plan import Case, Inputs
from benchmarks.w6_inputs import OF_A_FILE, RAW, start

EXPIRING, KEPT = 100, 5
"""Snapshots that are due, and those that stay as the newest."""
ORPHANS = 50
AGE = 10 * 86_400
"""Of all data files, in seconds."""


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """One real file, and either `live` more, the last of them a file for each snapshot, or `snapshots` kept."""
    values, _ = start(folder, days=1, files=1, fresh=0)
    home = Path(values["home"])
    table = contents.catalog(home).load_table(RAW.name)
    if live := case.params.get("live"):
        small = EXPIRING + KEPT
        metadata_only.add_files(table, RAW, live - small - 1)
        metadata_only.add_files(table, RAW, small, at_once=1)
        expected = _lay_down(table, folder / "live.txt")
        values |= {"live": str(folder / "live.txt"), "folder": f"{contents.local(table.location())}/data"}
    else:
        metadata_only.add_snapshots(home, RAW, case.params["snapshots"])
        expected = {"rows": str(2 * OF_A_FILE)}
    yield Inputs({**values, "current": lake.keep(home)}, expected)


def _lay_down(table: IcebergTable, known: Path) -> dict[str, str]:
    """Empty files where the metadata says that there are some, orphans beside them, all of them old; what is right."""
    live = [contents.local(path) for path in live_files(table)]
    known.write_text("\n".join(live))
    orphans = [f"{Path(live[0]).parent}/orphan-{number}.parquet" for number in range(ORPHANS)]
    at = time.time() - AGE
    for path in map(Path, (*live, *orphans)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (at, at))
    return {"live": digest(live), "snapshots": str(KEPT), "orphans": digest(orphans)}


def live_files(table: IcebergTable) -> list[str]:
    """All that the current snapshot's manifests name; raises FileNotFoundError where one of these is gone."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = snapshot.manifests(table.io)
    return [entry.data_file.file_path for each in manifests for entry in each.fetch_manifest_entry(table.io)]


def digest(paths: Iterable[str]) -> str:
    """How many paths there are, and a hash of them whatever their order."""
    names = sorted(map(contents.local, paths))
    return f"{len(names)}:{hashlib.md5(chr(10).join(names).encode()).hexdigest()}"
