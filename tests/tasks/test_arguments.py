"""Arguments in DAG files: final values are checked early, templates are accepted."""

from __future__ import annotations

import inspect
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.client.checks import (
    check_duration,
    check_parallelism,
    check_string_map,
    check_text,
)
from airflow_provider_arroyo.client.enums import JobState, StopMode
from airflow_provider_arroyo.operators import arroyo as operators
from airflow_provider_arroyo.operators.arguments import (
    STOP_MODES,
    check_choice,
    check_early,
    check_one_of_id_and_name,
    check_stop_mode,
    is_final,
)
from airflow_provider_arroyo.operators.arroyo import ArroyoStopPipelineOperator, ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sensors import arroyo as sensors


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
        datetime(2026, 11, 25),
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
def test_final_values_are_recognised(value: Any) -> None:
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
        Decimal(1),
        object,
    ],
)
def test_values_to_be_rendered_are_recognised(value: Any) -> None:
    assert not is_final(value)


def test_early_checks_accept_values_to_be_rendered() -> None:
    check_early(check_text, "{{ params.name }}", "name")
    check_early(check_parallelism, "{{ params.size }}", "parallelism")
    check_early(check_parallelism, Later(), "parallelism")
    check_early(check_string_map, {"run": Later(), "x": "{{ ds }}"}, "tags")
    check_early(check_stop_mode, "{{ params.mode }}", "mode")


@pytest.mark.parametrize(
    "check, value, argument",
    [
        (check_text, "", "name"),
        (check_text, None, "query"),
        (check_parallelism, 0, "parallelism"),
        (check_string_map, {"a": 1}, "tags"),
        (check_stop_mode, "softly", "mode"),
    ],
)
def test_early_checks_refuse_invalid_final_values(check: Any, value: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must"):
        check_early(check, value, argument)


def test_airflows_placeholder_for_a_result_is_not_final() -> None:
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1)):
        output: Any = BaseOperator(task_id="x").output
    assert not is_final(output)
    assert not is_final({"a": output})
    check_one_of_id_and_name(output, None)
    check_one_of_id_and_name(None, output["pipeline_name"])


@pytest.mark.parametrize("name", ["udfs", "scheduler_config"])
def test_the_result_of_a_task_is_refused_where_it_would_never_be_resolved(name: str) -> None:
    output: Any = BaseOperator(task_id="x").output
    takes = [cls for cls in CLASSES if name in inspect.signature(cls).parameters]
    assert len(takes) > 2
    for cls in takes:
        for value in (output, [output] if name == "udfs" else {"a": output}):
            with pytest.raises(ValueError, match=rf"^{name}\b.* must"):
                make(cls, **{name: value})


@pytest.mark.parametrize(
    "cls, name",
    [
        (operators.ArroyoEnsureConnectionTableOperator, "connection_profile"),
        (operators.ArroyoEnsureUdfOperator, "prefix"),
        (operators.ArroyoDeployPipelineOperator, "state_url"),
    ],
)
@pytest.mark.parametrize("value", ["", 5])
def test_names_and_addresses_that_cannot_be_are_refused_early(cls: Any, name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=f"^{name} must (be a non-empty string|not be empty|be a string), got"
    ):
        make(cls, **{name: value})


# -- durations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, expected",
    [
        (timedelta(minutes=1), timedelta(minutes=1)),
        (90, timedelta(seconds=90)),
        (0.1, timedelta(milliseconds=100)),
        (0, timedelta(0)),
        (timedelta(0), timedelta(0)),
        (pendulum.duration(weeks=1, seconds=0.1), timedelta(days=7, milliseconds=100)),
    ],
)
def test_a_duration_is_a_timedelta_or_seconds(value: Any, expected: timedelta) -> None:
    duration = check_duration(value, "timeout")
    assert duration == expected
    assert type(duration) is timedelta


@given(
    value=st.one_of(st.integers(), st.floats(), st.timedeltas(), st.text(), st.booleans()),
    positive=st.booleans(),
)
def test_any_value_is_a_duration_or_a_value_error(value: Any, positive: bool) -> None:
    try:
        duration = check_duration(value, "timeout", positive=positive)
    except ValueError:
        return
    assert duration > timedelta(0) if positive else duration >= timedelta(0)


EXPORTED: list[Any] = [getattr(operators, name) for name in operators.__all__]
SENSORS: dict[Any, dict[str, Any]] = {
    sensors.ArroyoPipelineSensor: {"pipeline_name": "orders", "max_restarts": 1},
    sensors.ArroyoCheckpointSensor: {"pipeline_name": "orders", "min_epoch": 1},
    sensors.ArroyoMetricSensor: {
        **{"pipeline_name": "orders", "metric": "messages_sent"},
        **{"operator": "sources", "above": 1},
    },
}
"""The sensors, with their required arguments."""
CLASSES: list[Any] = [*filter(inspect.isclass, EXPORTED), *SENSORS]
NEEDED: dict[str, Any] = {
    **{"pipeline_name": "orders", "query": "SELECT 1"},
    **{"name": "a", "connector": "impulse", "config": {}, "definition": "fn f() {}"},
    "keep": ["orders"],
}


