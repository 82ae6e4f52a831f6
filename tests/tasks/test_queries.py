"""Validating SQL, and previewing its rows: both in the worker."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_arroyo.client.details import OutputBatch
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import ArroyoPreviewQueryOperator, ArroyoValidateQueryOperator
from airflow_provider_arroyo.pipelines.preview import Preview
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests import canaries
from tests.support import ENDLESS

from .harness import FakeTaskInstance

ROWS = """\
CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '50');
SELECT counter, counter * 2 AS double FROM impulse;"""
FEW_ROWS = ROWS.replace("'50'", "'10', message_count = '300'")
"""They last until the clock is advanced, even on a slow machine; Arroyo ends a preview after a minute."""
REFUSED = """\
CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '50');
SELECT nothing FROM impulse;"""
MISSING_FILE = """\
CREATE TABLE input (n BIGINT) WITH
  (connector = 'single_file', path = '/nonexistent/input.json', format = 'json', type = 'source');
SELECT n FROM input;"""


def validate(query: str, **more: Any) -> ArroyoValidateQueryOperator:
    return ArroyoValidateQueryOperator(task_id="a_task", query=query, **more)


def preview(query: str = ROWS, **more: Any) -> ArroyoPreviewQueryOperator:
    return ArroyoPreviewQueryOperator(
        task_id="a_task", **{"query": query, "max_rows": 5, "timeout": 20, **more}
    )


def run(operator: Any, ti: FakeTaskInstance | None = None) -> Any:
    return operator.execute({"ti": ti or FakeTaskInstance()})


def stops(sandbox: ArroyoSandbox) -> list[Any]:
    return [request.json for request in sandbox.requests.find("PATCH")]


# -- validate ----------------------------------------------------------------------------------------------------


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_a_valid_query_returns_its_graph(sandbox: ArroyoSandbox) -> None:
    graph = run(validate(ENDLESS))["graph"]
    assert len(graph["nodes"]) == len(graph["edges"]) + 1
    assert graph["nodes"][0]["operator"]
    assert sandbox.store.pipelines == {}


@pytest.mark.parametrize("connector", ["webhook", "filesystem", "delta"])
def test_the_graph_of_a_valid_query_contains_no_secret(connector: str, sandbox: ArroyoSandbox) -> None:
    """Its nodes name the address that they write to."""
    insert = f"INSERT INTO {connector}_t SELECT counter FROM impulse;"
    nodes = run(validate(f"{ENDLESS}\n{canaries.TABLES[connector]}\n{insert}"))["graph"]["nodes"]
    (sink,) = [one["description"] for one in nodes if "://" in one["description"]]
    assert "***" in sink
    assert not canaries.leaked(repr(nodes))


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_a_refused_query_fails_without_a_retry_and_the_place_is_marked(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ArroyoFatalTaskError) as caught:
        run(validate(REFUSED))
    text = str(caught.value)
    assert "nothing" in text
    assert "Arroyo refused the SQL" in text
    if sandbox.arroyo_version != "0.15":
        assert "line 2, column 8" in text
        assert "^^^^^^^" in text


@pytest.mark.parametrize("operator", [validate, preview])
@pytest.mark.parametrize("arguments", [{"query": " "}, {"query": "SELECT 1", "udfs": "fn f() {}"}])
def test_invalid_arguments_are_refused_in_the_constructor(operator: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"query must be|udfs must be"):
        operator(**arguments)


# -- preview -----------------------------------------------------------------------------------------------------


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_rows_are_returned_and_the_preview_is_stopped(sandbox: ArroyoSandbox) -> None:
    ti = FakeTaskInstance()
    result = run(preview(), ti)
    assert len(result["rows"]) == 5
    assert all(row["double"] == 2 * row["counter"] for row in result["rows"])
    assert result["missed_rows"] == result["rows"][0]["counter"]
    assert stops(sandbox) == [{"stop": "immediate"}]
    assert result["console_url"] in ti.xcoms.values()


def test_a_preview_that_ends_returns_its_rows(
    sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = Preview._rows, list[OutputBatch]()

    def rows(one: Preview, output: OutputBatch) -> Any:
        if not seen:
            sandbox.advance(30)
        seen.append(output)
        return read(one, output)

    monkeypatch.setattr(Preview, "_rows", rows)
    result = run(preview(FEW_ROWS, max_rows=1000))
    assert result["state"] == "Finished"
    assert result["missed_rows"] + len(result["rows"]) == 300
    assert stops(sandbox) == []


def test_the_timeout_ends_a_preview_without_an_error(sandbox: ArroyoSandbox) -> None:
    result = run(preview(max_rows=10_000, timeout=4))
    assert 0 < len(result["rows"]) < 10_000
    assert stops(sandbox) == [{"stop": "immediate"}]


def test_a_preview_of_sql_that_is_refused_is_not_started(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ArroyoFatalTaskError, match="refused the SQL"):
        run(preview(REFUSED))
    assert [request.path for request in sandbox.requests.find("POST")] == ["/api/v1/pipelines/validate_query"]


def test_a_preview_that_never_runs_is_an_error(sandbox: ArroyoSandbox) -> None:
    """A check of all rows would pass if there were none."""
    sandbox.faults.never_starts("preview_*")
    with pytest.raises(ArroyoTaskError, match=r"did not run within 1.0 s \(timeout\): it was Scheduling"):
        run(preview(timeout=1, check=lambda rows: True))
    assert stops(sandbox) == [{"stop": "immediate"}]


def test_a_failed_preview_has_the_reason(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ArroyoTaskError, match=r"is Fail.*; the goal was Running or Finished"):
        run(preview(MISSING_FILE, max_rows=1000))


def test_a_preview_that_is_about_to_fail_when_the_time_is_over_is_an_error(sandbox: ArroyoSandbox) -> None:
    """Arroyo 0.16 shows it as Failing for five seconds."""
    with pytest.raises(ArroyoTaskError, match=r"is Fail(ing|ed) in run 1; the goal was Running or Finished"):
        run(preview(MISSING_FILE, max_rows=1000, timeout=1, check=lambda rows: True))


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_a_preview_that_keeps_failing_without_rows_is_an_error(
    sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arroyo 0.15 restarts it again and again if a file is missing."""
    monkeypatch.setattr(Preview, "_rows", lambda *_: [])
    sandbox.faults.flap("preview_*", runs=1000, every=0.2)
    with pytest.raises(
        ArroyoTaskError, match=r"the goal was Running or Finished without a restart"
    ) as caught:
        run(preview(timeout=2, check=lambda rows: True))
    assert "is Fail" not in str(caught.value)


