"""A folder of SQL files as pipelines: one for each file, with its settings beside the SQL."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are another package

from airflow_provider_arroyo.client.checks import (
    check_bool,
    check_checkpoint_interval,
    check_duration,
    check_json_object,
    check_max_restarts,
    check_parallelism,
    check_pipeline_name,
    check_sql,
    check_string_map,
    check_text,
)
from airflow_provider_arroyo.text import shorten

SETTINGS_FILE = "pipelines.yaml"
_LIKELY_SETTINGS_FILES = (SETTINGS_FILE, "pipelines.yml", "pipeline.yaml", "pipeline.yml")
_MARK = re.compile(r"\s*--\s*(?:arroyo\s*:|(?i:arroyo)\s*:\s*$)")
_OTHER_MARK = re.compile(r"\s*(?:/\*+|-{3,}|#)\s*arroyo\s*:", re.IGNORECASE)
_UDF_LANGUAGES = {".rs": "rust", ".py": "python"}


class PipelineFileError(ValueError):
    """A file in a folder of pipelines is invalid. The message names the file and, if possible, the line."""

    @classmethod
    def at(cls, path: Path, line: int | None, problem: str) -> PipelineFileError:
        """Return the error for a place in a file.

        :param line: counted from 1; None where the whole file is meant.
        """
        # A name that is not UTF-8 has characters that no log can write.
        shown = str(path).encode(errors="backslashreplace").decode()
        return cls(f"{shown}{'' if line is None else f', line {line}'}: {problem}")


_Check = Callable[[Any, str], Any]


def _choice(*allowed: str) -> _Check:
    def check(value: Any, argument: str) -> str:
        if value not in allowed:
            raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        return str(value)

    return check


SETTINGS: Mapping[str, _Check] = {
    "pipeline_name": check_pipeline_name,
    "parallelism": check_parallelism,
    "checkpoint_interval": check_checkpoint_interval,
    "udfs": lambda value, argument: _check_paths(value, argument),
    "tags": lambda value, argument: _check_tags(value, argument),
    "env_vars": check_string_map,
    "state_url": check_text,
    "scheduler_config": check_json_object,
    "strategy": _choice("stop_first", "start_first"),
    "on_failure": _choice("rollback", "leave"),
    "keep_old": check_bool,
    "until_checkpoint": check_bool,
    "allow_state_loss": check_bool,
    "stable_for": check_duration,
    "max_restarts": check_max_restarts,
    "timeout": partial(check_duration, positive=True),
    "rollback_timeout": partial(check_duration, positive=True),
}
"""The settings that a file may have, by name, each with its check. Durations are seconds."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting, and where it stands."""

    value: Any
    path: Path
    line: int


_Settings = dict[str, _Setting]


def pipelines_from_folder(path: str | Path, *, group: str = "default") -> list[dict[str, Any]]:
    """Return the pipelines of a folder, one for each ``.sql`` file in it, sorted by file name.

    Each is a mapping of arguments for :class:`.ArroyoDeployPipelineOperator`. Call this in a task, so that the folder
    is read when the DAG runs and not when it is parsed:

    .. code-block:: python

        specs = task(pipelines_from_folder)(str(Path(__file__).parent / "pipelines"), group="shop")
        ArroyoDeployPipelineOperator.partial(task_id="deploy").expand_kwargs(specs)

    The pipeline is named after the file. Its settings are YAML, either in a comment at the top of the file, which is
    not sent to Arroyo:

    .. code-block:: sql

        -- arroyo:
        --   parallelism: 2
        --   checkpoint_interval: 10

    or under the file's name in one ``pipelines.yaml`` next to the files. Settings have the names of the operator's
    arguments. Durations are seconds, and ``udfs`` are paths of ``.rs`` and ``.py`` files in the folder.

    The SQL and ``env_vars`` pass through Airflow's XComs in plain text, so put no secrets there. The files are not
    rendered as Jinja templates, so you can use Arroyo's own variables, ``{{ NAME }}``, for secrets.

    :param path: the folder; subfolders and hidden files are not read. A relative path is relative to the worker's
        current directory, so begin with ``Path(__file__).parent``.
    :param group: the group of all its pipelines, default ``default``.
    :returns: one mapping for each file; an empty list for a folder without ``.sql`` files.
    :raises PipelineFileError: if a setting is unknown or invalid, if a file is not UTF-8 or contains no SQL, or if
        two files name the same pipeline, or pipelines whose names look the same; names the file and line.
    :raises ValueError: if the group or the path is not a string, or empty.
    """
    check_pipeline_name(group, "group")
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path must be the path of a folder, got {path!r}")
    folder = Path(check_text(os.fspath(path), "path"))
    visible = _visible_files(folder)
    for file in visible:
        lower = file.name.lower()
        if (lower in _LIKELY_SETTINGS_FILES and file.name != SETTINGS_FILE) or (
            lower.endswith(".sql") and file.suffix != ".sql"
        ):
            raise PipelineFileError.at(
                file, None, f"is not read; rename it: SQL ends in .sql, settings are in {SETTINGS_FILE}"
            )
    files = [file for file in visible if file.suffix == ".sql"]
    settings_file = next((file for file in visible if file.name == SETTINGS_FILE), None)
    shared = (
        {}
        if settings_file is None
        else _shared_settings(settings_file, {_composed(file.name) for file in files})
    )
    pipelines: dict[str, dict[str, Any]] = {}
    origins: dict[str, Path] = {}
    for file in files:
        pipeline = _read(file, shared.get(_composed(file.name), {}), group)
        name = pipeline["pipeline_name"]
        look = unicodedata.normalize("NFKC", name).casefold()
        if look in pipelines:
            other = pipelines[look]["pipeline_name"]
            how = "does" if other == name else f"names {other!r}, which looks the same"
            raise PipelineFileError.at(
                file, None, f"names the pipeline {name!r}, as {origins[look].name} {how}; choose another name"
            )
        pipelines[look], origins[look] = pipeline, file
    return list(pipelines.values())


