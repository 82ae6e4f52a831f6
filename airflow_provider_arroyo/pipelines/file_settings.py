"""The settings that an SQL file may have, each with its check, and their positions in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_checkpoint_interval,
    check_duration,
    check_json_object,
    check_max_restarts,
    check_parallelism,
    check_string_map,
    check_text,
)
from airflow_provider_arroyo.client.names import check_pipeline_name
from airflow_provider_arroyo.pipelines.choices import OnFailure, Strategy
from airflow_provider_arroyo.pipelines.plain_yaml import Item, YamlError, read_mapping
from airflow_provider_arroyo.pipelines.tags import check_tags
from airflow_provider_arroyo.text import shorten

UDF_LANGUAGES = {".rs": "rust", ".py": "python"}


class PipelineFileError(ValueError):
    """A file in a folder of pipelines is invalid. The message names the file and, if possible, the line."""

    @classmethod
    def at(cls, path: Path, problem: str, line: int | None = None) -> PipelineFileError:
        """Return the error for a position in a file.

        :param path: the file.
        :param problem: what is wrong, in words that follow the position.
        :param line: counted from 1; default None, the whole file.
        """
        # A name that is not UTF-8 has characters that logs cannot write.
        shown = str(path).encode(errors="backslashreplace").decode()
        return cls(f"{shown}{'' if line is None else f', line {line}'}: {problem}")


_Check = Callable[[Any, str], Any]


def _choice(*allowed: str) -> _Check:
    def check(value: Any, argument: str) -> str:
        if value not in allowed:
            raise ValueError(
                f"{argument} must be one of {', '.join(map(repr, map(str, allowed)))}, got {value!r}"
            )
        return str(value)

    return check


def _check_paths(value: Any, argument: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{argument} must be a list of paths of .rs or .py files, got {value!r}")
    for item in value:
        if Path(item).suffix not in UDF_LANGUAGES:
            raise ValueError(f"{argument} must be paths of .rs or .py files, got {item!r}")
    return value


SETTINGS: Mapping[str, _Check] = {
    "pipeline_name": check_pipeline_name,
    "parallelism": check_parallelism,
    "checkpoint_interval": check_checkpoint_interval,
    "udfs": _check_paths,
    "tags": check_tags,
    "env_vars": check_string_map,
    "state_url": check_text,
    "scheduler_config": check_json_object,
    "strategy": _choice(*Strategy),
    "on_failure": _choice(*OnFailure),
    "keep_old": check_bool,
    "until_checkpoint": check_bool,
    "allow_state_loss": check_bool,
    "stable_for": check_duration,
    "max_restarts": check_max_restarts,
    "timeout": partial(check_duration, positive=True),
    "rollback_timeout": partial(check_duration, positive=True),
}
"""The settings that a file may have, by name, each with its check. Durations are seconds."""


class FileSettings(NamedTuple):
    """The settings of one file, and their positions."""

    path: Path
    items: Mapping[str, Item]

    def checked(self) -> dict[str, Any]:
        """Return their values.

        :raises PipelineFileError: if one is invalid.
        """
        for name, item in self.items.items():
            try:
                SETTINGS[name](item.value, name)
            except ValueError as err:
                raise self.error(name, str(err)) from err
        return {name: item.value for name, item in self.items.items()}

    def error(self, name: str, problem: str) -> PipelineFileError:
        """Return the error for one of the settings."""
        return PipelineFileError.at(self.path, problem, self.items[name].line)


def items_by_name(path: Path, text: str) -> dict[str, Item]:
    """Return the mapping in a file or in a part of it; nested mappings also contain :class:`.Item` values.

    :raises PipelineFileError: if it is not a mapping, or ambiguous.
    """
    try:
        return read_mapping(text)
    except YamlError as err:
        raise PipelineFileError.at(path, str(err), err.line) from err


def settings_of(path: Path, item: Item) -> FileSettings:
    """Return the settings of one file; for an unknown setting, the error suggests the most similar name."""
    if not isinstance(item.value, dict | None):
        raise PipelineFileError.at(path, "settings must be a mapping, such as parallelism: 2", item.line)
    settings = FileSettings(path, item.value or {})
    for name in settings.items:
        if name not in SETTINGS:
            raise settings.error(name, f"unknown setting {shorten(name, 80)!r}{nearest(name, SETTINGS)}")
    return settings


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the most similar name, or all known names."""
    import difflib  # takes a millisecond of each DAG file, and is for errors only

    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
