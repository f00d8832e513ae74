"""What a table is: declared once, checked at import; everything else is derived from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pyspark.sql import types as T

CATALOG = "lake"

DISTRIBUTION = "write.distribution-mode"
"""The property that says how rows are spread over tasks before they are written."""

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "format-version": "2",
        "write.format.default": "parquet",
        "write.parquet.compression-codec": "zstd",
        "write.parquet.dict-encoding.enabled": "true",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "10",
        "commit.retry.num-retries": "4",
        "commit.retry.min-wait-ms": "100",
        "read.split.target-size": "134217728",
    }
)
"""Properties of every table; a table's own `properties` win over them."""

MERGE_ON_READ: Mapping[str, str] = MappingProxyType(
    {
        "write.delete.mode": "merge-on-read",
        "write.update.mode": "merge-on-read",
        "write.merge.mode": "merge-on-read",
    }
)
"""For tables whose changed rows lie scattered over large files."""

_TRANSFORM = re.compile(r"(?:years|months|days|hours)\(\w+\)|(?:bucket|truncate)\(\d+, \w+\)|\w+")
"""Those that a declaration may be partitioned by."""
_TERM = re.compile(r"((?:\w+\((?:\d+, )?)?)(.+?)(\)?(?: (?:ASC|DESC) NULLS (?:FIRST|LAST))?)")


@dataclass(frozen=True)
class Policy:
    """How a table is maintained: what is kept, and when its files are put in order."""

    snapshot_days: int
    """Snapshots younger than this are kept."""
    min_snapshots: int = 5
    """The newest snapshots, kept however old they are."""
    max_snapshots: int | None = None
    """Where every commit of a stream is a snapshot: as many are kept at most, however young they are. A commit rewrites
    the list of all of them: nobody notices a thousand, ten thousand double what it takes."""
    row_days: int | None = None
    """Rows are kept for so many days of event time; None: for ever."""
    target_file_bytes: int = 256 * 1024 * 1024
    """What compaction makes files as large as."""
    min_input_files: int = 5
    """Compaction takes up a partition with as many files that are too small, or of deletes."""
    settle_minutes: int = 60
    """A partition that was written to within this time is still being written, and is left alone."""
    orphan_days: int = 3
    """A file that no snapshot knows is debris once it is older than this."""


BRONZE_POLICY = Policy(snapshot_days=7, max_snapshots=1_000, row_days=90)
LOG_POLICY = Policy(snapshot_days=7, max_snapshots=1_000)
"""Of the change log: the dimensions are rebuilt from here, so its rows stay for ever."""
SILVER_POLICY = Policy(snapshot_days=14, max_snapshots=3_000)
GOLD_POLICY = Policy(snapshot_days=30, max_snapshots=3_000)
DIM_POLICY = Policy(snapshot_days=30, max_snapshots=3_000)
"""A month of beats a quarter of an hour apart; on a shorter beat, the newest of them."""


def column(name: str, kind: T.DataType, doc: str) -> T.StructField:
    """A nullable column whose documentation travels with it into the catalog."""
    return T.StructField(name, kind, True, {"comment": doc})


def column_of(term: str) -> str:
    """The column of a term of partitioning or of a sort order, as SQL writes it: "bucket(16, symbol)", "price DESC
    NULLS LAST"."""
    return _parts(term)[1]


def with_column(term: str, column: str) -> str:
    """The same term of another column."""
    before, _, after = _parts(term)
    return before + column + after


def transformed(iceberg: str, column: str) -> str:
    """The term of a column under a transform as Iceberg spells it: under `bucket[16]`, "bucket(16, symbol)"."""
    if iceberg == "identity":
        return column
    name, _, argument = iceberg.rstrip("]").partition("[")
    return f"{name}({argument}, {column})" if argument else f"{name}s({column})"


def _parts(term: str) -> tuple[str, str, str]:
    """What stands before a term's column, the column, and what stands behind it."""
    match = _TERM.fullmatch(term)
    if match is None:
        raise ValueError(f"{term!r} is of no column")
    return match[1], match[2], match[3]


def properties(distribution: str, own: Mapping[str, str]) -> dict[str, str]:
    """Defaults, then the distribution mode, then a table's own: what the catalog must hold."""
    return {**DEFAULTS, DISTRIBUTION: distribution, **own}


@dataclass(frozen=True, eq=False)
class Table:
    """One table of the lakehouse.

    `partitioned_by` holds partition transforms as SQL writes them ("days(ts)", "bucket(16, symbol)"), `sorted_by`
    ascending columns, `key` the columns that identify a row, `stamp` the column that orders its commits,
    `distribution` Iceberg's write distribution mode, `sources` the tables it is built from: its lineage, whole. Those
    among them in `lookups` are looked up as they are, and give no work by their own news. `checks` are conditions in
    SQL on a row, by their name: a commit with a row of which one is false is not published (NULL is not false).
    """

    name: str
    doc: str
    columns: tuple[T.StructField, ...]
    key: tuple[str, ...]
    policy: Policy
    partitioned_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    stamp: str | None = None
    distribution: str = "none"
    properties: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z_]+\.[a-z_0-9]+", self.name):
            raise ValueError(f"table name: expected namespace.name in lower case, got {self.name!r}")
        names = self.column_names
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: a column is declared twice")
        stamp = (self.stamp,) if self.stamp else ()
        unknown = {*self.key, *self.sorted_by, *self.partition_columns, *stamp} - set(names)
        if unknown:
            raise ValueError(f"{self.name}: key, sort order, partitioning or stamp name no column: {sorted(unknown)}")
        if self.distribution not in ("none", "hash", "range"):
            raise ValueError(f"{self.name}: distribution is none, hash or range, got {self.distribution!r}")
        if "key_is_complete" in self.checks:
            raise ValueError(f"{self.name}: key_is_complete is the check that every table has")
        if undeclared := set(self.lookups) - set(self.sources):
            raise ValueError(f"{self.name}: looks up what is not among its sources: {sorted(undeclared)}")

    @property
    def follows(self) -> tuple[str, ...]:
        """The sources whose news are consumed, and how far stands in the cursor."""
        return tuple(name for name in self.sources if name not in self.lookups)

    @property
    def all_checks(self) -> dict[str, str]:
        """The declared ones, and that no column of the key is NULL."""
        return {"key_is_complete": " AND ".join(f"{name} IS NOT NULL" for name in self.key), **self.checks}

    @property
    def namespace(self) -> str:
        return self.name.partition(".")[0]

    @property
    def short_name(self) -> str:
        return self.name.partition(".")[2]

    @property
    def identifier(self) -> str:
        """The name Spark knows the table by."""
        return f"{CATALOG}.{self.name}"

    def on_branch(self, branch: str) -> str:
        """The name Spark knows a branch of the table by."""
        return f"{self.identifier}.branch_{branch}"

    @property
    def column_names(self) -> list[str]:
        return [c.name for c in self.columns]

    @property
    def schema(self) -> T.StructType:
        return T.StructType(list(self.columns))

    @property
    def partition_columns(self) -> tuple[str, ...]:
        for transform in self.partitioned_by:
            if not _TRANSFORM.fullmatch(transform):
                raise ValueError(f"{self.name}: unknown partition transform {transform!r}")
        return tuple(map(column_of, self.partitioned_by))

    @property
    def day_column(self) -> str | None:
        """The column by whose days the table is partitioned, None where it is not."""
        partitions = zip(self.partitioned_by, self.partition_columns, strict=True)
        return next((name for transform, name in partitions if transform.startswith("days(")), None)

    @property
    def all_properties(self) -> dict[str, str]:
        return properties(self.distribution, self.properties)