def _visible_files(folder: Path) -> list[Path]:
    """Return what is in a folder, but for what is hidden: editors and systems leave locks and copies there."""
    try:
        if not folder.is_dir():
            raise PipelineFileError.at(folder, None, "there is no such folder")
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as err:
        raise PipelineFileError.at(folder, None, f"cannot be read: {err.strerror}") from err


def _composed(name: str) -> str:
    """Return a file's name in the form that most systems write: some write é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def _read(file: Path, shared: _Settings, group: str) -> dict[str, Any]:
    settings, query = _settings_and_sql(file, _text_of(file))
    if not query.strip():
        raise PipelineFileError.at(file, None, "has no SQL")
    try:
        check_sql(query)
    except ValueError as err:
        raise PipelineFileError.at(file, None, str(err)) from err
    if settings and shared:
        line, other = min(item.line for item in settings.values()), next(iter(shared.values()))
        raise PipelineFileError.at(
            file,
            line,
            f"this file has settings here and in {other.path.name}, line {other.line}; keep one of the two",
        )
    settings = settings or shared
    values = {name: _checked(name, setting) for name, setting in settings.items()}
    if "pipeline_name" not in values:
        try:
            values["pipeline_name"] = check_pipeline_name(_composed(file.stem), "the file's name")
        except ValueError as err:
            raise PipelineFileError.at(file, None, str(err)) from err
    if "udfs" in values:
        values["udfs"] = [_udf(file.parent / path, settings["udfs"]) for path in values["udfs"]]
    return {"group": group, "query": query, **values}


def _text_of(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():
            # Reading a pipe or a device may never end.
            raise PipelineFileError.at(file, None, "is not a file")
        # Editors write a byte order mark, which Arroyo refuses; what joins files leaves a second one.
        return file.read_text(encoding="utf-8-sig").lstrip("\ufeff")
    except UnicodeDecodeError as err:
        raise PipelineFileError.at(
            file, None, f"is not UTF-8: byte {err.start} is {err.object[err.start]:#x}"
        ) from err
    except OSError as err:
        raise PipelineFileError.at(file, None, f"cannot be read: {err.strerror}") from err


def _settings_and_sql(file: Path, text: str) -> tuple[_Settings, str]:
    """Return the settings in the comment at the top of a file, and the SQL without them."""
    lines = text.split("\n")
    top = next(
        (at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("--")),
        len(lines),
    )
    marks = [at for at, line in enumerate(lines) if _MARK.match(line)]
    other = next((at for at in range(min(top + 1, len(lines))) if _OTHER_MARK.match(lines[at])), None)
    if other is not None:
        raise PipelineFileError.at(file, other + 1, "is not read; settings begin with the line '-- arroyo:'")
    late = next((at for at in marks if at >= top), None)
    if late is not None:
        raise PipelineFileError.at(file, late + 1, "settings must stand above the SQL; move them to the top")
    if not marks:
        return {}, text
    if len(marks) > 1:
        raise PipelineFileError.at(file, marks[1] + 1, f"the settings begin in line {marks[0] + 1} already")
    start = marks[0]
    indent = _indent(lines[start])
    end = start + 1
    while end < top and lines[end].lstrip().startswith("--") and _indent(lines[end]) > indent:
        end += 1
    # What is left of each line keeps its column, which YAML reads as structure.
    block = "\n".join(line.replace("--", "  ", 1) for line in lines[start:end])
    (setting,) = _mapping(file, block, start, what="the settings").values()
    if setting.value is None:
        raise PipelineFileError.at(
            file, start + 1, "has no settings; indent them by spaces, more than 'arroyo:' itself"
        )
    settings = _settings(setting)
    return settings, "\n".join(lines[:start] + lines[end:]).lstrip("\n")


def _indent(line: str) -> float:
    """Return the column in which a comment's text begins; that of an empty comment is beyond all."""
    text = line.replace("--", "  ", 1)
    return len(text) - len(text.lstrip()) if text.strip() else float("inf")


