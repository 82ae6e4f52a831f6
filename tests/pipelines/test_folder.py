"""A folder of SQL files that describe pipelines, and the errors about mistakes in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_arroyo.pipelines.folder import PipelineFileError, pipelines_from_folder
from tests.support import ENDLESS

BLOCK = "-- arroyo:\n--   parallelism: 2\n--   tags: {team: shop}\n--\n--   checkpoint_interval: 1.5\n"


def write(folder: Path, **files: str) -> Path:
    """Write files named by the keywords, in which ``__`` stands for a dot."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_each_file_is_one_pipeline(tmp_path: Path) -> None:
    write(tmp_path, b__sql=BLOCK + ENDLESS, a__sql=ENDLESS, readme__md="no SQL", c__sql="\ufeff" + ENDLESS)
    for unread in (".old", "docs"):
        (tmp_path / unread).mkdir()
    write(tmp_path / ".old", z__sql=ENDLESS)
    write(tmp_path / "docs", readme__md="no SQL", __z__sql="hidden")
    found = pipelines_from_folder(tmp_path, group="shop")
    assert found == [
        {"group": "shop", "pipeline_name": "a", "query": ENDLESS},
        {
            "group": "shop",
            "pipeline_name": "b",
            "query": ENDLESS,
            "parallelism": 2,
            "tags": {"team": "shop"},
            "checkpoint_interval": 1.5,
        },
        {"group": "shop", "pipeline_name": "c", "query": ENDLESS},
    ]
    assert json.loads(json.dumps(found)) == found


def test_the_settings_are_not_part_of_the_sql(tmp_path: Path) -> None:
    """Otherwise, a new parallelism would replace the pipeline."""
    texts = (
        "-- Orders, by minute.\n" + BLOCK + "-- Since March.\n" + ENDLESS,
        "-- Orders, by minute.\n-- arroyo: {parallelism: 4}\n-- Since March.\n" + ENDLESS,
        "-- Orders, by minute.\n-- Since March.\n" + ENDLESS,
    )
    write(tmp_path, **{f"q{number}__sql": text for number, text in enumerate(texts)})
    assert {one["query"] for one in pipelines_from_folder(tmp_path)} == {texts[-1]}


def test_settings_may_be_in_one_separate_file(tmp_path: Path) -> None:
    yaml = "a:\n  parallelism: 3\nb.sql:\n  pipeline_name: orders\n  keep_old: true\n  max_restarts: 3\nc:\n"
    write(tmp_path, a__sql=ENDLESS, b__sql=ENDLESS, c__sql=ENDLESS, pipelines__yaml=yaml)
    a, b, c = pipelines_from_folder(tmp_path)
    assert (a["pipeline_name"], a["parallelism"]) == ("a", 3)
    assert (b["pipeline_name"], b["keep_old"], b["max_restarts"]) == ("orders", True, 3)
    assert c == {"group": "default", "pipeline_name": "c", "query": ENDLESS}


def test_udfs_are_read_from_their_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        a__sql="-- arroyo: {udfs: [double.rs, half.py]}\n" + ENDLESS,
        double__rs="fn",
        half__py="def",
    )
    (found,) = pipelines_from_folder(tmp_path)
    assert found["udfs"] == [
        {"definition": "fn", "language": "rust"},
        {"definition": "def", "language": "python"},
    ]


def test_an_empty_folder_has_no_pipelines_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert pipelines_from_folder(tmp_path, group="shop") == []
    assert f"No .sql files in {tmp_path}, so group shop has no pipelines" in caplog.text