def make(cls: Any, **more: Any) -> Any:
    # An update needs a change.
    needed: dict[str, Any] = {"parallelism": 2} if cls is operators.ArroyoUpdatePipelineOperator else {}
    needed |= {name: NEEDED[name] for name in NEEDED if name in inspect.signature(cls).parameters}
    needed |= SENSORS.get(cls, {})
    return cls(task_id="a_task", **{**needed, **more})


def duration_arguments(cls: Any) -> list[str]:
    """Return the arguments of a class that are annotated as durations."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("airflow_provider_arroyo")]
    parameters = [
        parameter
        for base in own
        if "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
    ]
    return [parameter.name for parameter in parameters if "timedelta" in str(parameter.annotation)]


DURATIONS = [
    *((cls, name) for cls in CLASSES for name in duration_arguments(cls)),
    *((cls, "timeout") for cls in SENSORS),  # Airflow's own
]


def test_the_sensors_are_all_of_them() -> None:
    assert {cls.__name__ for cls in SENSORS} == set(sensors.__all__)


@pytest.mark.parametrize("cls, name", dict.fromkeys(DURATIONS))
def test_every_duration_is_a_timedelta_or_seconds(cls: Any, name: str) -> None:
    def shown(value: Any) -> Any:
        # A wait must be longer than its condition.
        short = {"stable_for": 0} if name == "timeout" and hasattr(make(cls), "stable_for") else {}
        task = make(cls, **short, **{name: value})
        value = getattr(task, name)
        if hasattr(task, "_spec") and name == "checkpoint_interval":
            value = task._spec().checkpoint_interval
        return value.total_seconds() if isinstance(value, timedelta) else value

    assert shown(timedelta(seconds=90)) == shown(90) == shown(90.0) == 90
    assert shown(1.5) == shown(timedelta(milliseconds=1500)) == 1.5


# -- documentation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
def test_every_argument_is_documented(cls: Any) -> None:
    """Including those of our own base class, and of Airflow's sensors."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("airflow_provider_arroyo")]
    sensor = [BaseSensorOperator] if issubclass(cls, BaseSensorOperator) else []
    found = re.findall(r"^\s*:param ([\w, ]+):", cls.__doc__, re.MULTILINE)
    documented = [name for names in found for name in names.split(", ")]
    expected = {
        parameter.name
        for base in [*own, *sensor]
        if "__init__" in vars(base)
        for parameter in inspect.signature(base.__init__).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }
    assert set(documented) == expected
    assert len(documented) == len(set(documented))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_template_field_is_documented_as_one(cls: Any) -> None:
    for name in cls.template_fields:
        text = re.search(rf":param {name}:(.*?)(?=\n\s*:|\Z)", cls.__doc__, re.DOTALL)
        assert text is not None
        assert "Templated." in text[1], name


@pytest.mark.parametrize("cls", CLASSES)
def test_no_argument_hides_a_method(cls: Any) -> None:
    """An argument stored under the name of a method, such as ``on_kill``, would replace the method."""
    methods = {name for base in cls.__mro__ for name, value in vars(base).items() if callable(value)}
    # Airflow's own method of that name; the argument is stored under another one.
    assert set(inspect.signature(cls.__init__).parameters) & methods <= {"dry_run"}
    task = make(cls)
    # Airflow 3.0's operators have none.
    assert not hasattr(task, "dry_run") or inspect.ismethod(task.dry_run)


def test_stop_on_kill_leaves_the_method_on_kill_alone() -> None:
    task = make(operators.ArroyoSubmitPipelineOperator, stop_on_kill="force")
    assert task.stop_on_kill is StopMode.FORCE
    assert inspect.ismethod(task.on_kill)
    assert type(task).on_kill is not BaseOperator.on_kill
    with pytest.raises(TypeError, match="on_kill"):
        make(operators.ArroyoSubmitPipelineOperator, on_kill="force")


# -- choices ---------------------------------------------------------------------------------------------------


def test_a_choice_is_accepted() -> None:
    assert check_choice("Running", "wait_for", (JobState.RUNNING, JobState.FINISHED)) == "Running"
    assert check_choice(JobState.RUNNING, "wait_for", ("Running",)) == "Running"
    assert type(check_choice(JobState.RUNNING, "wait_for", ("Running",))) is str


@pytest.mark.parametrize("value", ["running", "", None, 5, True, ["Running"], {"a": 1}, "Stopped"])
def test_an_invalid_choice_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^wait_for must be one of 'Running', 'Finished', got "):
        check_choice(value, "wait_for", (JobState.RUNNING, JobState.FINISHED))


@pytest.mark.parametrize("mode", ["checkpoint", "graceful", "immediate", "force"])
def test_a_stop_mode_is_accepted(mode: str) -> None:
    assert check_stop_mode(mode) is StopMode(mode)
    assert check_stop_mode(StopMode(mode)) is StopMode(mode)


