"""Tables that are made from the code, so that they cannot differ from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from airflow_provider_arroyo.get_provider_info import get_provider_info
from airflow_provider_arroyo.monitoring.diagnosis import Kind
from airflow_provider_arroyo.pipelines.file_settings import SETTINGS
from airflow_provider_arroyo.sandbox import fault_types


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def markdown(text: str) -> str:
    """Return in Markdown what a docstring says in reST."""
    return re.sub(r":\w+:`[.~]?([^`]+)`", r"`\1`", text).replace("``", "`")


def connection_fields() -> str:
    """Return the fields of a connection's extra."""
    fields = get_provider_info()["connection-types"][0]["conn-fields"]

    def default(schema: dict[str, object]) -> str:
        value = schema.get("default")
        return "" if value is None else str(value).lower()

    return table(
        ["extra", "in the form", "meaning", "default"],
        (
            [f"`{name}`", one["label"], one["description"], default(one["schema"])]
            for name, one in fields.items()
        ),
    )


def configuration() -> str:
    """Return the options of Airflow's configuration."""
    options = [
        (section, name, one)
        for section, found in get_provider_info()["config"].items()
        for name, one in found["options"].items()
    ]
    return table(
        ["option", "default", "meaning"],
        (
            [
                f"`[{section}] {name}`",
                f"`{one['default']}`",
                f"{markdown(one['description'])} Environment variable: `AIRFLOW__{section.upper()}__{name.upper()}`.",
            ]
            for section, name, one in options
        ),
    )


def folder_settings() -> str:
    """Return the names of the settings that a file in a folder of pipelines may have."""
    return ", ".join(f"`{name}`" for name in SETTINGS)


def faults() -> str:
    """Return the faults of the sandbox, what each takes, and its defaults."""

    def takes(kind: fault_types.Kind) -> str:
        return ", ".join(f"`{name}={field.default!r}`" for name, field in kind.fields.items())

    def of_field(field: fault_types.Field) -> str:
        return field.meaning or (f"one of {', '.join(field.choices)}" if field.choices else "")

    def meaning(kind: fault_types.Kind) -> str:
        own = (f"`{name}`: {text}." for name, field in kind.own.items() if (text := of_field(field)))
        return markdown(" ".join([kind.meaning, *own]))

    return table(
        ["fault", "meaning", "takes"],
        ([f"`{name}`", meaning(kind), takes(kind)] for name, kind in fault_types.KINDS.items()),
    )


MEANINGS = {
    Kind.HEALTHY: "running, with a recent checkpoint",
    Kind.STARTING: "about to run, or without its first checkpoint yet",
    Kind.STOPPING: "asked to stop",
    Kind.STOPPED: "stopped, without a checkpoint",
    Kind.PAUSED: "stopped, with a checkpoint to continue from",
    Kind.FINISHING: "running, but some of its sources have ended",
    Kind.FINISHED: "finished",
    Kind.NO_JOB: "without a job",
    Kind.SQL_REFUSED: "refused by Arroyo's planner",
    Kind.NO_CONTROLLER: "`Created` for more than 30 s",
    Kind.NOT_SCHEDULED: "a minute old, and has never run",
    Kind.BROKER_UNREACHABLE: "without its Kafka broker, by its errors",
    Kind.FILE_MISSING: "without a file, by its errors",
    Kind.RECOVERING: "recovering from a failure",
    Kind.FLAPPING: "restarting again and again",
    Kind.NO_CHECKPOINT: "running, but for five checkpoint intervals, at least a minute, no checkpoint has finished",
    Kind.LAGGING: "running, with backpressure of 80 % or more",
    Kind.FAILED: "failed, for another reason",
    Kind.UNKNOWN: "unclear, since not everything can be read",
}


def diagnoses() -> str:
    """Return the kinds of diagnosis, and what each means and advises.

    :raises KeyError: if a kind has no meaning here.
    """
    return table(
        ["kind", "the pipeline is", "advice"],
        ([f"`{kind.value}`", MEANINGS[kind], kind.advice] for kind in Kind),
    )


TABLES: dict[str, Callable[[], str]] = {
    one.__name__.replace("_", "-"): one
    for one in (connection_fields, configuration, folder_settings, faults, diagnoses)
}


class Generated(SphinxDirective):
    """``{generated} NAME``: one of the tables above."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        found: list[nodes.Node] = self.parse_text_to_nodes(TABLES[self.arguments[0]]())
        return found


class GeneratedRole(SphinxRole):
    """The same within a line, where it is no table."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the text."""
        parts = re.split("`", TABLES[self.text]())
        return [
            nodes.literal(text=part) if at % 2 else nodes.Text(part) for at, part in enumerate(parts) if part
        ], []


class Help(SphinxDirective):
    """``{help} MODULE ARGUMENTS``: what ``python -m MODULE ARGUMENTS --help`` prints."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return what it prints, as a block of text."""
        printed = subprocess.run(  # our own module
            [sys.executable, "-m", *self.arguments[0].split(), "--help"],
            env={**os.environ, "COLUMNS": "90"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        block = nodes.literal_block(printed, printed)
        block["language"] = "text"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("generated", Generated)
    app.add_role("generated", GeneratedRole())
    app.add_directive("help", Help)
    return {"parallel_read_safe": True}
