"""User-defined functions: their signature, read from their source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.sandbox.sql.diagnostics import Diagnostic, RefusedError
from airflow_provider_arroyo.sandbox.sql.types import Type

_RUST_TYPES = {
    "bool": "Boolean",
    "i8": "Int8",
    "i16": "Int16",
    "i32": "Int32",
    "i64": "Int64",
    "u8": "UInt8",
    "u16": "UInt16",
    "u32": "UInt32",
    "u64": "UInt64",
    "f16": "Float16",
    "f32": "Float32",
    "f64": "Float64",
    "SystemTime": "Timestamp(Microsecond, None)",
    "std::time::SystemTime": "Timestamp(Microsecond, None)",
    "Duration": "Duration(Microsecond)",
    "std::time::Duration": "Duration(Microsecond)",
}

_PYTHON_TYPES = {"int": "Int64", "float": "Float64", "str": "Utf8", "bool": "Boolean", "bytes": "Binary"}

_RUST_NOISE = re.compile(
    r'//[^\n]*|/\*.*?(?:\*/|\Z)|r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\'\\])\'', re.DOTALL
)
_RUST_FUNCTION = re.compile(
    r"#\s*\[\s*(?:\w+\s*::\s*)*udf\s*(?:\([^\]]*\))?\s*\]\s*(?:#\s*\[[^\]]*\]\s*)*"
    r"(?P<how>(?:(?:pub(?:\s*\([^)]*\))?|async|unsafe|const|extern)\s+)*)fn\s+(?P<name>\w+)\s*\("
)


@dataclass(frozen=True, slots=True)
class Udf:
    """A user-defined function.

    :param name: its name.
    :param arguments: the types of its arguments; of an aggregate, those of one row.
    :param returns: the type that it returns; None when not known.
    :param aggregate: whether it takes lists of values of many rows.
    :param is_async: whether it runs asynchronously.
    """

    name: str
    arguments: tuple[Type | None, ...]
    returns: Type | None
    aggregate: bool = False
    is_async: bool = False


def read(definitions: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Udf], list[str]]:
    """Read the signatures of functions.

    :param definitions: ``{"definition": source, "language": "rust" | "python"}`` each; Rust when it
        does not say.
    :returns: the functions by name, and what was accepted without being checked.
    :raises RefusedError: one of them does not parse.
    """
    found: dict[str, Udf] = {}
    not_judged: list[str] = []
    for item in definitions:
        source = item.get("definition")
        source = source if isinstance(source, str) else ""
        if item.get("language") == "python":
            udf = _python(source)
        else:
            udf = _rust(source)
            not_judged.append(f"the body of the function {udf.name}")
        found[udf.name] = udf
    return found, not_judged


def _invalid(message: str, language: str = "") -> RefusedError:
    return RefusedError(Diagnostic(f"invalid {language}UDF: {message}"))


def _rust(source: str) -> Udf:
    code = _RUST_NOISE.sub(lambda match: '""' if match.group()[0] in "r\"'" else " ", source)
    if not _balanced(code):
        raise _invalid("cannot parse string into token stream")
    found = list(_RUST_FUNCTION.finditer(code))
    if not found:
        raise _invalid("UDF must contain a function with with the annotation #[udf]")
    if len(found) > 1:
        raise _invalid("Only one function in a UDF may be annotated with #[udf]")
    name = found[0]["name"]
    inside, rest = _bracketed(code, found[0].end())
    types: list[Type | None] = []
    lists = 0
    for index, argument in enumerate(_split(inside)):
        colon = argument.find(":")
        if colon < 0:
            raise _invalid(f"Function {name} has a 'self' argument, which is not allowed")
        written = "".join(argument[colon + 1 :].split())
        inner = re.fullmatch(r"(?:\w+::)*Vec<(.*)>", written)
        if inner is not None:
            lists += 1
        what = (
            f"arg {index} into a SQL data type"
            if inner is None
            else f"inner vector arg {index} into an Arrow data type"
        )
        types.append(
            _rust_type(
                inner.group(1) if inner else written, False, f"Could not convert function {name} {what}"
            )
        )
    if lists and lists != len(types):
        raise RefusedError(
            Diagnostic(f"Invalid UDF {name}: In function {name}: for a UDAF, all arguments must be Vec<T>")
        )
    arrow = re.match(r"\s*->([^{;]*?)(?:\bwhere\b[^{;]*)?[{;]", rest)
    if arrow is None:
        raise _invalid(f"Function {name} return type must be specified")
    returns = _rust_type(
        "".join(arrow.group(1).split()),
        True,
        f"Could not convert function {name} return type into a SQL data type",
    )
    return Udf(name, tuple(types), returns, aggregate=lists > 0, is_async="async" in found[0]["how"].split())


def _rust_type(written: str, owned: bool, failure: str) -> Type:
    option = re.fullmatch(r"(?:\w+::)*Option<(.*)>", written)
    if option is not None:
        written = option.group(1)
    written = re.sub(r"^&(?:'\w+)?", "&", written)
    if written in _RUST_TYPES:
        return Type(_RUST_TYPES[written])
    texts = {
        ("String", True): "Utf8",
        ("&str", False): "Utf8",
        ("Vec<u8>", True): "Binary",
        ("&[u8]", False): "Binary",
    }
    if (written, owned) in texts:
        return Type(texts[written, owned])
    hints = {
        ("String", False): "expected reference type &str instead of String",
        ("Vec<u8>", False): "expected reference type &[u8] instead of Vec<u8>",
        ("&String", False): "expected &str, not &String",
        ("&String", True): "expected owned String, not &String (hint: remove the &)",
        ("&Vec<u8>", False): "expected &[u8], not &Vec<u8>",
        ("&Vec<u8>", True): "expected owned Vec<u8>, not &Vec<u8> (hint: remove the &)",
        ("&str", True): "expected owned String, not &str",
        ("&[u8]", True): "expected owned Vec<u8>, not &[u8]",
    }
    hint = hints.get((written, owned))
    if hint is None and written[1:] in _RUST_TYPES and written[:1] == "&":
        hint = f"unexpected {written}; primitives should be passed by value (hint: remove the &)"
    if hint is None:
        known = re.fullmatch(r"\w[\w:<>,]*", written) is not None
        hint = f"unsupported Rust type {written}" if known else "unsupported Rust data type"
    raise _invalid(f"{failure}: {hint}")


def _balanced(code: str) -> bool:
    pairs = {")": "(", "]": "[", "}": "{"}
    open_ones: list[str] = []
    for character in code:
        if character in "([{":
            open_ones.append(character)
        elif character in pairs and (not open_ones or open_ones.pop() != pairs[character]):
            return False
    return not open_ones


def _bracketed(code: str, start: int) -> tuple[str, str]:
    """Return what stands before the bracket that closes, and what stands behind it."""
    depth = 1
    for index in range(start, len(code)):
        depth += (code[index] in "([{") - (code[index] in ")]}")
        if depth == 0:
            return code[start:index], code[index + 1 :]
    return code[start:], ""


def _split(inside: str) -> list[str]:
    """Cut a list of arguments at its commas, not at those inside of brackets."""
    parts = [""]
    depth = 0
    for character in inside:
        depth += (character in "(<[") - (character in ")>]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _python(source: str) -> Udf:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _invalid(str(error), "Python ") from error
    marked = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "udf" for mark in node.decorator_list)
    ]
    if not marked:
        raise _invalid(
            "The supplied code does not contain a UDF (UDF functions must be annotated with @udf)", "Python "
        )
    if len(marked) > 1:
        raise _invalid("More than one function was annotated with @udf, which is not supported", "Python ")
    function = marked[0]
    arguments = tuple(_python_type(argument.annotation) for argument in function.args.args)
    return Udf(function.name, arguments, _python_type(function.returns))


def _python_type(annotation: ast.expr | None) -> Type | None:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.slice
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    return Type(_PYTHON_TYPES[name]) if name in _PYTHON_TYPES else None
