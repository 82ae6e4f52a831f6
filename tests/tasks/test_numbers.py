"""Every numeric argument: what it accepts, and that it refuses values that can never make sense."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pendulum
import pytest

from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.operators import arroyo as operators
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger, ArroyoPipelineTrigger

from .harness import SYNC, run_task
from .test_arguments import CLASSES, SENSORS, make


class Accepts(NamedTuple):
    """What an argument accepts.

    :param words: the text in its error.
    :param good: valid values.
    :param bad: values out of its range; values that are not numbers are refused by every argument.
    """

    words: str
    good: tuple[Any, ...]
    bad: tuple[Any, ...]


_DAYS = timedelta(days=36_500)
LASTING = Accepts("a number of seconds, 0 or more", (0, 1.5, timedelta(1), _DAYS), (-1, -0.1, timedelta(-1)))
POSITIVE = Accepts("a number of seconds, more than 0", (0.1, 5, timedelta(minutes=5)), (0, -1, timedelta(0)))
INTERVAL = Accepts("from 1 second to 24 hours", (1, 86_400, timedelta(hours=1)), (0, 0.9, 86_401, -1))
COUNT = Accepts("an integer, 1 or more", (1, 999_999_999), (0, -1, 1.0, 1.5))
COUNT_OR_NONE = Accepts("an integer, 0 or more", (0, 1), (-1, 1.0))
DIGITS = COUNT._replace(good=(*COUNT.good, "7", " 7 "))

ACCEPTED: dict[str, Accepts] = {
    "api_outage_tolerance": LASTING,
    "defer_after": LASTING,
    "max_wait": LASTING,
    "observe_seconds": LASTING,
    "poke_interval": POSITIVE,
    "poll_interval": POSITIVE,
    "stable_for": LASTING._replace(good=(0, 1.5)),
    "timeout": LASTING._replace(good=(5, timedelta(1))),
    "rollback_timeout": POSITIVE,
    "max_age": POSITIVE,
    "max_checkpoint_age": POSITIVE._replace(good=(1, timedelta(minutes=5))),
    "restart_window": POSITIVE._replace(good=(60, timedelta(1))),
    "checkpoint_interval": INTERVAL._replace(good=(1, timedelta(seconds=30))),
    "max_rows": Accepts("an integer from 1 to 10,000", (1, 10_000), (0, 10_001, -1, 5.0)),
    "max_deletions": COUNT_OR_NONE,
    "max_restarts": COUNT_OR_NONE,
    "new_checkpoints": COUNT,
    "limit": COUNT,
    "version": COUNT,
    "parallelism": DIGITS,
    "min_epoch": DIGITS,
    "above": Accepts("a number, 0 or more", (0, 0.5, 1000, "7", "1e3"), (-1, -0.1, "-1", "1_0", "١")),
    "below": Accepts("a number, more than 0", (0.5, 1000, "7"), (0, -1, "0", "nan")),
}
"""Every numeric argument of the operators, sensors, triggers and the hook."""

TEMPLATED = ("parallelism", "min_epoch", "above", "below")
"""The arguments that may also be text."""

NO_NUMBERS: tuple[Any, ...] = (
    True,
    False,
    math.nan,
    math.inf,
    -math.inf,
    10**5000,
    "x",
    [1],
)
"""Values that every argument refuses."""

BELOW: dict[str, Any] = {"above": None}
EVENTS = {"pipeline_name": "orders", "max_restarts": 1}


def _is_number(parameter: inspect.Parameter) -> bool:
    return re.search(r"\b(timedelta|int|float)\b", str(parameter.annotation)) is not None


def _call(method: str) -> Callable[..., Any]:
    where = ("pl_1",) if method == "diagnose" else ("pl_1", "job_1")
    return lambda **more: getattr(ArroyoHook("no_such_connection"), method)(*where, **more)


MAKERS: dict[str, tuple[Any, Callable[..., Any]]] = {
    **{cls.__name__: (cls.__init__, lambda cls=cls, **more: make(cls, **more)) for cls in CLASSES},
    "ArroyoPipelineEventTrigger": (
        ArroyoPipelineEventTrigger.__init__,
        lambda **more: ArroyoPipelineEventTrigger(**{**EVENTS, **more}),
    ),
    "ArroyoPipelineTrigger": (
        ArroyoPipelineTrigger.__init__,
        lambda **more: ArroyoPipelineTrigger(arroyo_conn_id="arroyo_default", plan=None, **more),
    ),
    "diagnose of the hook": (ArroyoHook.diagnose, _call("diagnose")),
    "list_job_errors of the hook": (ArroyoHook.list_job_errors, _call("list_job_errors")),
}
AIRFLOWS = [(cls.__name__, name) for cls in SENSORS for name in ("timeout", "max_wait")]


def _arguments() -> Iterator[tuple[str, str]]:
    for owner, (function, _) in MAKERS.items():
        for parameter in inspect.signature(function).parameters.values():
            # An operator of a pipeline's graph may be given by its id.
            if _is_number(parameter) and parameter.name != "operator":
                yield owner, parameter.name
    yield from AIRFLOWS


def _made(owner: str, name: str, value: Any) -> Any:
    more: dict[str, Any] = BELOW if name == "below" else {}
    if name == "restart_window":
        more = {"max_restarts": 1}
    return MAKERS[owner][1](**{**more, name: value})


ARGUMENTS = list(_arguments())


def test_the_table_has_every_argument() -> None:
    assert {name for _, name in ARGUMENTS} == set(ACCEPTED)
    public = {*operators.__all__, *(cls.__name__ for cls in SENSORS)} - {"pipelines_from_folder"}
    assert public <= set(MAKERS)
    hooks = {
        name
        for name, method in inspect.getmembers(ArroyoHook, inspect.isfunction)
        if method.__module__ == ArroyoHook.__module__
        and any(map(_is_number, inspect.signature(method).parameters.values()))
    }
    assert hooks == {"diagnose", "list_job_errors"}


@pytest.mark.parametrize("owner, name", ARGUMENTS)
def test_impossible_values_are_refused(owner: str, name: str) -> None:
    accepts = ACCEPTED[name]
    texts = () if name in TEMPLATED else ("7",)
    words = accepts.words
    if (owner, name) == ("ArroyoPreviewQueryOperator", "timeout"):
        words = POSITIVE.words
    # A rate may be any number.
    huge = () if name in ("above", "below") else (1e300, 10**30)
    for wrong in (*NO_NUMBERS, *huge, *texts, *accepts.bad):
        with pytest.raises(ValueError, match=rf"^{name}\b.*(?={re.escape(words.split(',')[0])})") as caught:
            _made(owner, name, wrong)
        shown = "thousands of digits" if wrong == 10**5000 else repr(wrong)
        assert shown in str(caught.value), str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("owner, name", [one for one in ARGUMENTS if "hook" not in one[0]])
def test_valid_values_are_accepted(owner: str, name: str) -> None:
    for value in ACCEPTED[name].good:
        if name == "timeout" and "Deploy" in owner:
            continue  # a short timeout conflicts with other defaults
        assert _made(owner, name, value) is not None


@pytest.mark.parametrize(
    "owner, name", [one for one in ARGUMENTS if "second" in ACCEPTED[one[1]].words and "hook" not in one[0]]
)
def test_a_duration_of_pendulum_becomes_a_plain_one(owner: str, name: str) -> None:
    """Its arithmetic differs: a floor division by a microsecond is an error, for example."""
    seconds = 3600 if name == "timeout" else 60
    made = _made(owner, name, pendulum.duration(seconds=seconds))
    # Airflow keeps the arguments as they were given, too.
    stored = {key: value for key, value in vars(made).items() if not key.endswith("__init_kwargs")}
    assert "Duration(" not in repr(stored)


@pytest.mark.parametrize("owner, name", [one for one in ARGUMENTS if one[1] in TEMPLATED])
def test_a_rendered_number_is_checked_before_any_request(
    owner: str, name: str, sandbox: ArroyoSandbox
) -> None:
    for wrong in ("0x10", "-1", "nan", "inf", "1_000", "٣", "", -1, True, math.nan):
        task = _made(owner, name, "{{ params.x }}")
        task.timeout = 1
        setattr(task, name, wrong)
        error = run_task(lambda task=task, **_: task, SYNC).error
        assert isinstance(error, ArroyoArgumentError), wrong
        assert str(error).startswith(f"{name} must be "), wrong
    assert sandbox.requests.total == 0


# -- bounds that exclude each other ------------------------------------------------------------------------------

SUBMIT, DEPLOY = operators.ArroyoSubmitPipelineOperator, operators.ArroyoDeployPipelineOperator
RESTART = operators.ArroyoRestartPipelineOperator
SENSOR, CHECKPOINT, METRIC = SENSORS

EXCLUDED = [
    (SENSOR, {"stable_for": 61, "timeout": 60}, "stable_for must be at most as long as timeout"),
    (DEPLOY, {"stable_for": 61, "timeout": 60}, "stable_for must be at most as long as timeout"),
    (DEPLOY, {"checkpoint_interval": 600, "timeout": 600}, "timeout must be longer than checkpoint_interval"),
    (
        SENSOR,
        {"max_restarts": 1, "restart_window": 1, "poll_interval": 2},
        "restart_window must be at least as long as poll_interval (2 seconds)",
    ),
    (SUBMIT, {"wait_for": None, "max_restarts": 1}, "wait_for=None waits for nothing"),
    (METRIC, {"stable_for": 301, "timeout": 60}, "at most as long as timeout and 4 minutes (5 min)"),
    (METRIC, {"operator": -1}, "operator must be an integer, 0 or more, got -1"),
    (METRIC, {"above": 1, "below": 2}, "exactly one of above and below must be given, got both"),
    (
        METRIC,
        {"metric": "backpressure", "operator": "sources", "above": 1},
        "0 or more and less than 1, got 1",
    ),
    (
        METRIC,
        {"metric": "backpressure", "operator": "sources", **BELOW, "below": 2},
        "more than 0 and 1 or less",
    ),
]
ALLOWED = [
    (SENSOR, {"stable_for": 60, "timeout": 60}),
    (SENSOR, {"stable_for": 61, "timeout": 60, "target_states": ["Running", "Stopped"]}),
    (SENSOR, {"stable_for": 61, "timeout": 60, "target_states": "{{ params.states }}"}),
    # A bounded pipeline may have finished by then.
    (SUBMIT, {"stable_for": 61, "timeout": 60}),
    (RESTART, {"pipeline_name": "a", "stable_for": 61, "timeout": 60}),
    (SUBMIT, {"checkpoint_interval": 600, "timeout": 600, "until_checkpoint": True}),
    (METRIC, {"stable_for": 300, "timeout": 60}),  # values from before the sensor began count
]


@pytest.mark.parametrize("cls, arguments, message", EXCLUDED)
def test_conflicting_bounds_are_refused(cls: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(cls, **arguments)


@pytest.mark.parametrize("cls, arguments", ALLOWED)
def test_compatible_bounds_are_accepted(cls: Any, arguments: dict[str, Any]) -> None:
    assert make(cls, **arguments)


def test_the_documentation_lists_what_each_accepts() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "numbers.md"
    if not page.exists():
        pytest.skip("only with the sources")
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    # The last row is left out, since users do not create a task's trigger.
    assert set(ACCEPTED) - {"version"} <= set(re.findall(r"`(\w+)`", " ".join(rows)))
