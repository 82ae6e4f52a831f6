"""Secrets in what is sent to Arroyo, which a response may repeat: settings, and the source of UDFs in Rust or Python.

In source, these are the strings assigned or passed under a secret name. They are found in the text, without a parser.
If in doubt, too much is masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.secret_names import MASK, is_no_secret, is_secret_name, names_user
from airflow_provider_arroyo.client.sql_secrets import secret_values
from airflow_provider_arroyo.client.text_secrets import (
    Secret,
    echoed_values,
    mask,
    redact_values,
    secrets_in_comment,
    secrets_in_text,
    without_values,
)

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job, Pipeline
    from airflow_provider_arroyo.client.settings import ClientSettings

MAX_READ = 100_000
"""Maximum length of a server's text that is read for a message, in characters. Messages show far less."""

_MAX_SECRET = 8_000
"""The length of the longest secrets, in characters, even if they are encoded."""

_MIN_VARIABLE_LENGTH = 8
"""An environment variable may be a secret whatever its name is; what is shorter is as likely a word of any text."""
_WORD = r"(?P<word>[A-Za-z_]\w*+) | (?P<open>[(\[{]) | (?P<close>[)\]}]) | (?P<end>[;\n])"
_RUST = re.compile(
    rf"""
    (?P<comment>//[^\n]*+|/\*.*?(?:\*/|\Z))
    | (?P<string>\bb?r(?P<hashes>\#*+)".*?(?:"(?P=hashes)|\Z)|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\\n]|\\[^\n]{{1,10}}?)')
    | {_WORD}
    """,
    re.VERBOSE | re.DOTALL,
)
_PYTHON = re.compile(
    rf"""
    (?P<comment>\#[^\n]*+)
    | (?P<string>(?P<quotes>\"{{3}}|'{{3}}).*?(?:(?P=quotes)|\Z)|"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?)
    | {_WORD}
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[\w.-]{1,100}")


def body_secret_values(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the secret values in the body of a request, which the response may repeat.

    :param body: SQL, UDFs, environment variables, the settings of a connector.
    """
    rest = dict(body)
    found = set(secret_values(str(rest.pop("query", ""))))
    variables = (rest.get("env_vars") or {}).values()
    found |= {value for value in variables if len(value) >= _MIN_VARIABLE_LENGTH}
    definitions = [*(rest.pop("udfs", None) or ()), {"definition": rest.pop("definition", ""), **rest}]
    for one in definitions:
        found |= code_secret_values(one["definition"], one.get("language"))
    return frozenset(found | setting_secret_values(rest))


def redactor(
    body: Mapping[str, Any] | None, settings: ClientSettings, *, most: int = MAX_READ
) -> Callable[[str], str]:
    """Return a function that hides secrets in a server's text: those of a request, of the settings, and its own.

    :param body: the body of the request; None if it has none.
    :param settings: the settings used.
    :param most: how many characters it reads, default 100,000; it returns only the beginning of a longer text.
    """
    secrets = body_secret_values(body or {})

    def redacted(text: str) -> str:
        shown = redact_values(settings.redact(text[:most]), secrets)
        # A secret that the cut has divided is not recognized.
        return shown if len(text) <= most else shown[:-_MAX_SECRET] or MASK

    return redacted


def pipeline_secret_values(pipeline: Pipeline, job: Job | None = None) -> frozenset[str]:
    """Return the secret values in a pipeline, which Arroyo's messages about it may repeat.

    :param pipeline: its SQL and its UDFs.
    :param job: its job, which holds its environment variables (0.16); default None leaves these out.
    """
    udfs = [{"definition": udf.definition, "language": udf.language} for udf in pipeline.udfs]
    variables = {} if job is None else job.env_vars
    return body_secret_values({"query": pipeline.query, "udfs": udfs, "env_vars": variables})


@lru_cache(maxsize=1000)
def redact_variables(text: str, variables: tuple[tuple[str, str], ...]) -> str:
    """Return the reason of a failure without the values of environment variables.

    :param text: the reason.
    :param variables: their names and values.
    """
    # Every poll brings the same ones.
    return redact_values(text, body_secret_values({"env_vars": dict(variables)}))


def setting_secret_values(settings: Any) -> frozenset[str]:
    """Return the secret values in some settings, recognized by their names or by their form.

    :param settings: JSON values, such as the settings of a connector, or environment variables.
    """
    return echoed_values(_in_settings(settings, is_secret=False))


def _in_settings(value: Any, *, is_secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            is_named = is_secret_name(str(name)) and not names_user(str(name))
            yield from _in_settings(item, is_secret=is_secret or is_named)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _in_settings(item, is_secret=is_secret)
    elif isinstance(value, str) and is_secret and not is_no_secret(value):
        yield value
    elif isinstance(value, str):
        yield from secret_values(value)


def redact_code(source: str, language: str | None, values: Iterable[str] = ()) -> str:
    """Return source with ``***`` in place of its secrets.

    These are the strings that follow a secret name in the same statement, and the same secrets in strings and
    comments as in SQL.

    :param source: source of a function; it may be broken.
    :param language: ``python``; anything else is read as Rust.
    :param values: further secrets, such as values in the SQL that uses it; default none.
    """
    return without_values(mask(source, _in_source(source, language)), values)


def code_secret_values(source: str, language: str | None) -> frozenset[str]:
    """Return the secret values in some source, in forms in which a compiler may repeat them.

    :param source, language: see :func:`redact_code`.
    """
    return echoed_values(source[one.start : one.end] for one in _in_source(source, language))


def _in_source(source: str, language: str | None) -> Iterator[Secret]:
    """Yield the positions of the secrets; they may overlap."""
    is_python = language == "python"
    depth, is_secret = 0, False
    for found in (_PYTHON if is_python else _RUST).finditer(source):
        kind, text = found.lastgroup or "", found[0]
        if kind in ("hashes", "quotes"):
            kind = "string"
        if kind == "comment":
            yield from secrets_in_comment(text, found.start())
        elif kind == "end" and text == "\n":
            # In Python, a line is a statement, except within brackets and if it obviously continues.
            before = source[max(0, found.start() - 100) : found.start()].rstrip(" \t\r")[-1:]
            is_secret = is_secret and not (is_python and depth == 0 and before not in ("=", "\\"))
        elif kind == "end" or (not is_python and text in ("{", "}")):
            is_secret = False
        elif kind in ("open", "close"):
            depth = max(0, depth + (1 if kind == "open" else -1))
        elif kind == "word":
            is_secret = is_secret or is_secret_name(text)
        elif kind == "string":
            start, inner = _inner(text)
            if is_secret and inner:
                yield Secret(found.start() + start, found.start() + start + len(inner), "")
            elif _NAME.fullmatch(inner):
                is_secret = is_secret_name(inner)
            else:
                yield from secrets_in_text(text, found.start())


def _inner(text: str) -> tuple[int, str]:
    """Return where the content of a string begins, and the content."""
    opened = re.match(r"""(?:br?|r)?\#*("{3}|'{3}|"|')""", text)
    if opened is None:
        return 0, text
    end = text.rfind(opened[1])
    return opened.end(), text[opened.end() : end if end >= opened.end() else len(text)]