@pytest.mark.parametrize("mode", ["none", StopMode.NONE, "Checkpoint", "", None, 1, "softly"])
def test_an_invalid_stop_mode_is_refused(mode: Any) -> None:
    words = r"^stop_on_kill must be one of 'checkpoint', 'graceful', 'immediate', 'force', got "
    with pytest.raises(ValueError, match=words):
        check_stop_mode(mode, "stop_on_kill")


@pytest.mark.parametrize("mode", ["reschedule", "poke"])
@pytest.mark.parametrize(
    "cls", [operators.ArroyoStopPipelineOperator, operators.ArroyoDeletePipelineOperator]
)
def test_a_mode_of_sensors_in_default_args_is_explained(cls: Any, mode: str) -> None:
    with DAG("d", schedule=None, default_args={"mode": mode}):
        with pytest.raises(
            ValueError,
            match=rf"^mode must be one of .*, got '{mode}', which is for other .*mode='checkpoint'",
        ):
            cls(task_id="a_task", pipeline_id="pl_1")
        assert cls(task_id="b_task", pipeline_id="pl_1", mode="force").mode == "force"
    with pytest.raises(ValueError, match=rf"^stop_on_kill must be one of .*, got '{mode}'$"):
        check_stop_mode(mode, "stop_on_kill")


@pytest.mark.parametrize(
    "cls, given, own",
    [
        (ArroyoStopPipelineOperator, "wait", "fail"),
        (operators.ArroyoDeletePipelineOperator, "wait", "fail"),
        (sensors.ArroyoPipelineSensor, "succeed", "wait"),
    ],
)
def test_what_other_tasks_do_if_a_pipeline_is_missing_is_explained(cls: Any, given: str, own: str) -> None:
    with DAG("d", schedule=None, default_args={"if_missing": given}):
        with pytest.raises(
            ValueError, match=rf"got '{given}', which is for other tasks .* default_args.*if_missing='{own}'"
        ):
            cls(task_id="a_task", pipeline_id="pl_1")
        # As the message advises.
        assert cls(task_id="b_task", pipeline_id="pl_1", if_missing=own).if_missing == own


def test_every_way_to_stop_has_a_mode() -> None:
    assert {*STOP_MODES, StopMode.NONE} == set(StopMode)


# -- which pipeline --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pipeline_id, pipeline_name",
    [
        ("pl_1", None),
        (None, "orders"),
        ("{{ x }}", None),
        (None, "{{ x }}"),
        (None, "(draft) orders [2]"),
        (None, "[prod]"),
        (Later(), None),
    ],
)
def test_either_id_or_name_is_accepted(pipeline_id: Any, pipeline_name: Any) -> None:
    check_one_of_id_and_name(pipeline_id, pipeline_name)


@pytest.mark.parametrize(
    "pipeline_id, pipeline_name, words",
    [
        (None, None, "exactly one of pipeline_id and pipeline_name must be given, got neither"),
        ("pl_1", "orders", "exactly one of pipeline_id and pipeline_name must be given, got both"),
        ("", "orders", "got both"),
        ("", None, "pipeline_id must not be empty, got ''; did the upstream task return one"),
        (" \n", None, "pipeline_id must not be empty"),
        ("None", None, "pipeline_id must not be empty, got 'None'"),
        ("..", None, "pipeline_id must not be '..'"),
        ("pl_1\n", None, "pipeline_id must not have white space around it, got 'pl_1"),
        ("['pl_1']", None, "pipeline_id must be one id, got .* looks like a list or a mapping"),
        (None, "null", "pipeline_name must not be empty"),
        (None, "", "pipeline_name must not be empty"),
        (None, " None ", "pipeline_name must not be empty"),
        (None, "n\n", r"pipeline_name must not have white space around it, got 'n\\n'"),
        (None, "['a', 'b']", "pipeline_name must be one name, got .* looks like a list or a mapping"),
        ("pl_1 ", None, "pipeline_id must not have white space around it, got 'pl_1 '"),
        (5, None, "pipeline_id must be a string, got int"),
        ({"pipeline_id": "pl_1"}, None, "pipeline_id must be a string, got dict"),
        (None, ["orders"], "pipeline_name must be a string, got list"),
        (None, True, "pipeline_name must be a string, got bool"),
    ],
)
def test_an_invalid_id_or_name_is_refused(pipeline_id: Any, pipeline_name: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_one_of_id_and_name(pipeline_id, pipeline_name)


@pytest.mark.parametrize("deferrable", ["false", 1, "{{ params.deferrable }}"])
@pytest.mark.parametrize(
    "make",
    [
        lambda **more: ArroyoSubmitPipelineOperator(task_id="t", pipeline_name="a", query="SELECT 1", **more),
        lambda **more: ArroyoStopPipelineOperator(task_id="t", pipeline_id="pl_1", **more),
        lambda **more: sensors.ArroyoPipelineSensor(task_id="t", pipeline_id="pl_1", **more),
    ],
    ids=["submit", "stop", "sensor"],
)
def test_deferrable_is_a_boolean(make: Any, deferrable: Any) -> None:
    with pytest.raises(ValueError, match="deferrable must be True or False"):
        make(deferrable=deferrable)
