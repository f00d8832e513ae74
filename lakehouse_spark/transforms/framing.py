"""Records as a schema registry's serializers frame them: a NUL, the four bytes of a schema's id, then the payload.

Bronze keeps the exact bytes of each and, as its text, the record as JSON: from there on it is read as one that came as
JSON. What cannot be decoded has for its text a code and what it is about, `unknown_schema: 7`, which no JSON value is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.avro.functions import from_avro

from lakehouse_spark.transforms import payload

FRAME_BYTES = 5
"""What is put before a payload: a NUL and the four bytes of the schema's id."""

UNKNOWN, INVALID, OVERSIZED = "unknown_schema", "invalid_payload", "oversized_record"
"""Why a record has no JSON as its text: codes of `transforms.reasons`."""

LEVEL = ("price", "quantity")
"""The fields of a record that is a level of an order book, which in JSON is an array of the two."""

_NUL = b"\0"
_REPLACED = "\ufffd"
_MARKED = rf"^(?:{UNKNOWN}|{INVALID}|{OVERSIZED}): "

_END = b"lakehouse record"
"""Put behind the bytes of a record, to find out whether they end where the record does."""
_INSTANT = "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"
_JSON = {"timestampFormat": f"{_INSTANT}'Z'", "timestampNTZFormat": _INSTANT, "timeZone": "UTC"}
_SKIP_BROKEN = {"mode": "PERMISSIVE"}


@dataclass(frozen=True)
class AvroSchema:
    """A schema as `envelope` encloses it, and the type of its records, of which the fields `arrays` may hold levels."""

    envelope: str
    kind: T.StructType
    has_types: bool
    arrays: tuple[str, ...] = ()

    @property
    def levels(self) -> Mapping[str, T.StructType]:
        """The fields whose levels are records, with the types of these."""
        arrays = ((name, self.kind[name].dataType) for name in self.arrays if name in self.kind.names)
        of_records = {name: of.elementType for name, of in arrays if isinstance(of, T.ArrayType)}
        return {name: of for name, of in of_records.items() if isinstance(of, T.StructType) and {*LEVEL} <= {*of.names}}


def is_framed(value: Column) -> Column:
    return F.startswith(value, F.lit(_NUL)) & (F.octet_length(value) >= FRAME_BYTES)


def schema_id(value: Column) -> Column:
    """The id in a frame, as a long."""
    return F.conv(F.hex(F.substring(value, 2, 4)), 16, 10).cast("long")


def is_decoded(text: Column, raw_bytes: Column) -> Column:
    """Whether a row's text was decoded from its bytes: of a frame that was not, the text begins with its NUL too."""
    return F.coalesce(F.startswith(raw_bytes, F.lit(_NUL)), F.lit(False)) & ~F.startswith(text, F.lit("\0"))


def is_undecoded(text: Column, raw_bytes: Column) -> Column:
    """Whether a row's text says why its bytes were not decoded; text that was repaired tells of that itself."""
    return raw_bytes.isNotNull() & text.rlike(_MARKED) & ~F.contains(text, F.lit(_REPLACED))


def undecoded(text: Column, raw_bytes: Column) -> Column:
    """Why a row's bytes were not decoded; NULL where they were, or never had to be."""
    return F.when(is_undecoded(text, raw_bytes), F.substring_index(text, ":", 1))


def json_text(value: Column, max_bytes: int) -> Column:
    """The JSON in frames, whatever its schema; NULL of a tombstone."""
    text = F.substring(value, FRAME_BYTES + 1, 2**31 - 1).cast("string")
    decoded = F.when(F.is_valid_utf8(text), text).otherwise(_said(INVALID, "not valid UTF-8"))
    return _framed(value, max_bytes, decoded)


def avro_text(value: Column, schemas: Mapping[int, AvroSchema | str], max_bytes: int) -> Column:
    """The records of Avro in frames as JSON, NULL of a tombstone; a text in place of a schema says why nothing can be
    read by it, and ids that have neither are unknown."""
    identity = schema_id(value)
    decoded = _said(UNKNOWN, identity)
    for known, schema in schemas.items():
        if isinstance(schema, str):
            of_schema = _said(INVALID, f"schema {known} {schema}")
        else:
            of_schema = F.coalesce(_record(value, schema), _said(INVALID, f"schema {known}"))
        decoded = F.when(identity == known, of_schema).otherwise(decoded)
    return _framed(value, max_bytes, decoded)


