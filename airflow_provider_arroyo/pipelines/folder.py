"""Reads a folder of SQL files as pipelines: one for each file, with its settings next to the SQL."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from airflow_provider_arroyo.client.checks import check_sql, check_text
from airflow_provider_arroyo.client.names import check_pipeline_name
from airflow_provider_arroyo.pipelines.file_settings import (
    SETTINGS,
    UDF_LANGUAGES,
    FileSettings,
    PipelineFileError,
    items_by_name,
    nearest,
    settings_of,
)

__all__ = ["PipelineFileError", "pipelines_from_folder"]

_log = logging.getLogger(__name__)

SETTINGS_FILE = "pipelines.yaml"
_LIKELY_SETTINGS_FILES = (SETTINGS_FILE, "pipelines.yml", "pipeline.yaml", "pipeline.yml")
_MARK = r"\s*--\s*(?:arroyo\s*:|(?i:arroyo)\s*:\s*$)"
_OTHER_MARK = r"(?i)\s*(?:(?:/\*+|-{3,}|#)\s*arroyo\s*:|--\s*arroyo\s*$)"
_COMMENT = r"(?s)--[^\n]*|/\*.*?\*/"
_COMMENTED_SETTING = r"\s*--\s*(\w+)\s*:(?:\s|$)"


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
    arguments. Durations are seconds, and ``udfs`` are paths of ``.rs`` and ``.py`` files in the folder. Values that
    YAML versions read differently, such as ``010``, ``1:30`` or ``no``, are errors; put quotes around such text.

    If you rename a file, the new name means another pipeline, which starts without state. To keep the pipeline, give
    the file the setting ``pipeline_name`` with the old name.

    The SQL and ``env_vars`` pass through Airflow's XComs in plain text, so put no secrets there. The files are not
    rendered as Jinja templates, so you can use Arroyo's own variables, ``{{ NAME }}``, for secrets.

    :param path: the folder; names that begin with a dot are skipped. A relative path is relative to the worker's
        current directory, so begin with ``Path(__file__).parent``.
    :param group: the group of all its pipelines, default ``default``.
    :returns: one mapping for each file; an empty list for a folder without ``.sql`` files.
    :raises PipelineFileError: if a setting is unknown, invalid or given twice, if a file is not UTF-8 or contains no
        SQL, if a subfolder contains SQL, or if two files name the same pipeline, or pipelines whose names look the
        same; names the file and line.
    :raises ValueError: if the group or the path is not a string, or is empty.
    """
    check_pipeline_name(group, "group")
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path must be the path of a folder, got {path!r}")
    folder = Path(check_text(os.fspath(path), "path"))
    visible = _visible_files(folder)
    _check_subfolders(folder)
    for file in visible:
        lower = file.name.lower()
        if (lower in _LIKELY_SETTINGS_FILES and file.name != SETTINGS_FILE) or (
            lower.endswith(".sql") and file.suffix != ".sql"
        ):
            raise PipelineFileError.at(
                file, f"is not read; rename it: SQL ends in .sql, settings are in {SETTINGS_FILE}"
            )
    files = [file for file in visible if file.suffix == ".sql"]
    if not files:
        _log.warning("No .sql files in %s, so group %s has no pipelines: check the path", folder, group)
    settings_file = next((file for file in visible if file.name == SETTINGS_FILE), None)
    names = {_composed(file.name) for file in files}
    shared = _shared_settings(settings_file, names) if settings_file is not None else {}
    pipelines: dict[str, dict[str, Any]] = {}
    origins: dict[str, Path] = {}
    for file in files:
        pipeline = _read(file, shared.get(_composed(file.name)), group)
        name = pipeline["pipeline_name"]
        look = unicodedata.normalize("NFKC", name).casefold()
        if look in pipelines:
            other = pipelines[look]["pipeline_name"]
            how = "does" if other == name else f"names {other!r}, which looks the same"
            raise PipelineFileError.at(
                file, f"names the pipeline {name!r}, as {origins[look].name} {how}; choose another name"
            )
        pipelines[look], origins[look] = pipeline, file
    return list(pipelines.values())


def _visible_files(folder: Path) -> list[Path]:
    """Return the files in a folder, except hidden ones: editors and systems store locks and copies as such."""
    try:
        if not folder.is_dir():
            raise PipelineFileError.at(folder, "there is no such folder")
        return sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as err:
        raise PipelineFileError.at(folder, f"cannot be read: {err.strerror}") from err


def _check_subfolders(folder: Path) -> None:
    """Check that no subfolder contains SQL: a file moved there would be missed, and a prune delete its pipeline."""
    for path, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        hidden = [name for name in sorted(files) if name.lower().endswith(".sql") and name[0] != "."]
        if hidden and Path(path) != folder:
            raise PipelineFileError.at(
                Path(path, hidden[0]),
                f"is in a subfolder, which is not read; move it into {folder.name!r} itself, or begin the "
                "subfolder's name with a dot if the SQL in it is not to be deployed",
            )


