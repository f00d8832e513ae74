"""From a record's bytes to the texts and values of its fields, by the rules of RFC 8259 and nothing looser.

Spark's JSON functions pass numbers through a double and stop at the end of the first value. Both would be silent
losses here, so a payload is parsed inside one pair of brackets (what follows the object is then a syntax error), and
one that holds a number no double carries is read a second time with every number quoted. To find either out costs more
than to parse, so one pattern tells first of nearly all payloads that they need none of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

NOT_TEXT = "\u0000"
"""What a text field holds where the payload has a boolean, an array or an object, and an array field for a string."""

_BYTE_ORDER_MARK = "\ufeff"

_BROKEN = "_broken"
_STRICT = {
    "mode": "PERMISSIVE",
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
    "columnNameOfCorruptRecord": _BROKEN,
}
_SKIPPED = T.StructType(
    [
        T.StructField("payload", T.StructType([T.StructField("_", T.StringType())])),
        T.StructField(_BROKEN, T.StringType()),
    ]
)
"""An object of which no field is read, and the text of it where the parser found an error."""

_WHITESPACE = " \t\n\r\f\v\u00a0"

# A token that a double may not carry: some 15 digits with a fraction or an exponent, or an exponent of 3 digits.
_INEXACT = r"[:,\[ \t\n\r]-?[0-9](?:(?=[0-9.]{14})(?:[0-9]*+\.|[0-9.]*+[eE])|[0-9.]*+[eE][+-]?[0-9]{3})"

# An array of objects, or a closing bracket that is not the one put around the payload.
_CLOSED_EARLY = r"\}[ \t\n\r]*+\]"

# A text, one a line, that the payload may have had without quotes, or as a number with other digits.
_ODD = r'(?m)^(?:[\[{]|-?[0-9]+\.|(?:true|false|0|"-?Infinity")$)'

# Each character by itself, not as a range: that is what Java runs fastest.
_CONTROL = "".join(rf"\x{code:02x}" for code in range(32))

# A payload in which no error can hide within a field: no control character, no escape, no array and one object. Greedy
# to the end, which Java runs fastest too.
_HIDING = _CONTROL + r"\\\[{"
_FLAT = rf"^[^{_HIDING}]*\{{[^{_HIDING}]*\z"

# Escapes of surrogates: any, a pair, and one by itself once the pairs are gone. An even number of backslashes before
# it ($1) is no part of it. Possessive, so that no length exhausts the stack.
_SURROGATE = r"\\u[dD][89a-fA-F]"
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPED = r"(?<!\\)((?:\\\\)*+)"
_PAIR = _ESCAPED + _HIGH + _LOW
_LONE = _ESCAPED + f"(?:{_HIGH}|{_LOW})"

# One token of a valid payload: a string, or (group 2) a number. Possessive, so that no length exhausts the stack.
_TOKEN = r'"((?:[^"\\]++|\\.)*+)"|(-?[0-9][0-9.eE+\-]*+)'
_MARK = "~"
_MARKED_NUMBER = rf'(?<!\\)"(-?[0-9][0-9.eE+\-]*+){_MARK}"'
_MARKED_STRING = rf'(?<=[\[,:{{])"{_MARK}'
_TOKEN_MARKED = f'"$2{_MARK}$1"'  # "~string" and "number~"


def size(text: Column, raw_bytes: Column) -> Column:
    """The exact number of bytes of a record, of its text and of the bytes that are kept where they are no UTF-8."""
    return F.coalesce(F.octet_length(raw_bytes), F.octet_length(text))


def landed(value: Column, text: Column | None = None) -> dict[str, Column]:
    """What bronze keeps of a Kafka record: `raw_payload`, and `_raw_bytes` where that is not all of it.

    `text` is what was decoded of a value that is no text itself.
    """
    if text is not None:
        return {"raw_payload": text, "_raw_bytes": value}
    written = value.cast("string")
    return {"raw_payload": F.make_valid_utf8(written), "_raw_bytes": F.when(~F.is_valid_utf8(written), value)}


def without_mark(text: Column) -> Column:
    """The text without the one byte order mark it may begin with."""
    return F.when(F.startswith(text, F.lit(_BYTE_ORDER_MARK)), F.substr(text, F.lit(2))).otherwise(text)


@dataclass(frozen=True)
class _Grammar:
    """How the parts of a JSON text are written, as patterns that never go back: no length exhausts the stack."""

    blank: str
    string: str
    number: str

    def objects(self, kinds: Mapping[str, Sequence[str]]) -> str:
        """The objects of these fields alone, each of one of its kinds or null."""
        scalar = f"(?:{self.number}|{self.string})"
        values = {
            "string": self.string,
            "number": self.number,
            "array": self._array(f"(?:{scalar}|{self._array(scalar)})"),
        }
        names: dict[tuple[str, ...], list[str]] = {}
        for name, allowed in kinds.items():
            names.setdefault(tuple(allowed), []).append(re.escape(name))
        fields = "|".join(
            f'(?:{"|".join(alike)})"{self.blank}:{self.blank}(?:{"|".join(map(values.__getitem__, allowed))}|null)'
            for allowed, alike in names.items()
        )
        field = f'{self.blank}"(?:{fields}){self.blank}'
        return rf"\A{self.blank}\{{{field}(?:,{field})*+\}}{self.blank}\z"

    def _array(self, item: str) -> str:
        item = f"{self.blank}{item}{self.blank}"
        return rf"\[(?:{item}(?:,{item})*+)?+\]"


_PLAIN = _Grammar(
    blank=" ?+",
    string=rf'"[^"\\{_CONTROL}]*+"',
    number=r"-?+(?:(?:0|[1-9][0-9]{0,6}+)(?:\.[0-9]{1,6}+)?+(?![0-9])|[1-9][0-9]{7,17}+)",
)
_VALID = _Grammar(
    blank=r"[ \t\n\r]*+",
    string=rf'"(?:[^"\\{_CONTROL}]++|\\.)*+"',
    number=r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+",
)


def is_plain(payload: Column, kinds: Mapping[str, Sequence[str]]) -> Column:
    """Whether a payload is an object as nearly all are: of the fields in `kinds` alone, each null or a JSON value of
    one of its kinds (`string`, `number`, `array`), and all as the parser would print them, or with more zeros.

    So no escape, no blank but single spaces between tokens, no exponent, no more than 13 digits about a point or 18
    without (in an array the parser reads on behind one of 1,001), and in an array strings, numbers and arrays of these.
    Of such a payload nothing is lost, and nothing hides in it.
    """
    return payload.rlike(_PLAIN.objects(kinds))


def is_as_declared(payload: Column, kinds: Mapping[str, Sequence[str]]) -> Column:
    """Whether a valid payload has fields as in `is_plain`, however they are written.

    False says nothing where a name has an escape, or an array holds more than strings, numbers and arrays of these.
    """
    return payload.rlike(_VALID.objects(kinds))


def with_object(records: DataFrame, text: str, into: str, fields: T.StructType, is_plain: str) -> DataFrame:
    """Adds the payload's fields as an array of one struct, NULL unless the column `text` is exactly one JSON object, of
    which the column `is_plain` may say that it need not be asked.

    In an array, because the optimizer pushes the extraction of each field of a plain struct down to where the struct
    is made, and would parse the payload once per field.
    """
    objects, one = _object(text, fields, is_plain)
    return records.withColumn("_objects", objects).withColumn(into, one).drop("_objects")


@cache
def _object(text: str, fields: T.StructType, is_plain: str) -> tuple[Column, Column]:
    """The array of what the payload holds, and of that, as `_objects`, what is just one object."""
    payload = F.col(text)
    objects = strict_json(F.concat(F.lit("["), payload, F.lit("]")), T.ArrayType(fields))
    is_object = F.col(is_plain) | ~_is_forgiven(payload)
    one = (F.size("_objects") == 1) & F.get("_objects", 0).isNotNull() & is_object
    return objects, F.when(one, F.col("_objects"))


def field(objects: str, name: str) -> Column:
    """A field of the object in a column of `with_object`."""
    return F.get(objects, 0)[name]


def has_lone_surrogate(payload: Column) -> Column:
    """Whether a name or a value of a valid payload has, as an escape, half of a surrogate pair; never NULL.

    Half a pair is no character: the parser would make a question mark of it, and one text of two.
    """
    suspect = may_have_lone_surrogate(payload)
    return F.coalesce(suspect & F.regexp_replace(payload, F.lit(_PAIR), F.lit("$1_")).rlike(_LONE), F.lit(False))


def may_have_lone_surrogate(payload: Column) -> Column:
    """Whether a payload has a surrogate as an escape, in a pair or not."""
    return F.contains(payload, F.lit(r"\u")) & payload.rlike(_SURROGATE)


def with_lone_surrogates(payload: Column, fields: T.StructType) -> Column:
    """The names of a valid payload's fields that hold half of a surrogate pair; empty if only others do, NULL if none.

    Such a field reads otherwise with another character in the place of each half.
    """

    def read(character: str) -> Column:
        paired = F.regexp_replace(payload, F.lit(_PAIR), F.lit("$1_"))
        return F.concat(F.lit("["), F.regexp_replace(paired, F.lit(_LONE), F.lit(f"$1{character}")), F.lit("]"))

    def differing(one: Column, other: Column) -> Column:
        names = (F.when(~one[name].eqNullSafe(other[name]), F.lit(name)) for name in fields.names)
        return F.array_compact(F.array(*names))

    one, other = (strict_json(read(character), T.ArrayType(fields)) for character in "AB")
    return F.when(has_lone_surrogate(payload), F.get(F.zip_with(one, other, differing), 0))


def _is_forgiven(payload: Column) -> Column:
    """Whether the parser read on where it should have refused.

    An error inside a string, an array or an object costs only the field that is asked for, and not even that where its
    name is there twice: so all payloads are looked into in which one can hide.
    """
    return is_closed_early(payload, or_if=~payload.rlike(_FLAT))


def is_closed_early(payload: Column, *, or_if: Column | None = None) -> Column:
    """Whether the payload closes a bracket put around it, and goes on; also looked into where `or_if` holds.

    Such a one does not also fit between braces. The parser then says itself that something is wrong: what it found
    tells nothing, since it finds fields behind an error too.
    """
    suspect = F.contains(payload, F.lit("]")) & payload.rlike(_CLOSED_EARLY)
    broken = strict_json(F.concat(F.lit('{"payload":'), payload, F.lit("}")), _SKIPPED)[_BROKEN]
    return F.when(suspect if or_if is None else suspect | or_if, broken.isNotNull()).otherwise(False)


def strict_json(text: Column, kind: T.DataType) -> Column:
    """The JSON text as a value; NULL where it is none by RFC 8259, as far as Spark's parser can tell."""
    return F.from_json(text, kind, _STRICT)  # type: ignore[arg-type]