SQL = "\n" + ENDLESS
BLOCKS = {
    "unknown setting": (
        "-- x\n-- arroyo:\n--   paralelism: 2",
        "line 3: unknown setting 'paralelism'; did you mean",
    ),
    "two blocks": ("-- arroyo: {}\n-- arroyo: {}", "line 2: the settings already begin in line 1"),
    "no mapping": ("-- arroyo: 5", "a.sql, line 1: settings must be a mapping"),
    "no YAML": ("\n-- arroyo:\n--   tags: {a: 'b", "a.sql, line 3: is not YAML"),
    "a long name": (
        f"-- arroyo: {{pipeline_name: {'x' * 201}}}",
        "line 1: pipeline_name must have at most 200",
    ),
    "a name with a line end": (
        '-- arroyo: {pipeline_name: "a\\nb"}',
        "line 1: pipeline_name must be one line",
    ),
    "not indented": ("-- arroyo:\n-- parallelism: 2", "line 1: has no settings; indent them"),
    "indented by a tab": ("-- arroyo:\n--\tparallelism: 2", "line 1: has no settings; indent them"),
    "a capital letter": ("-- Arroyo:\n--   parallelism: 0", "line 2: parallelism must be"),
    "a block comment": (
        "/* arroyo:\n     timeout: 1 */",
        "line 1: is not read; settings begin with the line '-- a",
    ),
    "three dashes": (
        "-- x\n--- arroyo:\n---   timeout: 1",
        "line 2: is not read; settings begin with the line",
    ),
}
SETTINGS = {
    "nothing near": ("zzz: 2", "line 2: unknown setting 'zzz'; known: allow_state_loss, "),
    "wrong value": ("tags: {}\n--   parallelism: 0", "line 3: parallelism must be an integer"),
    "wrong type": ("pipeline_name: 7", "line 2: pipeline_name must be a string, got int"),
    "a date": ("timeout: 2026-01-01", "line 2: '2026-01-01' is ambiguous in YAML; put quotes"),
    "a country": ("tags:\n--     team: a\n--     country: no", "line 4: 'no' is ambiguous"),
    "one tag twice": ("tags:\n--     team: a\n--     'team': b", "line 4: 'team' already occurs in line 3"),
    "not indented any more": (
        "timeout: 1\n-- allow_state_loss: true",
        "line 3: is below the settings and not read; indent it like them",
    ),
    "after an empty line": ("timeout: 1\n\n--   keep_old: true", "line 4: is below the settings"),
    "strategy": ("strategy: blue_green", "line 2: strategy must be one of 'stop_first', "),
    "text for a flag": ("keep_old: 'no'", "line 2: keep_old must be True or False"),
    "twice": ("timeout: 1\n--   timeout: 2", "line 3: 'timeout' already occurs in line 2"),
    "a tab": ("tags: a\n--   \tb: c", "a.sql, line 3: is not YAML"),
    "python": (
        "tags: !!python/object/apply:os.system [ls]",
        "line 2: YAML tags such as !!python/object/apply:os.system are not allowed",
    ),
    "no time": ("timeout: 0", "line 2: timeout must be a timedelta or a number of seconds, more"),
    "a reserved tag": ("tags: {airflow.dag: x}", "line 2: tags: names that begin with 'airflow.'"),
    "no UDF": ("udfs: [x.rs]", "line 2: there is no file '"),
    "UDF of another kind": ("udfs: [x.js]", "line 2: udfs must be paths of .rs or .py files"),
}
"""What follows the line of a block, indented."""
FILES = {
    "below the SQL": (
        {"a__sql": "SELECT 1;\n-- arroyo:\n--   timeout: 1"},
        "a.sql, line 2: settings must come",
    ),
    "no SQL": ({"a__sql": "-- arroyo: {}\n \n"}, "a.sql: has no SQL"),
    "only comments": ({"a__sql": "-- to do\n/* later\n */ ;\n--"}, "a.sql: has no SQL"),
    "no colon": (
        {"a__sql": "-- Copyright\n-- Arroyo\n--   parallelism: 2\n" + ENDLESS},
        "a.sql, line 2: is not read; settings begin with the line '-- arroyo:'",
    ),
    "one name twice": (
        {"a__sql": SQL, "b__sql": "-- arroyo: {pipeline_name: a}" + SQL},
        "b.sql: names the pipeline 'a', as a.sql does",
    ),
    "an empty UDF": ({"a__sql": "-- arroyo:\n--   udfs: [x.rs]" + SQL, "x__rs": " "}, "x.rs: is empty"),
    "settings twice": (
        {"a__sql": "-- arroyo: {timeout: 1}" + SQL, "pipelines__yaml": "a: {timeout: 2}"},
        "a.sql, line 1: this file has settings here and in pipelines.yaml, line 1",
    ),
    "settings without a file": (
        {"orders__sql": SQL, "pipelines__yaml": "\norder: {timeout: 2}"},
        "pipelines.yaml, line 2: there is no file 'order.sql' next to it; did you mean 'orders.sql'?",
    ),
    "a file twice": (
        {"a__sql": SQL, "pipelines__yaml": "a: {}\na.sql: {}"},
        "line 2: the settings of 'a.sql' occur",
    ),
    "settings that are not read": (
        {"a__sql": SQL, "pipelines__yml": "a: {timeout: 2}"},
        "pipelines.yml: is not read; rename it",
    ),
    "SQL that is not read": ({"a__sql": SQL, "b__SQL": SQL}, "b.SQL: is not read; rename it"),
    "settings in capitals": (
        {"a__sql": SQL, "Pipelines__yaml": "a: {}"},
        "Pipelines.yaml: is not read; rename it",
    ),
    "one pipeline's settings": (
        {"a__sql": SQL, "pipeline__yaml": "a: {}"},
        "pipeline.yaml: is not read; rename it",
    ),
    "UTF-16": ({"a__sql": "S\0E\0L\0"}, "a.sql: query must not contain U+0000"),
    "one name but for case": (
        {"a__sql": SQL, "b__sql": "-- arroyo: {pipeline_name: A}" + SQL},
        "b.sql: names the pipeline 'A', as a.sql names 'a', which looks the same; choose another name",
    ),
    "one name but for an accent of its own": (
        {
            "a__sql": '-- arroyo: {pipeline_name: "\\u00e9"}' + SQL,
            "b__sql": '-- arroyo: {pipeline_name: "e\\u0301"}' + SQL,
        },
        "which looks the same",
    ),
    "a list": (
        {"a__sql": SQL, "pipelines__yaml": "- a"},
        "pipelines.yaml, line 1: must be a YAML mapping",
    ),
}
BLOCKS |= {name: (f"-- arroyo:\n--   {text}", words) for name, (text, words) in SETTINGS.items()}
BAD = {name: ({"a__sql": block + SQL}, words) for name, (block, words) in BLOCKS.items()} | FILES