def _shared_settings(path: Path, files: set[str]) -> dict[str, _Settings]:
    found: dict[str, _Settings] = {}
    for name, setting in _mapping(path, _text_of(path), 0, what="the file").items():
        file = _composed(name if name.endswith(".sql") else f"{name}.sql")
        if file not in files:
            raise PipelineFileError.at(
                path, setting.line, f"there is no file {file!r} beside it{_nearest(file, files)}"
            )
        if file in found:
            raise PipelineFileError.at(path, setting.line, f"the settings of {file!r} are here twice")
        found[file] = _settings(setting)
    return found


def _settings(setting: _Setting) -> _Settings:
    """Return the settings of one file; unknown ones are an error that names the nearest known one."""
    value = setting.value
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PipelineFileError.at(
            setting.path, setting.line, "settings must be a mapping, such as parallelism: 2"
        )
    for name, item in value.items():
        if name not in SETTINGS:
            raise PipelineFileError.at(
                setting.path, item.line, f"unknown setting {shorten(name, 80)!r}{_nearest(name, SETTINGS)}"
            )
    return value


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _checked(name: str, setting: _Setting) -> Any:
    value = _plain(setting.value)
    try:
        SETTINGS[name](value, name)
    except ValueError as err:
        raise PipelineFileError.at(setting.path, setting.line, str(err)) from err
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _plain(item.value if isinstance(item, _Setting) else item) for name, item in value.items()
        }
    return value


def _check_tags(value: Any, argument: str) -> dict[str, str]:
    # Needed when a folder is read, not when a DAG is parsed.
    from airflow_provider_arroyo.pipelines.ownership import check_user_tags

    tags = check_string_map(value, argument)
    check_user_tags(tags)
    return tags


def _check_paths(value: Any, argument: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{argument} must be a list of paths of .rs or .py files, got {value!r}")
    for item in value:
        if Path(item).suffix not in _UDF_LANGUAGES:
            raise ValueError(f"{argument} must be paths of .rs or .py files, got {item!r}")
    return value


def _udf(file: Path, setting: _Setting) -> dict[str, str]:
    if not file.is_file():
        raise PipelineFileError.at(setting.path, setting.line, f"there is no file {str(file)!r}")
    text = _text_of(file)
    if not text.strip():
        raise PipelineFileError.at(file, None, "is empty")
    return {"definition": text, "language": _UDF_LANGUAGES[file.suffix]}


# -- YAML, with the line of each setting ---------------------------------------------------------------------------


def _mapping(path: Path, text: str, lines_above: int, *, what: str) -> dict[str, _Setting]:
    """Return the mapping that some YAML is, with the lines of its keys and of the keys below them.

    Only plain values are made: the loader is the safe one. Aliases, which can grow a few lines into gigabytes, are
    refused.

    :param lines_above: how many lines of the file precede the text.
    """
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise PipelineFileError.at(
                    path, event.start_mark.line + lines_above + 1, "YAML aliases are not allowed"
                )
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}
            if not isinstance(node, yaml.MappingNode):
                raise PipelineFileError.at(path, lines_above + 1, f"{what} must be a YAML mapping")
            return _items(loader, node, path, lines_above, depth=2)
        finally:
            loader.dispose()
    except RecursionError as err:
        raise PipelineFileError.at(path, lines_above + 1, "is nested too deeply") from err
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = None if mark is None else mark.line + lines_above + 1
        problem = getattr(err, "problem", None) or str(err)
        raise PipelineFileError.at(path, line, f"is not YAML: {shorten(problem)}") from err


def _items(
    loader: Any, node: yaml.MappingNode, path: Path, lines_above: int, *, depth: int
) -> dict[str, _Setting]:
    """Return a mapping node's items; those of mappings in it, down to a depth, with their lines as well."""
    found: dict[str, _Setting] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + lines_above + 1
        key = _made(loader, key_node, path, line)
        if not isinstance(key, str):
            raise PipelineFileError.at(path, line, f"keys must be strings, got {key!r}; put quotes around it")
        if key in found:
            raise PipelineFileError.at(path, line, f"{key!r} is in line {found[key].line} already")
        if depth > 1 and isinstance(value_node, yaml.MappingNode):
            value: Any = _items(loader, value_node, path, lines_above, depth=depth - 1)
        else:
            value = _made(loader, value_node, path, line)
        found[key] = _Setting(value, path, line)
    return found


def _made(loader: Any, node: yaml.Node, path: Path, line: int) -> Any:
    """Return the value of a node."""
    try:
        return loader.construct_object(node, deep=True)
    except (AttributeError, LookupError, TypeError, ValueError) as err:
        # Such as a date that no calendar has, or a tag on what is not of its type.
        text = str(getattr(node, "value", ""))
        raise PipelineFileError.at(path, line, f"{shorten(text, 80)!r} is not a YAML value: {err}") from err