def text_fields(names: Sequence[str]) -> T.StructType:
    """Fields read as texts: strings unquoted, numbers and nested values as the parser prints them."""
    return T.StructType([T.StructField(name, T.StringType()) for name in names])


def marked(payload: Column, fields: T.StructType) -> Column:
    """Like `with_object`, of a valid payload, and keeps the digits of every number: strings begin with a mark, numbers
    end with it.

    A second pass over the whole payload, so callers guard it by `is_inexact` and `is_any_odd`.
    """
    tokens = T.StructType([T.StructField(_MARK + field.name, field.dataType) for field in fields])
    return F.array(_marked(payload, tokens).cast(fields))


def marked_map(payload: Column) -> Column:
    """Like `marked`, all fields of a valid payload by their names, which are marked strings too."""
    return _marked(payload, T.MapType(T.StringType(), T.StringType()))


def _marked(payload: Column, tokens: T.DataType) -> Column:
    return strict_json(F.regexp_replace(payload, F.lit(_TOKEN), F.lit(_TOKEN_MARKED)), tokens)


def is_string(token: Column) -> Column:
    """Whether a marked token is a JSON string."""
    return F.startswith(token, F.lit(_MARK))


def is_digits(token: Column) -> Column:
    """Whether a marked token is a JSON number."""
    return token.rlike("^[0-9-]")


