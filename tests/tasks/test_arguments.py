"""What DAG authors write: refused early where it is final, let pass where it is still to be rendered."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.models import JobState, StopMode
from airflow_provider_arroyo.arroyo.spec import check_parallelism, check_text, check_text_map
from airflow_provider_arroyo.operators.arguments import (
    STOP_MODES,
    check_choice,
    check_duration,
    check_early,
    check_one_of_id_and_name,
    check_stop_mode,
    is_final,
)


class Later:
    """Stands for another task's result."""


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "x",
        "sql/orders.sql",
        "{ not a template }",
        "fn f() { g::<{1}>() }",
        0,
        1.5,
        True,
        timedelta(0),
        [],
        ["a"],
        ("a", 1),
        {"a": "b"},
        {"a": ["b", {"c": None}]},
        {"a", "b"},
        JobState.RUNNING,
        StopMode.FORCE,
    ],
)
def test_final(value: Any) -> None:
    assert is_final(value)


@pytest.mark.parametrize(
    "value",
    [
        "{{ ds }}",
        "a {{ params.x }} b",
        "{% if x %}a{% endif %}",
        "{# a note #}a",
        Later(),
        ["a", "{{ ds }}"],
        {"a": "{{ ds }}"},
        {"{{ ds }}": "a"},
        {"a": Later()},
        ("a", Later()),
        [{"a": [Later()]}],
        datetime(2026, 11, 25),
        Decimal(1),
        object,
    ],
)
def test_still_to_be_rendered(value: Any) -> None:
    assert not is_final(value)


def test_early_checks_let_pass_what_is_to_be_rendered() -> None:
    check_early(check_text, "{{ params.name }}", "name")
    check_early(check_parallelism, "{{ params.size }}", "parallelism")
    check_early(check_parallelism, Later(), "parallelism")
    check_early(check_text_map, {"run": Later(), "x": "{{ ds }}"}, "tags")
    check_early(check_stop_mode, "{{ params.mode }}", "mode")


@pytest.mark.parametrize(
    "check, value, argument",
    [
        (check_text, "", "name"),
        (check_text, None, "query"),
        (check_parallelism, 0, "parallelism"),
        (check_text_map, {"a": 1}, "tags"),
        (check_stop_mode, "softly", "mode"),
    ],
)
def test_early_checks_refuse_what_is_final(check: Any, value: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must"):
        check_early(check, value, argument)


def test_airflows_own_stand_in_for_a_result_is_not_final() -> None:
    from airflow.providers.common.compat.sdk import DAG, BaseOperator

    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1)):
        output: Any = BaseOperator(task_id="x").output
    assert not is_final(output)
    assert not is_final({"a": output})
    check_one_of_id_and_name(output, None)
    check_one_of_id_and_name(None, output["pipeline_name"])


# -- lengths of time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, expected",
    [
        (timedelta(minutes=1), timedelta(minutes=1)),
        (90, timedelta(seconds=90)),
        (0.1, timedelta(milliseconds=100)),
        (0, timedelta(0)),
        (timedelta(0), timedelta(0)),
    ],
)
def test_duration(value: Any, expected: timedelta) -> None:
    assert check_duration(value, "timeout") == expected


@pytest.mark.parametrize(
    "value",
    [-1, -0.001, timedelta(seconds=-1), "10", None, True, False, [1], float("nan"), float("inf"), 1e300],
)
def test_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeout must be .*0 or more"):
        check_duration(value, "timeout")


@pytest.mark.parametrize("value", [0, 0.0, timedelta(0), -1, 1e-9])
def test_no_positive_duration(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^poll_interval must be .*more than 0"):
        check_duration(value, "poll_interval", positive=True)
    assert check_duration(0.001, "poll_interval", positive=True)


@settings(deadline=None)
@given(
    value=st.one_of(st.integers(), st.floats(), st.timedeltas(), st.text(), st.booleans()),
    positive=st.booleans(),
)
def test_duration_is_one_or_a_value_error(value: Any, positive: bool) -> None:
    try:
        duration = check_duration(value, "timeout", positive=positive)
    except ValueError:
        return
    assert duration > timedelta(0) if positive else duration >= timedelta(0)


# -- words -----------------------------------------------------------------------------------------------------


def test_choice() -> None:
    assert check_choice("Running", "wait_for", (JobState.RUNNING, JobState.FINISHED)) == "Running"
    assert check_choice(JobState.RUNNING, "wait_for", ("Running",)) == "Running"
    assert type(check_choice(JobState.RUNNING, "wait_for", ("Running",))) is str


@pytest.mark.parametrize("value", ["running", "", None, 5, True, ["Running"], {"a": 1}, "Stopped"])
def test_no_choice(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^wait_for must be one of 'Running', 'Finished', got "):
        check_choice(value, "wait_for", (JobState.RUNNING, JobState.FINISHED))


@pytest.mark.parametrize("mode", ["checkpoint", "graceful", "immediate", "force"])
def test_stop_mode(mode: str) -> None:
    assert check_stop_mode(mode) is StopMode(mode)
    assert check_stop_mode(StopMode(mode)) is StopMode(mode)


@pytest.mark.parametrize("mode", ["none", StopMode.NONE, "Checkpoint", "", None, 1, "softly"])
def test_no_stop_mode(mode: Any) -> None:
    words = r"^on_kill must be one of 'checkpoint', 'graceful', 'immediate', 'force', got "
    with pytest.raises(ValueError, match=words):
        check_stop_mode(mode, "on_kill")


def test_every_way_to_stop_is_a_mode() -> None:
    assert {*STOP_MODES, StopMode.NONE} == set(StopMode)


# -- which pipeline --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pipeline_id, pipeline_name",
    [("pl_1", None), (None, "orders"), ("{{ x }}", None), (None, "{{ x }}"), (None, " n "), (Later(), None)],
)
def test_one_of_id_and_name(pipeline_id: Any, pipeline_name: Any) -> None:
    check_one_of_id_and_name(pipeline_id, pipeline_name)


@pytest.mark.parametrize(
    "pipeline_id, pipeline_name, words",
    [
        (None, None, "exactly one of pipeline_id and pipeline_name must be given, got neither"),
        ("pl_1", "orders", "exactly one of pipeline_id and pipeline_name must be given, got both"),
        ("", "orders", "got both"),
        ("", None, "pipeline_id must not be empty, got ''; did the upstream task give one"),
        (" \n", None, "pipeline_id must not be empty"),
        ("None", None, "pipeline_id must not be empty, got 'None'"),
        (None, "", "pipeline_name must not be empty"),
        (None, " None ", "pipeline_name must not be empty"),
        (5, None, "pipeline_id must be a text, got int"),
        ({"pipeline_id": "pl_1"}, None, "pipeline_id must be a text, got dict"),
        (None, ["orders"], "pipeline_name must be a text, got list"),
        (None, True, "pipeline_name must be a text, got bool"),
    ],
)
def test_no_id_and_name(pipeline_id: Any, pipeline_name: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_one_of_id_and_name(pipeline_id, pipeline_name)
