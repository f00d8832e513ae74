"""The names of a file's columns against those that a dimension's feed may have."""

import re
from collections.abc import Iterable, Sequence

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.errors import UsageError

_BLANKS = " \t\n\r\f\v\u00a0"
_SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
_MOST = 20
"""Names that a sentence lists."""


class Names(dict[str, str]):
    """Of a name as a file has it, the one under which the change log keeps its values: the feed's column that it
    means, else the trimmed name in lower case."""

    def __init__(self, dimension: Dimension) -> None:
        columns = {folded(column): column for column in dimension.feed_columns}
        self._columns = columns | {folded(alias): column for alias, column in dimension.aliases.items()}
        self._texts = frozenset(dimension.texts)

    def __missing__(self, name: str) -> str:
        kept = self._columns.get(folded(name)) or name.lstrip("\ufeff").strip(_BLANKS).lower()
        return self.setdefault(name, kept)

    def is_text(self, name: str) -> bool:
        """Whether the name means one of the feed's columns of text."""
        return self[name] in self._texts


def folded(name: str) -> str:
    """What makes two names one: lower case, no blanks, hyphens and underscores."""
    return re.sub(r"[\s\-_]+", "", name.lstrip("\ufeff").lower())


def _refuse_twins(names: Iterable[str], dimension: Dimension) -> None:
    stored, first = Names(dimension), dict[str, str]()
    for name in names:
        column = stored[name]
        place = column if column in dimension.feed_columns else folded(name) or name
        if place in first:
            raise UsageError(
                f"a column stands there twice: {_short(first[place])!r} and {_short(name)!r} are one name; drop one"
            )
        first[place] = name


def judge(names: Sequence[str], dimension: Dimension, *, ignore_unknown: bool) -> list[str]:
    """Sentences on what of the names is ignored.

    Raises UsageError where two mean one column, the natural key is missing, or one is nearly right (see `near`) and
    `ignore_unknown` is not set.
    """
    _refuse_twins(names, dimension)
    stored = Names(dimension)
    columns = [stored[name] for name in names]
    if dimension.natural_key not in columns:
        raise UsageError(_without_key(names, dimension))
    absent = [column for column in dimension.feed_columns if column not in columns]
    unknown = [column for column in columns if column not in dimension.feed_columns]
    meant = {name: column for name in unknown if (column := near(name, absent, dimension))}
    if meant and not ignore_unknown:
        doubts = " ".join(f"no such column {name!r}, did you mean {column!r}?" for name, column in meant.items())
        raise UsageError(f"{doubts} Rename it, or load the rest with --ignore-unknown")
    said = []
    if meant:
        said.append(f"ignored {_listed(meant)}; {dimension.name} gets no {_listed(absent)} from it")
    if others := [name for name in unknown if name not in meant]:
        said.append(f"{dimension.name} has no column {_listed(others)}: kept in the change log alone")
    return said


def near(name: str, absent: Sequence[str], dimension: Dimension) -> str | None:
    """The absent column that an unknown name nearly is, or an alias of one: at most one letter more, less, other or
    in its neighbour's place, two where the column has more than six letters; blanks, `-`, `_` and case left out."""
    candidates = [*absent, *(alias for alias, column in dimension.aliases.items() if column in absent)]
    distances = [
        (distance, written)
        for written in candidates
        if (distance := _distance(folded(name), folded(written))) <= (2 if len(folded(written)) > 6 else 1)
    ]
    return min(distances)[1] if distances else None


def _distance(one: str, other: str) -> int:
    """Optimal string alignment: letters inserted, deleted, replaced or swapped with the next."""
    if abs(len(one) - len(other)) > 2:
        return 3
    rows = [list(range(len(other) + 1))]
    for i, mine in enumerate(one, 1):
        row = [i]
        for j, theirs in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (mine != theirs))
            if i > 1 and j > 1 and mine == other[j - 2] and one[i - 2] == theirs:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def _without_key(names: Sequence[str], dimension: Dimension) -> str:
    wanted = f"expected a column {dimension.natural_key!r} for {dimension.name}"
    stored = Names(dimension)
    for separator, called in _SEPARATORS.items():
        if any(stored[part.strip('"')] == dimension.natural_key for name in names for part in name.split(separator)):
            return f"{wanted}; is the separator {called}? Save it with commas"
    close = [name for name in names if near(stored[name], [dimension.natural_key], dimension)]
    hint = (
        f"did you mean {stored[close[0]]!r}? Rename it to {dimension.natural_key!r}"
        if close
        else f"it has {_listed(map(stored.__getitem__, names))}"
    )
    return f"{wanted}; {hint}"


def _listed(names: Iterable[str]) -> str:
    all_names = [" ".join(_short(name).split()) or "''" for name in names]
    more = f" and {len(all_names) - _MOST} more" if len(all_names) > _MOST else ""
    return (", ".join(all_names[:_MOST]) or "none") + more


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:60]}…"
