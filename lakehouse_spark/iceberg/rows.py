"""How many rows a table has, how many are new, and the rows of some columns: without Spark, by metadata where it tells,
else from as few files of data as there have to be."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import ParquetFile

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg import embedded
from lakehouse_spark.iceberg.embedded import LocalFiles
from lakehouse_spark.iceberg.live_files import LiveFile
from lakehouse_spark.iceberg.metadata import Metadata

_FIELD_ID = b"PARQUET:field_id"


class Count(NamedTuple):
    """A number of rows; where it is not exact, there are at most so many."""

    rows: int
    is_exact: bool = True


def count(of: Metadata) -> Count:
    """The table's rows. Deletes are subtracted from the one file that they name, as those of this project's commits do:
    each is of a row that was live, so a row goes once."""
    if not of.total("delete-files"):
        return Count(of.total("records"))
    deletes = _Deletes.of(of)
    return Count(sum(file.records - deletes.by_file[file.path] for file in of.data_files), deletes.are_known)


def count_later(of: Metadata, after: datetime | None, *, only: tuple[str, str] | None = None) -> Count:
    """The rows that are stamped later than `after` (None: all); `only` those with a value of a column by whose identity
    the table is partitioned."""
    if after is None and only is None:
        return count(of)
    deletes = _Deletes.of(of) if of.total("delete-files") else _Deletes(Counter(), True)
    rows, is_exact = 0, deletes.are_known
    for file in written_later(of, after):
        if only is not None and of.partition_value(file, only[0]) != only[1]:
            continue
        oldest, newest = file.oldest(of.stamp_id), file.newest(of.stamp_id)
        if after is None or (oldest is not None and oldest > after):
            rows += file.records - deletes.by_file[file.path]
        elif newest is None or newest > after:
            stamps = (batch.column(0) for batch in batches(of, [file], [str(of.table.stamp)]))
            rows += sum(pc.sum(pc.greater(stamp, pa.scalar(after, stamp.type))).as_py() or 0 for stamp in stamps)
            is_exact &= file.path not in deletes.by_file
    return Count(rows, is_exact)


def batches(of: Metadata, files: Iterable[LiveFile], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of data files, these columns of them; one that a file is older than is NULL. Of deletes nothing is known
    here."""
    wanted = {name: of.column_ids.get(name) for name in columns}
    for file in files:
        if not file.path.endswith(".parquet"):
            raise LakehouseError(f"{of.table.name}: {file.path} is no Parquet file, as another program wrote it")
        with _opened(of, file) as parquet:
            there = _names(file, parquet.schema_arrow)
            read = [there[i] for i in wanted.values() if i in there]
            for batch in parquet.iter_batches(columns=read):
                found = [batch.column(there[i]) if i in there else pa.nulls(len(batch)) for i in wanted.values()]
                yield pa.RecordBatch.from_arrays(found, [*wanted])


def live_batches(of: Metadata, files: Iterable[LiveFile], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of data files that are not deleted; raises LakehouseError where deletes do not say of which file."""
    deletes = _Deletes.of(of)
    if not deletes.are_known:
        raise LakehouseError(f"{of.table.name} has delete files that are of no single data file")
    for file in files:
        found = batches(of, [file], columns)
        yield from _without(_deleted(of, file), found) if file.path in deletes.by_file else found


def _deleted(of: Metadata, file: LiveFile) -> pa.Array:
    """The places of the deleted rows of a data file."""
    places = []
    for deletes in (each for each in of.delete_files if each.deletes_from == file.path):
        with _opened(of, deletes) as parquet:
            places += parquet.read(columns=["pos"]).column("pos").chunks
    return pa.concat_arrays(places)


def _without(deleted: pa.Array, found: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in found:
        yield batch.filter(pc.invert(pc.is_in(pa.arange(first, first + len(batch)), deleted)))
        first += len(batch)


def _opened(of: Metadata, file: LiveFile) -> ParquetFile:
    if isinstance(of.io, LocalFiles):
        return ParquetFile(embedded.path(file.path))
    return ParquetFile(of.io.new_input(file.path).open())


def _names(file: LiveFile, schema: pa.Schema) -> Mapping[int | None, str]:
    """The columns of a file by Iceberg's ids of them."""
    if any(_FIELD_ID not in (field.metadata or ()) for field in schema):
        raise LakehouseError(f"{file.path} has columns without ids, as another program wrote it")
    return {int(field.metadata[_FIELD_ID]): field.name for field in schema}


class _Deletes(NamedTuple):
    """How many rows are deleted of each data file; `are_known` False: there are deletes that name no single file."""

    by_file: Counter[str]
    are_known: bool

    @classmethod
    def of(cls, table: Metadata) -> "_Deletes":
        found: Counter[str] = Counter()
        for file in table.delete_files:
            if file.deletes_from is not None:
                found[file.deletes_from] += file.records
        return cls(found, all(file.deletes_from is not None for file in table.delete_files))


def written_later(of: Metadata, after: datetime | None) -> Iterator[LiveFile]:
    """The data files that may have rows stamped later: those of commits that came after, and of compactions."""
    consumed = of.commit_at(after) if after else None
    known = consumed["sequence-number"] if consumed else 0
    return of.files_in(each for each in of.manifests if each.is_of_data and each.sequence > known)