def unmarked(token: Column) -> Column:
    """The text of a marked string or number; other tokens (true, an array, an object) as they are."""
    return (
        F.when(is_string(token), F.substr(token, F.lit(2)))
        .when(is_digits(token), F.substr(token, F.lit(1), F.length(token) - 1))
        .otherwise(token)
    )


def as_marked_array(token: Column) -> Column:
    """A marked array with a mark of its own in front, other tokens unmarked."""
    return F.when(F.startswith(token, F.lit("[")), F.concat(F.lit(_MARK), token)).otherwise(unmarked(token))


def is_inexact(payload: Column) -> Column:
    """Whether the payload may hold a number that a double does not carry to the last digit."""
    return F.coalesce(payload.rlike(_INEXACT), F.lit(False))


def trimmed(text: Column) -> Column:
    return F.btrim(text, F.lit(_WHITESPACE))


def present(text: Column) -> Column:
    """The trimmed text, NULL where nothing is left: null, '' and blanks are missing alike."""
    return F.nullif(trimmed(text), F.lit(""))


def is_any_odd(texts: Sequence[Column]) -> Column:
    """Whether one of the texts may have been a boolean, an array, an object or a number printed otherwise."""
    return F.concat_ws("\n", *texts).rlike(_ODD)


def may_be_quoted_array(payload: Column) -> Column:
    """Whether a string in the payload may be what looks like an array once its quotes are gone."""
    return F.coalesce(payload.rlike(r'"[ \u00a0]*+[\[\\]'), F.lit(False))


def once(value: Column, use: Callable[[Column], Column]) -> Column:
    """What `use` makes of the value, whose expression is written out once, however often `use` names it.

    Else a plan grows with every use within a use, and takes longer to plan than to run.
    """
    return F.get(F.transform(F.array(value), use), 0)


def to_array_text(text: Column) -> Column:
    """The JSON text of an array, marked or not; NULL for anything else."""
    numbers = F.regexp_replace(F.substr(text, F.lit(2)), F.lit(_MARKED_NUMBER), F.lit("$1"))
    unmarked = F.regexp_replace(numbers, F.lit(_MARKED_STRING), F.lit('"'))
    return F.when(F.startswith(text, F.lit("[")), text).when(F.startswith(text, F.lit(f"{_MARK}[")), unmarked)


def to_rows(text: Column) -> Column:
    """The texts in an array of arrays, marked or not; NULL for anything else."""
    is_marked = F.startswith(text, F.lit(_MARK))
    array = F.when(is_marked, F.substr(text, F.lit(2))).when(F.startswith(text, F.lit("[")), text)
    rows = strict_json(array, T.ArrayType(T.ArrayType(T.StringType())))
    return F.when(is_marked, F.transform(rows, lambda row: F.transform(row, unmarked))).otherwise(rows)