@pytest.mark.parametrize(
    "check, message",
    [
        (lambda rows: False, "it returned False"),
        (lambda rows: rows[0]["price"], "KeyError: 'price'"),
        (lambda rows: [][1], "IndexError"),
    ],
)
def test_a_failed_check_is_shown_with_the_rows(check: Any, message: str, sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ArroyoTaskError) as caught:
        run(preview(check=check))
    assert message in str(caught.value)
    assert "'double'" in str(caught.value)
    assert stops(sandbox) == [{"stop": "immediate"}]


@pytest.mark.parametrize(
    "batch, rows",
    [
        ('[{"a": 1e999, "b": -1e999, "c": NaN, "d": Infinity, "e": 1.5}]', 1),
        ('{"a": 1}', None),
        ("[" * 100_000, None),
        ('[{"a": 1', None),
        ("null", None),
    ],
)
def test_output_that_is_not_a_list_of_rows_is_an_error(batch: str, rows: int | None) -> None:
    preview = Preview(Mock())
    output = OutputBatch(operator_id="sink", subtask_index=0, start_id=0, batch=batch)
    if rows is None:
        with pytest.raises(ArroyoError, match="output cannot be read"):
            preview._rows(output)
    else:
        assert preview._rows(output) == [{"a": None, "b": None, "c": None, "d": None, "e": 1.5}]


def test_the_rows_and_the_error_of_a_failed_check_are_shortened(sandbox: ArroyoSandbox) -> None:
    def check(rows: list[Any]) -> None:
        rows[:] = [{"a": "x" * 100_000}] * 3
        raise ValueError("y" * 100_000)

    with pytest.raises(ArroyoTaskError, match="of the preview's 3 rows failed: ValueError: y") as caught:
        run(preview(check=check))
    assert len(str(caught.value)) < 5_000


def test_a_check_may_skip_or_return_none(sandbox: ArroyoSandbox) -> None:
    assert run(preview(check=lambda rows: None))["rows"]

    def skip(rows: Any) -> None:
        raise AirflowSkipException("none today")

    with pytest.raises(AirflowSkipException):
        run(preview(check=skip))


def test_a_kill_while_reading_stops_the_preview(sandbox: ArroyoSandbox) -> None:
    operator = preview()

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        operator.on_kill()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_arroyo.pipelines.preview.Preview._rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(operator)
    assert stops(sandbox) == [{"stop": "immediate"}]


def test_a_failed_stop_of_a_preview_is_logged_and_hides_no_error(
    sandbox: ArroyoSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.status(400, method="PATCH")
    operator = preview()
    with caplog.at_level("WARNING"):
        assert len(run(operator)["rows"]) == 5


@pytest.mark.parametrize(
    "arguments",
    [{"check": "rows"}, {"enable_sinks": "false"}],
)
def test_invalid_arguments_of_a_preview_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        preview(**arguments)