def _composed(name: str) -> str:
    """Return a file's name in composed Unicode form, as most systems write it; some write é as e and an accent."""
    return unicodedata.normalize("NFC", name)


def _read(file: Path, shared: FileSettings | None, group: str) -> dict[str, Any]:
    settings, query = _settings_and_sql(file, _text_of(file))
    if not re.sub(_COMMENT, "", query).strip(" \t\r\n;"):
        raise PipelineFileError.at(file, "has no SQL")
    try:
        check_sql(query)
    except ValueError as err:
        raise PipelineFileError.at(file, str(err)) from err
    if settings.items and shared is not None and shared.items:
        line, other = min(item.line for item in settings.items.values()), next(iter(shared.items.values()))
        raise PipelineFileError.at(
            file,
            f"this file has settings here and in {shared.path.name}, line {other.line}; keep one of the two",
            line,
        )
    if not settings.items and shared is not None:
        settings = shared
    values = settings.checked()
    if "pipeline_name" not in values:
        try:
            values["pipeline_name"] = check_pipeline_name(_composed(file.stem), "the file's name")
        except ValueError as err:
            raise PipelineFileError.at(file, str(err)) from err
    if "udfs" in values:
        values["udfs"] = [_udf(file.parent / path, settings) for path in values["udfs"]]
    return {"group": group, "query": query, **values}


def _text_of(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():
            # Reading a pipe or a device may never end.
            raise PipelineFileError.at(file, "is not a file")
        # Editors write a byte order mark, which Arroyo refuses; joining files leaves a second one.
        return file.read_text(encoding="utf-8-sig").lstrip("\ufeff")
    except UnicodeDecodeError as err:
        raise PipelineFileError.at(
            file, f"is not UTF-8: byte {err.start} is {err.object[err.start]:#x}"
        ) from err
    except OSError as err:
        raise PipelineFileError.at(file, f"cannot be read: {err.strerror}") from err


def _settings_and_sql(file: Path, text: str) -> tuple[FileSettings, str]:
    """Return the settings in the comment at the top of a file, and the rest of the SQL."""
    lines = text.split("\n")
    top = next(
        (at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("--")),
        len(lines),
    )
    marks = [at for at, line in enumerate(lines) if re.match(_MARK, line)]
    other = next((at for at in range(min(top + 1, len(lines))) if re.match(_OTHER_MARK, lines[at])), None)
    if other is not None:
        raise PipelineFileError.at(file, "is not read; settings begin with the line '-- arroyo:'", other + 1)
    late = next((at for at in marks if at >= top), None)
    if late is not None:
        raise PipelineFileError.at(file, "settings must come before the SQL; move them to the top", late + 1)
    if not marks:
        return FileSettings(file, {}), text
    if len(marks) > 1:
        raise PipelineFileError.at(file, f"the settings already begin in line {marks[0] + 1}", marks[1] + 1)
    start = marks[0]
    indent = _indent(lines[start])
    end = start + 1
    while end < top and lines[end].lstrip().startswith("--") and _indent(lines[end]) > indent:
        end += 1
    # The settings keep their lines and columns, since YAML reads indentation as structure.
    block = "\n" * start + "\n".join(line.replace("--", "  ", 1) for line in lines[start:end])
    (item,) = items_by_name(file, block).values()
    if item.value is None:
        raise PipelineFileError.at(
            file, "has no settings; indent them by spaces, more than 'arroyo:' itself", start + 1
        )
    left = next((at for at in range(end, top) if _names_setting(lines[at])), None)
    if left is not None:
        raise PipelineFileError.at(
            file,
            "is below the settings and not read; indent it like them, without an empty line in between",
            left + 1,
        )
    return settings_of(file, item), "\n".join(lines[:start] + lines[end:]).lstrip("\n")


def _names_setting(comment: str) -> bool:
    found = re.match(_COMMENTED_SETTING, comment)
    return found is not None and found[1] in SETTINGS


def _indent(line: str) -> float:
    """Return the column in which a comment's text begins; an empty comment counts as infinitely indented."""
    text = line.replace("--", "  ", 1)
    return len(text) - len(text.lstrip()) if text.strip() else float("inf")


def _shared_settings(path: Path, files: set[str]) -> dict[str, FileSettings]:
    found: dict[str, FileSettings] = {}
    for name, item in items_by_name(path, _text_of(path)).items():
        file = _composed(name if name.endswith(".sql") else f"{name}.sql")
        if file not in files:
            raise PipelineFileError.at(
                path, f"there is no file {file!r} next to it{nearest(file, files)}", item.line
            )
        if file in found:
            raise PipelineFileError.at(path, f"the settings of {file!r} occur twice", item.line)
        found[file] = settings_of(path, item)
    return found


def _udf(file: Path, settings: FileSettings) -> dict[str, str]:
    if not file.is_file():
        raise settings.error("udfs", f"there is no file {str(file)!r}")
    text = _text_of(file)
    if not text.strip():
        raise PipelineFileError.at(file, "is empty")
    return {"definition": text, "language": UDF_LANGUAGES[file.suffix]}