def envelope(schema: object, types: list[object]) -> dict[str, object]:
    """A record of Avro whose bytes are those of a record of the schema between what `_record` puts around them.

    Spark makes one and the same of a record without any value and of bytes that are none; of a record around it, only
    the latter. `types` are the named types that the schema refers to, each behind those that it refers to itself: they
    are branches of a union that is always null, and so take one byte.
    """
    fields: list[object] = [
        {"name": "payload", "type": schema},
        {"name": "end", "type": {"type": "fixed", "name": "lakehouse_end", "size": len(_END)}},
    ]
    if types:
        fields.insert(0, {"name": "types", "type": ["null", *types]})
    return {"type": "record", "name": "lakehouse_envelope", "fields": fields}


def _record(value: Column, schema: AvroSchema) -> Column:
    """The record as JSON; NULL where the bytes are not exactly one of its schema, or a text in it is no UTF-8."""
    before = [F.lit(_NUL)] if schema.has_types else []
    body = F.substring(value, FRAME_BYTES + 1, 2**31 - 1)
    read = from_avro(F.concat(*before, body, F.lit(_END)), schema.envelope, _SKIP_BROKEN)

    def text(found: Column) -> Column:
        record = found["payload"]
        is_whole = record.isNotNull() & (found["end"] == F.lit(_END)) & is_valid(record, schema.kind)
        return F.when(is_whole, _json(record, schema))

    return payload.once(read, text)


def _json(record: Column, schema: AvroSchema) -> Column:
    """The record as JSON, in which levels that are records are arrays, `[price, quantity]`.

    What else they have is a field of its own, `bids.orders`, with a value for each level: it is seen as payload drift,
    and is no other's name, since names in Avro have no dots.
    """
    levels = schema.levels
    if not levels:
        return F.to_json(record, _JSON)
    others = [record[name].alias(name) for name in schema.kind.names if name not in levels]
    others += [
        record[name][part].alias(f"{name}.{part}")
        for name, level in levels.items()
        for part in level.names
        if part not in LEVEL
    ]
    sides = [F.concat(F.lit(f'"{name}":'), _levels(record[name])) for name in levels]  # NULL where there are none

    def joined(text: Column) -> Column:
        fields = F.when(text != "{}", F.substr(text, F.lit(2), F.length(text) - 2))
        return F.concat(F.lit("{"), F.concat_ws(",", fields, *sides), F.lit("}"))

    return payload.once(F.to_json(F.struct(*others), _JSON), joined)


def _levels(levels: Column) -> Column:
    """Levels that are records as a JSON array of arrays: put together as text, for an array of Spark's has one type."""

    def text(level: Column) -> Column:
        price, quantity = (F.to_json(F.array(level[name]), _JSON) for name in LEVEL)
        pair = F.concat(F.regexp_replace(price, r"\]\z", ","), F.substr(quantity, F.lit(2)))
        return F.when(level.isNull(), F.lit("null")).otherwise(pair)

    return F.concat(F.lit("["), F.array_join(F.transform(levels, text), ","), F.lit("]"))


def is_valid(value: Column, kind: T.DataType) -> Column:
    """Whether all texts in a value are valid UTF-8; never NULL."""
    if isinstance(kind, T.StringType):
        return F.coalesce(F.is_valid_utf8(value), F.lit(True))
    parts: list[Column] = []
    if isinstance(kind, T.StructType):
        parts = [is_valid(value[field.name], field.dataType) for field in kind if _has_text(field.dataType)]
    elif isinstance(kind, T.ArrayType) and _has_text(kind):
        parts = [_are_valid(value, kind.elementType)]
    elif isinstance(kind, T.MapType):
        parts = [_are_valid(F.map_keys(value), kind.keyType)]
        parts += [_are_valid(F.map_values(value), kind.valueType)] if _has_text(kind.valueType) else []
    return reduce(Column.__and__, parts, F.lit(True))


def _are_valid(values: Column, kind: T.DataType) -> Column:
    return F.coalesce(F.forall(values, lambda value: is_valid(value, kind)), F.lit(True))


def _has_text(kind: T.DataType) -> bool:
    if isinstance(kind, T.StructType):
        return any(_has_text(field.dataType) for field in kind)
    return isinstance(kind, T.StringType | T.MapType) or (isinstance(kind, T.ArrayType) and _has_text(kind.elementType))


def _framed(value: Column, max_bytes: int, decoded: Column) -> Column:
    return (
        F.when(value.isNull(), F.lit(None).cast("string"))
        .when(F.octet_length(value) > max_bytes, _said(OVERSIZED, F.octet_length(value)))
        .when(~is_framed(value), _said(INVALID, "not framed"))
        .otherwise(decoded)
    )


def _said(code: str, about: Column | str) -> Column:
    return F.concat(F.lit(f"{code}: "), about.cast("string") if isinstance(about, Column) else F.lit(about))
