"""Compares a wanted pipeline with the one on the server. Sends no requests.

The spacing and line breaks of SQL, the ownership label and the order of UDFs do not count as differences. A label
says who owns a pipeline, not what it does, so no update changes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.pipelines.ownership import user_tags_of, without_label
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.sql_diffs import redacted_diff
from airflow_provider_arroyo.text import shorten, visible

_SQL_PARTS = re.compile(
    r"""
    # A doubled quote is read as two adjacent strings.
    (?P<quoted> (?<!\w)[eE]'(?:[^'\\]|\\.)*+' | '(?:[^'\\]|\\(?!'))*+' | "(?:[^"\\]|\\(?!"))*+"
        | (?<!\w)\$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<gap> (?: [ \t\n]++ | \r(?=\n|\Z)
        | (?<![-+*/%<>=~!@#^&|?:]) (?: --[^\n\r]*+ | /\*(?:(?!/\*|\*/).)*+\*/ ) )++ )
    # A number with an exponent is one word.
    | (?P<word> \w++ (?: (?<=[\d.][eE]) [+-]\d\w*+ )*+ )
    | (?P<bracket> [(),;] )
    | (?P<operator> (?<![-+*/%<>=~!@#^&|?:]) (?: <[=>]? | >=? | ==? | != | => | ->>? | \|\| | :: | [-+*/%] )
        (?![-+*/%<>=~!@#^&|?:]) )
    # How these are read may depend on the reader: an open quote, a nested comment, an escaped quote …
    | (?P<unclear> ['"`\\\r$] | -- | /\* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"--[^\n\r]*|/\*.*?\*/", re.DOTALL)
_SHOWN_LINES = 30
_SHOWN_COLUMNS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference in one argument.

    :param argument: its name: ``query``, ``parallelism`` …
    :param found: the value on the server. It may hold secrets, which ``str`` masks.
    :param wanted: the wanted value; it may hold secrets too.
    """

    argument: str
    found: Any = field(repr=False)
    wanted: Any = field(repr=False)

    def __str__(self) -> str:
        """Return the difference for a message: without secrets; only SQL takes more than one line."""
        match self.argument:
            case "query":
                return "query:\n" + "\n".join(f"  {line}" for line in self._lines())
            case "udfs":
                return f"udfs: {len(self.found)} on the server, {len(self.wanted)} wanted, and they differ"
            case "tags" | "env_vars" | "scheduler_config":
                names = {*self.found, *self.wanted}
                differ = sorted(name for name in names if self.found.get(name) != self.wanted.get(name))
                return f"{self.argument}: {shorten(', '.join(differ), 200)}"
            case "parallelism" | "checkpoint_interval":
                return f"{self.argument}: {self.found} → {self.wanted}"
            case _:
                found, wanted = (
                    shorten(redact_values(str(one), ()), 80) for one in (self.found, self.wanted)
                )
                return f"{self.argument}: {found!r} → {wanted!r}"

    def _lines(self) -> Iterator[str]:
        found, wanted = without_label(self.found), self.wanted
        if (trimmed := (_trimmed(found), _trimmed(wanted)))[0] != trimmed[1]:
            found, wanted = trimmed
        lines = redacted_diff(found, wanted, context_lines=1)
        for line in map(visible, lines[:_SHOWN_LINES]):
            yield line if len(line) <= _SHOWN_COLUMNS else f"{line[:_SHOWN_COLUMNS]}…"
        if len(lines) > _SHOWN_LINES:
            yield f"… and {len(lines) - _SHOWN_LINES} more lines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The differences between a wanted pipeline and the one on the server.

    :param definition: name, SQL and UDFs: a change needs a new pipeline.
    :param settings: parallelism, checkpoint interval, environment and scheduler: one PATCH changes them.
    :param labels: tags and ``state_url``: no request changes them.
    """

    definition: tuple[Difference, ...] = ()
    settings: tuple[Difference, ...] = ()
    labels: tuple[Difference, ...] = ()

    @property
    def patch(self) -> dict[str, Any]:
        """The arguments of ``patch_pipeline`` that change the settings; empty if none differs."""
        return {one.argument: one.wanted for one in self.settings}


def compare(spec: PipelineSpec, pipeline: Pipeline, job: Job | None = None) -> Comparison:
    """Compare a wanted pipeline with the one on the server.

    Arguments that are not given (no ``checkpoint_interval``, no ``env_vars``) are left to the server and never
    differ. The server reports a pipeline's parallelism only in its graph; without a graph, it counts as equal.

    :param spec: the wanted pipeline.
    :param pipeline: the pipeline on the server.
    :param job: the pipeline's job, which has its environment and scheduler (0.16); default None skips these.
    """
    return Comparison(
        definition=_differences(
            ("pipeline_name", pipeline.name, spec.name),
            ("query", pipeline.query, spec.query),
            ("udfs", pipeline.udfs, spec.udfs),
        ),
        settings=compare_settings(pipeline, job, spec.settings),
        labels=_differences(
            ("tags", user_tags_of(pipeline), dict(spec.tags)),
            ("state_url", pipeline.state_url or "", spec.state_url or pipeline.state_url or ""),
        ),
    )


def compare_settings(
    pipeline: Pipeline, job: Job | None, settings: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """Return the differences in the settings that one PATCH changes.

    :param pipeline: the pipeline on the server.
    :param job: its job, which has its environment and scheduler (0.16); None skips these.
    :param settings: the wanted values by argument, as :attr:`.PipelineSpec.settings`; None is skipped.
    """
    micros = pipeline.checkpoint_interval_micros
    found: dict[str, Any] = {
        "parallelism": pipeline.graph.parallelism,
        "checkpoint_interval": None if micros is None else timedelta(microseconds=micros),
    }
    if job is not None:
        found |= {"env_vars": job.env_vars, "scheduler_config": job.scheduler_config}
    both = ((name, found.get(name), wanted) for name, wanted in settings.items())
    return _differences(*(one for one in both if None not in one))


def _differences(*values: tuple[str, Any, Any]) -> tuple[Difference, ...]:
    """Return the differences between what is found and what is wanted, each after the name of its argument."""
    return tuple(
        Difference(argument=argument, found=found, wanted=wanted)
        for argument, found, wanted in values
        if not _is_same(argument, found, wanted)
    )


def _is_same(argument: str, found: Any, wanted: Any) -> bool:
    if argument == "query":
        return is_same_query(found, wanted)
    if argument == "udfs":
        return _comparable(found) == _comparable(wanted)
    return bool(found == wanted)


def shown(differences: Iterable[Difference]) -> tuple[dict[str, str], ...]:
    """Return differences as data without secrets: the argument, and the difference in words."""
    return tuple({"argument": one.argument, "difference": str(one)} for one in differences)


def begins_new_run(differences: Iterable[Difference]) -> bool:
    """Return whether a running pipeline begins a new run with these settings; a new interval restarts nothing."""
    return any(one.argument != "checkpoint_interval" for one in differences)


def is_same_query(stored: str, wanted: str) -> bool:
    """Return whether the SQL of a pipeline is equivalent to the wanted SQL.

    :param stored: from the server, possibly below an ownership label.
    :param wanted: as the user wrote it. It may also begin like a label.
    """
    words = sql_words(wanted, with_comments=True)
    return words in (sql_words(one, with_comments=True) for one in (without_label(stored), stored))


def sql_words(query: str, *, with_comments: bool = False) -> tuple[str, ...]:
    """Return the tokens of SQL; two texts with the same tokens have the same meaning.

    Spacing is left out where it cannot matter: beside brackets, commas, and operators that no other sign follows.
    Elsewhere, it counts as one blank; in quoted text, it is data. If it is unclear where quoted text or a comment
    ends, all the SQL is one token.

    :param query: the SQL, without an ownership label.
    :param with_comments: whether comments are tokens, too, default False.
    """
    words: list[str] = []
    before, gap = "", ""
    for found in _SQL_PARTS.finditer(query):
        kind, text = str(found.lastgroup), found[0]
        if kind == "unclear":
            return (query,)
        if kind == "gap":
            gap = text
            words += map(_trimmed, _COMMENT.findall(text) if with_comments else ())
            continue
        if gap and before and not _is_separate(before, kind) and not _is_separate(kind, before):
            # Strings on two lines may be one.
            words.append("\n" if before == kind == "quoted" and "\n" in gap else " ")
        words.append(text)
        before, gap = kind, ""
    return tuple(words)


def _is_separate(kind: str, other: str) -> bool:
    """Return whether a token never merges with an adjacent one of the other kind."""
    return kind == "bracket" or (kind == "operator" and other in ("word", "quoted"))


def _comparable(udfs: Iterable[Udf]) -> Counter[tuple[str, str]]:
    return Counter((_trimmed(udf.definition), udf.language or "rust") for udf in udfs)


def _trimmed(text: str) -> str:
    """Return text without white space at line ends and newlines at its end."""
    return "\n".join(line.rstrip(" \t\r") for line in text.split("\n")).rstrip("\n")