@pytest.mark.parametrize("name", BAD)
def test_an_error_names_file_and_line(name: str, tmp_path: Path) -> None:
    files, words = BAD[name]
    with pytest.raises(PipelineFileError) as caught:
        pipelines_from_folder(write(tmp_path, **files))
    assert str(caught.value).startswith(str(tmp_path))
    assert words in str(caught.value)


def test_files_that_are_not_text_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"SELECT '\xff'")
    with pytest.raises(PipelineFileError, match=r"a\.sql: is not UTF-8: byte 8 is 0xff"):
        pipelines_from_folder(tmp_path)
    with pytest.raises(PipelineFileError, match="there is no such folder"):
        pipelines_from_folder(tmp_path / "none")


def test_hidden_files_are_not_read(tmp_path: Path) -> None:
    """Systems and editors leave copies and locks beside a file; a lock is a link that leads nowhere."""
    write(tmp_path, a__sql=ENDLESS, __b__sql=ENDLESS, __pipelines__yml="x")
    (tmp_path / "._a.sql").write_bytes(b"\0\5\x16\7\xff")
    (tmp_path / ".#a.sql").symlink_to("somebody@host.123")
    assert [one["pipeline_name"] for one in pipelines_from_folder(tmp_path)] == ["a"]


@pytest.mark.parametrize("below", ["shop/a.sql", "x/y/A.SQL"])
def test_a_file_in_a_subfolder_is_an_error(below: str, tmp_path: Path) -> None:
    """Otherwise, its pipeline would be pruned."""
    write(tmp_path, b__sql=ENDLESS)
    (tmp_path / below).parent.mkdir(parents=True)
    (tmp_path / below).write_text(ENDLESS)
    with pytest.raises(PipelineFileError) as caught:
        pipelines_from_folder(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / below}: is in a subfolder, which is not read; move it into"
    )
    (tmp_path / below).rename(tmp_path / "a.sql")
    assert [one["pipeline_name"] for one in pipelines_from_folder(tmp_path)] == ["a", "b"]


def test_a_name_is_the_same_however_its_accents_are_written(tmp_path: Path) -> None:
    """Otherwise, a file that another system wrote again would become a second pipeline."""
    write(
        tmp_path,
        **{"cafe\u0301__sql": "\ufeff\ufeff" + ENDLESS, "pipelines__yaml": "caf\u00e9: {parallelism: 2}"},
    )
    (found,) = pipelines_from_folder(tmp_path)
    assert found == {"group": "default", "pipeline_name": "caf\u00e9", "query": ENDLESS, "parallelism": 2}


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (lambda folder: os.mkfifo(folder / "a.sql"), "a.sql: is not a file"),
    "a folder": (lambda folder: (folder / "a.sql").mkdir(), "a.sql: is not a file"),
    "a loop": (
        lambda folder: (folder / "a.sql").symlink_to("a.sql"),
        "a.sql: cannot be read: Too many levels",
    ),
    "a link to nothing": (
        lambda folder: (folder / "a.sql").symlink_to("x"),
        "a.sql: cannot be read: No such file",
    ),
    "settings that are not there": (
        lambda folder: (folder / "pipelines.yaml").symlink_to("x"),
        "pipelines.yaml: cannot be read: No such file",
    ),
    "a name that is not UTF-8": (
        lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.sql")).write_text(ENDLESS),
        "caf\\udce9.sql: the file's name must not contain U+DCE9",
    ),
}


@pytest.mark.parametrize("what", NO_FILES)
def test_an_unreadable_file_is_an_error_that_says_why(what: str, tmp_path: Path) -> None:
    make, words = NO_FILES[what]
    make(tmp_path)
    with pytest.raises(PipelineFileError) as caught:
        pipelines_from_folder(tmp_path)
    assert words in str(caught.value).encode().decode()


@pytest.mark.parametrize(
    "given, words",
    [
        ({"path": ""}, "path must be a non-empty string"),
        ({"path": None}, "path must be the path of a folder, got None"),
        ({"path": "x" * 5000}, "cannot be read: File name too long"),
        ({"group": " shop"}, "group must not have white space around it, got ' shop'"),
        ({"group": "x" * 201}, "group must have at most 200 characters"),
    ],
)
def test_an_invalid_path_or_group_is_refused(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        pipelines_from_folder(**{"path": tmp_path, **given})


def test_line_ends_of_other_systems_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes((BLOCK + ENDLESS).replace("\n", "\r\n").encode())
    (found,) = pipelines_from_folder(tmp_path)
    assert (found["parallelism"], found["query"]) == (2, ENDLESS)
