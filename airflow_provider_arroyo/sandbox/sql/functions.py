"""The names of Arroyo's functions, and the signatures of users' functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.sql.errors import RefusedError

_NOISE = re.compile(r'//[^\n]*|/\*.*?(?:\*/|\Z)|r(#*)".*?"\1|"(?:\\.|[^"\\])*"', re.DOTALL)
_ATTRIBUTE = re.compile(r"#\s*\[\s*(?:\w+\s*::\s*)*udf\b")
_FUNCTION = re.compile(
    r"(?P<before>\basync\s+)?(?:unsafe\s+)?\bfn\s+(?P<name>\w+)\s*(?:<[^(]*>)?\s*\((?P<arguments>[^)]*)\)"
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The functions that define windows in GROUP BY.
WINDOWS = frozenset(("hop", "session", "tumble"))

#: Aggregate functions.
AGGREGATES = _names(
    """
    approx_distinct approx_median approx_percentile_cont approx_percentile_cont_with_weight
    array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar covar_pop covar_samp
    first_value grouping last_value max mean median min nth_value regr_avgx regr_avgy regr_count
    regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp
    string_agg sum var var_pop var_population var_samp var_sample
    """
)

#: Functions that need OVER.
WINDOW_FUNCTIONS = _names(
    """cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number"""
)

_LISTS = _names(
    """
    any_value append cat fill concat contains dims distance distinct element empty except extract has
    has_all has_any indexof intersect join length max min ndims pop_back pop_front position
    positions prepend push_back push_front remove remove_all remove_n repeat replace replace_all
    replace_n resize reverse slice sort to_string union
    """
)

#: Scalar functions: those of DataFusion with their aliases, and Arroyo's own.
SCALARS = _names(
    """
    abs acos acosh arrow_cast arrow_typeof arrays_overlap ascii asin asinh atan atan2 atanh
    bit_length btrim cardinality cbrt ceil char_length character_length chr coalesce concat
    concat_ws contains cos cosh cot current_date current_time current_timestamp date_bin date_format
    date_part date_trunc datepart datetrunc decode degrees digest element_at empty encode ends_with
    exp extract_json extract_json_string factorial find_in_set flatten floor from_unixtime gcd
    generate_series get_field get_first_json_object ice_bucket ice_day ice_hour ice_identity
    ice_month ice_truncate ice_year greatest hop ifnull initcap instr isnan iszero
    json_as_text json_contains json_get json_get_array json_get_bool json_get_float json_get_int
    json_get_json json_get_str json_keys json_length json_object_keys lcm least left length
    levenshtein ln log log10 log2 lower lpad ltrim make_array make_date make_list make_map map
    map_extract map_keys map_values md5 metadata multi_hash named_struct nanvl now nullif nvl nvl2
    octet_length overlay pi position pow power radians random range regexp_count regexp_like
    regexp_match regexp_replace repeat replace reverse right round row row_time rpad rtrim
    serialize_json_union session sha224 sha256 sha384 sha512 signum sin sinh split_part sqrt
    starts_with string_to_array string_to_list strpos struct substr substr_index substring
    substring_index tan tanh to_char to_date to_hex to_local_time to_timestamp to_timestamp_micros
    to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime today translate trim
    trim_array trunc tumble union_extract union_tag unnest upper uuid version
    """
) | frozenset(f"{kind}_{name}" for kind in ("array", "list") for name in _LISTS)


@dataclass(frozen=True, slots=True)
class Udf:
    """A user-defined function.

    :param arguments: the Arrow types of its arguments, None for other types than integers.
    :param aggregate: whether it is an aggregate function.
    """

    name: str
    arguments: tuple[str | None, ...] | None = None
    aggregate: bool = False
    is_async: bool = False


def read(definitions: Iterable[Mapping[str, Any]]) -> dict[str, Udf]:
    """Return user-defined functions by name.

    :param definitions: each with ``definition``, the source, and ``language``: ``"python"``, else it is Rust.
    :raises RefusedError: if one of them is not marked as a UDF, or is not valid Python.
    """
    found: dict[str, Udf] = {}
    for item in definitions:
        source = item.get("definition")
        source = source if isinstance(source, str) else ""
        udf = _python(source) if item.get("language") == "python" else _rust(source)
        found[udf.name] = udf
    return found


def _rust(source: str) -> Udf:
    code = _NOISE.sub(lambda match: " " if match.group().startswith("/") else '""', source)
    marked = _ATTRIBUTE.search(code)
    if marked is None:
        raise RefusedError("invalid UDF: UDF must contain a function with with the annotation #[udf]")
    if _ATTRIBUTE.search(code, marked.end()):
        raise RefusedError("invalid UDF: Only one function in a UDF may be annotated with #[udf]")
    found = _FUNCTION.search(code, marked.end())
    if found is None:
        return Udf("?")
    written = found["arguments"]
    aggregate = re.search(r":\s*(?:\w+::)*Vec\s*<(?!\s*u8\s*>)", written) is not None
    types = [part.partition(":")[2].strip() for part in written.split(",") if part.strip()]
    arguments = None if aggregate or "<" in written else tuple(map(_integer, types))
    return Udf(found["name"], arguments, aggregate, bool(found["before"]))


def _integer(rust: str) -> str | None:
    named = re.fullmatch(r"([iu])(8|16|32|64)", rust)
    return None if named is None else ("Int" if named[1] == "i" else "UInt") + named[2]


def _python(source: str) -> Udf:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedError(f"invalid Python UDF: {error}") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    marked = [node for node in functions if any("udf" in ast.dump(mark) for mark in node.decorator_list)]
    if not marked:
        raise RefusedError(
            "invalid Python UDF: The supplied code does not contain a UDF (UDF functions must be annotated "
            "with @udf)"
        )
    return Udf(marked[0].name)


def mismatch(udf: Udf, given: Sequence[str | None]) -> str | None:
    """Return Arroyo's error for a call with arguments of wrong integer types; None: the call may be valid.

    :param given: the Arrow types of the arguments, None for other types than integers.
    """
    names, into = [name or "" for name in given], [name or "" for name in udf.arguments or ()]
    if len(names) != len(into) or "" in (*names, *into):
        return None
    if all(_fits(name, target) for name, target in zip(names, into, strict=True)):
        return None
    return (
        f"Failed to coerce arguments to satisfy a call to '{udf.name}' function: coercion from "
        f"[{', '.join(names)}] to the signature Exact([{', '.join(into)}]) failed No function matches the given "
        f"name and argument types '{udf.name}({', '.join(names)})'. You might need to add explicit type casts.\n"
        f"\tCandidate functions:\n\t{udf.name}({', '.join(into)})"
    )


def _fits(given: str, wanted: str) -> bool:
    """Return whether an integer type converts to another: unsigned to signed only if that is wider."""
    size, room = int(given.strip("UInt")), int(wanted.strip("UInt"))
    return size <= room if given[0] == wanted[0] else given[0] == "U" and size < room
