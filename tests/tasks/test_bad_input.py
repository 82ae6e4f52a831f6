"""Mistakes of DAG authors: errors name the argument before any request, or say what to do next.

For numbers see ``test_numbers.py``.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import ENDLESS

from .harness import DEFERRED, SYNC, Make, deploy, run_task, sense, stop, submit


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pipeline_name": ""}, "pipeline_name must not be empty"),
        ({"query": "  "}, "query must be a non-empty string"),
        ({"pipeline_id": "None"}, "pipeline_id must not be empty, got 'None'"),
        ({"pipeline_id": " "}, "pipeline_id must not be empty"),
        ({"pipeline_id": 7}, "pipeline_id must be a string, got int"),
        ({"pipeline_name": "None"}, "pipeline_name must not be empty, got 'None'"),
        ({"wait_for": "Stopped"}, "wait_for must be one of 'Running', 'Finished'"),
        ({"until_checkpoint": "yes"}, "until_checkpoint must be True or False"),
        ({"until_checkpoint": True, "wait_for": "Finished"}, "until_checkpoint needs a wait for 'Running'"),
        ({"until_checkpoint": True, "wait_for": None}, "until_checkpoint needs a wait for 'Running'"),
        ({"on_existing": "keep"}, "on_existing must be one of 'adopt'"),
        ({"stop_on_kill": "none"}, "stop_on_kill must be one of 'checkpoint'"),
        ({"udfs": [""]}, "udfs[0].definition must be"),
        ({"udfs": "fn f() {}"}, "udfs must be a list"),
        ({"tags": {"a": 1}}, "tags must map strings to strings"),
        ({"tags": {"airflow.key": "x"}}, "names that begin with 'airflow.' are reserved"),
        ({"pipeline_name": "a\0b"}, "pipeline_name must not contain U+0000"),
        ({"query": "SELECT 1;\n-- \udcff"}, "query must not contain U+DCFF"),
    ],
)
def test_an_invalid_argument_of_submit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        submit(**arguments)()


@pytest.mark.parametrize(
    "make, message",
    [
        (stop(None), "exactly one of pipeline_id and pipeline_name must be given, got neither"),
        (stop("pl_1", pipeline_name="x"), "got both"),
        (stop("pl_1", mode="softly"), "mode must be one of 'checkpoint', 'graceful'"),
        (stop("pl_1", mode="none"), "mode must be one of"),
        (stop("pl_1", if_missing="skip"), "if_missing must be one of 'fail', 'succeed'"),
        (stop("pl_1", wait_for_completion=False, require_checkpoint=True), "require_checkpoint needs"),
        (stop("pl_1", if_finishing="wait"), "if_finishing must be one of 'fail', 'immediate'"),
        (
            stop("pl_1", require_checkpoint=True, if_finishing="immediate"),
            "require_checkpoint needs if_finishing",
        ),
        (sense(), "got neither"),
        (sense("pl_1", "running"), "'running' is not a state of Arroyo; allowed: Created"),
        (sense("pl_1", target_states=[]), "target_states: needs at least one state"),
        (sense("pl_1", "{{ x }}", "Runing"), "target_states: 'Runing' is not a state"),
        *((sense("pl_1", target_states=states), "target_states") for states in (None, 3)),
        (sense("pl_1", "Stopped", until_checkpoint=True), "until_checkpoint needs a wait for 'Running'"),
        (sense("pl_1", restart_window=60), "max_restarts, which must be given"),
        (sense("pl_1", succeed_on_timeout="yes"), "succeed_on_timeout must be"),
        (sense("pl_1", succeed_on_timeout=True), "target_states must not contain Running"),
        (
            sense("pl_1", "Stopped", "Finishing", succeed_on_timeout=True),
            "target_states must not contain Running",
        ),
    ],
)
def test_an_invalid_argument_of_stop_and_sensor(make: Make, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "make, rendered, message",
    [
        (submit(pipeline_name="{{ x }}"), {"pipeline_name": " "}, "pipeline_name must not be empty"),
        (submit(pipeline_name="{{ x }}"), {"pipeline_name": "None"}, "pipeline_name must not be empty"),
        (submit(pipeline_id="{{ x }}"), {"pipeline_id": "None"}, "pipeline_id must not be empty"),
        (submit(pipeline_id="{{ x }}"), {"pipeline_id": None}, "pipeline_id must be a string, got NoneType"),
        (submit(pipeline_id="{{ x }}"), {"pipeline_id": ""}, "pipeline_id must not be empty"),
        (stop("{{ x }}"), {"pipeline_id": "\ud800"}, "pipeline_id must not contain U+D800"),
        (sense("{{ x }}"), {"pipeline_id": ".."}, "pipeline_id must not be '..'"),
        (submit(pipeline_id="{{ x }}"), {"pipeline_id": ".."}, "pipeline_id must not be '..'"),
        (stop("{{ x }}", if_missing="succeed"), {"pipeline_id": "null"}, "pipeline_id must not be empty"),
        (stop("{{ x }}", if_missing="succeed"), {"pipeline_id": "pl_1\n"}, "not have white space around it"),
        (stop("{{ x }}", if_missing="succeed"), {"pipeline_id": "[]"}, "pipeline_id must not be empty"),
        (
            stop("{{ x }}", if_missing="succeed"),
            {"pipeline_id": "['pl_1']"},
            "looks like a list or a mapping",
        ),
        (sense("{{ x }}"), {"pipeline_id": "{'pipeline_id': 'pl_1'}"}, "looks like a list or a mapping"),
        (submit(pipeline_id="{{ x }}"), {"pipeline_id": "('pl_1',)"}, "looks like a list or a mapping"),
        (submit(pipeline_name="{{ x }}"), {"pipeline_name": "nan"}, "pipeline_name must not be empty"),
        *(
            (make, {"pipeline_name": "n\n"}, r"pipeline_name must not have white space around it, got 'n\n'")
            for make in (
                submit(pipeline_name="{{ x }}"),
                deploy(pipeline_name="{{ x }}"),
                stop(None, pipeline_name="{{ x }}", if_missing="succeed"),
                sense(None, "Running", pipeline_name="{{ x }}"),
            )
        ),
        (deploy(group="{{ x }}"), {"group": "None"}, "group must not be empty"),
        (deploy(pipeline_name="{{ x }}"), {"pipeline_name": "None"}, "pipeline_name must not be empty"),
        (
            sense("pl_1", "{{ x }}", until_checkpoint=True),
            {"target_states": ["Stopped"]},
            "until_checkpoint needs a wait",
        ),
        (
            sense("pl_1", "{{ x }}", succeed_on_timeout=True),
            {"target_states": ["Running"]},
            "target_states must not contain Running",
        ),
        (stop("{{ x }}"), {"pipeline_id": "None"}, "pipeline_id must not be empty"),
        (stop("pl", mode="{{ x }}"), {"mode": "x"}, "mode must be one of"),
        (
            stop("pl", require_checkpoint=True),
            {"mode": "force"},
            "require_checkpoint needs mode 'checkpoint'",
        ),
        (sense("pl", "{{ x }}"), {"target_states": ["Up"]}, "target_states: 'Up' is not a state"),
        (submit(tags="{{ x }}"), {"tags": {"airflow.key": "x"}}, "airflow.key"),
    ],
)
def test_an_invalid_rendered_argument_is_fatal_before_any_request(
    make: Make, rendered: dict[str, Any], message: str, sandbox: ArroyoSandbox
) -> None:
    def rendering(**mode: Any) -> Any:
        operator = make(**mode)
        for name, value in rendered.items():
            setattr(operator, name, value)
        return operator

    ended = run_task(rendering, SYNC)
    assert isinstance(ended.error, ArroyoArgumentError)
    assert isinstance(ended.error, ValueError)
    assert message in str(ended.error)
    assert sandbox.requests.total == 0


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_sql_that_arroyo_refuses_is_fatal_and_the_place_is_marked(sandbox: ArroyoSandbox) -> None:
    second = "INSERT INTO sink SELECT n FROM nowhere;"
    ended = run_task(submit(f"CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\n{second}"), SYNC)
    assert isinstance(ended.error, ArroyoFatalTaskError)
    text = str(ended.error)
    assert "nowhere" in text
    if sandbox.arroyo_version == "0.16":
        assert "line 2, column 32" in text
        lines = text.splitlines()
        marked = lines[lines.index(f"  line 2 | {second}") + 1]
        assert marked.index("^") == len("  line 2 | ") + second.index("nowhere")


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_sql_that_does_not_parse_shows_its_own_line_on_both_versions(sandbox: ArroyoSandbox) -> None:
    ended = run_task(submit("SELEC 1"), SYNC)
    assert isinstance(ended.error, ArroyoFatalTaskError)
    assert "Line: 1, Column: 1" in str(ended.error)
    assert "  line 1 | SELEC 1\n           ^" in str(ended.error)


@pytest.mark.parametrize("key", [None, "wrong-secret"])
def test_a_refused_key_is_fatal_and_never_shown(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with ArroyoSandbox(arroyo_version="0.16", api_key="right-secret") as sandbox:
        login = f":{key}@" if key else ""
        monkeypatch.setenv("AIRFLOW_CONN_ARROYO_DEFAULT", f"arroyo://{login}127.0.0.1:{sandbox.port}/http")
        for mode in (SYNC, DEFERRED):
            ended = run_task(sense("pl"), mode)
            assert isinstance(ended.error, ArroyoFatalTaskError)
            text = str(ended.error) + repr(ended.error.__context__) + str(ended.lines)
            assert "401" in text
            assert "Authorization" in text
            assert "arroyo_default" in text
            assert "secret" not in text
        assert sandbox.requests.count() == 2


def test_an_address_of_another_service_is_reported_with_the_response(sandbox: ArroyoSandbox) -> None:
    sandbox.faults.not_json(times=None)
    ended = run_task(sense("pl", api_outage_tolerance=2), SYNC)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "This address does not look like Arroyo" in str(ended.error), (str(ended.error), ended.lines)
    assert "Sign in" in str(ended.error)


def test_a_missing_connection_is_named(sandbox: ArroyoSandbox) -> None:
    """Airflow reports the same if a look-up fails temporarily, so the task is retried."""
    ended = run_task(sense("pl", arroyo_conn_id="nope"), SYNC)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "There is no Airflow connection 'nope', or Airflow could not look it up" in str(ended.error)


@pytest.mark.arroyo_versions("0.15", "0.16")
@pytest.mark.parametrize(
    "name",
    ['it\'s "quoted"', "two\nlines", "<b>html</b>", "тест 流 🌊", "{ { braces }}", "x" * 5000],
    ids=["quotes", "lines", "html", "unicode", "braces", "long"],
)
def test_unusual_names_and_sql_are_unchanged(name: str, sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    query = f"-- {name[:50].splitlines()[0]}\n{ENDLESS}"
    ended = run_task(submit(query, pipeline_name=name, stable_for=0), SYNC)
    assert ended.error is None, ended.error
    made = client.get_pipeline(ended.result["pipeline_id"])
    assert made.name == name
    assert made.query.endswith(query)


def test_a_megabyte_of_sql_is_accepted_and_two_are_too_large(sandbox: ArroyoSandbox) -> None:
    def submitted(size: int) -> BaseException | None:
        return run_task(submit(f"-- {'x' * size}\n{ENDLESS}", stable_for=0), SYNC).error

    assert submitted(1024 * 1024) is None
    too_large = submitted(2 * 1024 * 1024)
    assert isinstance(too_large, ArroyoTaskError | ArroyoFatalTaskError)
    assert "2 MB" in str(too_large)
