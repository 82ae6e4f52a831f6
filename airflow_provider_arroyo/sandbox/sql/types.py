"""Column types: SQL's names for them, the API's, and Arrow's, in which Arroyo words its errors."""

from __future__ import annotations

from dataclasses import dataclass

TIMESTAMP = "Timestamp(Nanosecond, None)"


@dataclass(frozen=True, slots=True)
class Type:
    """A type by its Arrow name.

    :param name: such as ``Int64``, ``Utf8`` or ``List``.
    :param fields: names and types of what a struct holds.
    :param item: type of what a list holds; None when not known.
    """

    name: str
    fields: tuple[tuple[str, Type | None], ...] = ()
    item: Type | None = None

    def field(self, name: str) -> Type | None:
        """Return the type of a field of a struct; None when it has no such field."""
        return dict(self.fields).get(name)


INT64, UTF8, BOOLEAN, FLOAT64, NULL = (Type(n) for n in ("Int64", "Utf8", "Boolean", "Float64", "Null"))
WINDOW = Type("Struct", (("start", Type(TIMESTAMP)), ("end", Type(TIMESTAMP))))

_SQL = {
    "BOOLEAN": "Boolean",
    "BOOL": "Boolean",
    "TINYINT": "Int8",
    "SMALLINT": "Int16",
    "INT2": "Int16",
    "INT": "Int32",
    "INTEGER": "Int32",
    "INT4": "Int32",
    "BIGINT": "Int64",
    "INT8": "Int64",
    "TINYINT UNSIGNED": "UInt8",
    "SMALLINT UNSIGNED": "UInt16",
    "INT2 UNSIGNED": "UInt16",
    "INT UNSIGNED": "UInt32",
    "INTEGER UNSIGNED": "UInt32",
    "INT4 UNSIGNED": "UInt32",
    "BIGINT UNSIGNED": "UInt64",
    "INT8 UNSIGNED": "UInt64",
    "FLOAT": "Float32",
    "REAL": "Float32",
    "FLOAT4": "Float32",
    "DOUBLE": "Float64",
    "DOUBLE PRECISION": "Float64",
    "FLOAT8": "Float64",
    "CHAR": "Utf8",
    "VARCHAR": "Utf8",
    "TEXT": "Utf8",
    "STRING": "Utf8",
    "JSON": "Utf8",
    "TIMESTAMP": TIMESTAMP,
    "DATETIME": TIMESTAMP,
    "DATE": "Date32",
    "TIME": "Time64(Nanosecond)",
    "DECIMAL": "Decimal128(38, 10)",
    "NUMERIC": "Decimal128(38, 10)",
    "BYTEA": "Binary",
    "INTERVAL": "Interval(MonthDayNano)",
}

# What the API calls a type in a table's schema.
_API = {
    "bool": "Boolean",
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "int64": "Int64",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "float32": "Float32",
    "float64": "Float64",
    "f32": "Float32",
    "f64": "Float64",
    "string": "Utf8",
    "bytes": "Binary",
    "json": "Utf8",
    "datetime": TIMESTAMP,
    "unix_nanos": TIMESTAMP,
    "unix_micros": "Timestamp(Microsecond, None)",
    "unix_millis": "Timestamp(Millisecond, None)",
    "date_time": TIMESTAMP,
    "timestamp": TIMESTAMP,
}

# What sqlglot calls a type in a cast, where it is not simply the SQL name.
_CAST = {
    "UTINYINT": "UInt8",
    "USMALLINT": "UInt16",
    "UINT": "UInt32",
    "UBIGINT": "UInt64",
    "NVARCHAR": "Utf8",
    "VARBINARY": "Binary",
    "TIMESTAMPNTZ": TIMESTAMP,
    "TIMESTAMP_S": "Timestamp(Second, None)",
    "TIMESTAMP_MS": "Timestamp(Millisecond, None)",
    "TIMESTAMP_NS": TIMESTAMP,
}

_PRECISIONS = {"0": "Second", "3": "Millisecond", "6": "Microsecond", "9": "Nanosecond"}

_SIGNED = ("Int8", "Int16", "Int32", "Int64")
_UNSIGNED = ("UInt8", "UInt16", "UInt32", "UInt64")
_FLOATS = ("Float32", "Float64")
INTEGERS = frozenset((*_SIGNED, *_UNSIGNED))
NUMBERS = frozenset((*INTEGERS, *_FLOATS))

_COERCIONS: dict[str, frozenset[str]] = {
    **{name: frozenset(_SIGNED[: i + 1] + _UNSIGNED[:i]) for i, name in enumerate(_SIGNED)},
    **{name: frozenset(_UNSIGNED[: i + 1]) for i, name in enumerate(_UNSIGNED)},
    "Float32": INTEGERS | {"Float32"},
    "Float64": NUMBERS,
    TIMESTAMP: frozenset(
        (f"Timestamp({unit}, None)" for unit in _PRECISIONS.values()),
    )
    | {"Date32", "Utf8"},
    "Interval(MonthDayNano)": frozenset({"Interval(MonthDayNano)", "Utf8"}),
}


def from_sql(name: str, arguments: tuple[str, ...] = ()) -> Type | None:
    """Return the type that SQL has under a name.

    :param name: in capitals, with single blanks, such as ``"BIGINT UNSIGNED"``.
    :param arguments: what stood in brackets behind it.
    :returns: None when Arroyo has no such type.
    """
    if name in ("DECIMAL", "NUMERIC") and arguments:
        precision, scale = (*arguments, "0")[:2]
        return Type(f"Decimal128({precision}, {scale})")
    if name == "TIMESTAMP" and arguments:
        unit = _PRECISIONS.get(arguments[0])
        return None if unit is None else Type(f"Timestamp({unit}, None)")
    found = _SQL.get(name)
    return None if found is None else Type(found)


def from_catalog(name: str) -> Type | None:
    """Return the type of a column of a connection table, written as in SQL or as in the API."""
    return _named(_API, name.lower()) or from_sql(" ".join(name.upper().split()))


def from_cast(name: str, arguments: tuple[str, ...] = ()) -> Type | None:
    """Return the type that sqlglot has under a name; None when it has no counterpart."""
    return _named(_CAST, name) or from_sql(name, arguments)


def _named(names: dict[str, str], name: str) -> Type | None:
    return Type(names[name]) if name in names else None


def coerces(into: str, given: str) -> bool:
    """Tell whether an argument of one type may be handed to a function that wants another."""
    return given in (into, "Null") or into == "Utf8" or given in _COERCIONS.get(into, frozenset())


def arithmetic(left: Type | None, right: Type | None) -> Type | None:
    """Return the type of a sum, a product and so on; None when not known."""
    if left is None or right is None:
        return None
    names = {left.name, right.name}
    if len(names) == 1 and left.name in NUMBERS:
        return left
    if names <= NUMBERS and names & set(_FLOATS):
        return FLOAT64
    if names <= set(_SIGNED):
        return Type(max(names, key=_SIGNED.index))
    if names <= set(_UNSIGNED):
        return Type(max(names, key=_UNSIGNED.index))
    if TIMESTAMP in names and any(name.startswith("Interval") for name in names):
        return Type(TIMESTAMP)
    return None
