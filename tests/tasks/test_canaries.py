"""No secret of ``tests/canaries.py`` is in anything that a task logs, stores, raises or gives to the triggerer."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineTrigger
from tests import canaries
from tests.canaries import planted, planted_in
from tests.support import ENDLESS

from . import harness
from .conftest import Arrange
from .harness import FakeTaskInstance, Make, context, deploy, run_task, sense, submit
from .test_ensure import profile, table, udf

ECHO = f"cannot run: {canaries.SQL}"
SQL = f"{canaries.SQL}\n{canaries.QUERY}"
REFUSAL = f"Schema error: {SQL}"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Return a function that returns everything that left the tasks."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(harness, "recording", lambda lines: logging.getLogger("tests.canaries"))
    stored: list[Any] = []
    serialize, fire = ArroyoPipelineTrigger.serialize, harness.fire

    def serialized(trigger: Any) -> Any:
        stored.append(serialize(trigger))
        return stored[-1]

    async def fired(trigger: Any) -> list[Any]:
        stored.append(await fire(trigger))
        return list(stored[-1])

    monkeypatch.setattr(ArroyoPipelineTrigger, "serialize", serialized)
    monkeypatch.setattr(harness, "fire", fired)

    def all_of(*ended: Any) -> str:
        errors = [one.error for one in ended if one.error is not None]
        data = [getattr(error, "error", None) for error in errors]
        return "\n".join(
            [
                caplog.text,
                repr(stored),
                *(repr(one) for one in ended),
                *("".join(traceback.format_exception(error)) for error in errors),
                *(json.dumps(one.to_dict()) for one in data if one is not None),
            ]
        )

    return all_of


def check(text: str, *needed: str) -> None:
    assert not canaries.leaked(text)
    for one in needed:
        assert one in text


@pytest.mark.parametrize("mode", harness.OPERATOR_MODES)
def test_a_submit_whose_pipeline_fails_shows_no_secret(mode: str, seen: Any, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.fail("orders", error=ECHO)
    variables = planted_in(canaries.VARIABLES)
    ended = run_task(submit(canaries.SQL, udfs=[planted(canaries.UDF)], env_vars=variables), mode)
    assert ended.error is not None
    check(seen(ended), "'auth.password' = '***'")


@pytest.mark.parametrize("mode", harness.SENSOR_MODES)
def test_a_sensor_whose_pipeline_fails_shows_no_secret(
    mode: str, seen: Any, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running", query=canaries.SQL)
    sandbox.faults.fail(pipeline_id, error=ECHO)
    arrange.until(pipeline_id, "Failed")
    ended = [run_task(sense(pipeline_id, state), mode) for state in ("Stopped", "Failed")]
    assert ended[0].error is not None
    assert ended[1].error is None
    check(seen(*ended), "'auth.password' = '***'")


@pytest.mark.arroyo_versions("0.16")
@pytest.mark.parametrize("mode", harness.SENSOR_MODES)
def test_a_reason_that_quotes_the_environment_shows_no_secret(
    mode: str, seen: Any, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    secret = planted("{}")
    made = arrange.client.create_pipeline(name="orders", query=ENDLESS, env_vars={"BROKER_LOGIN": secret})
    sandbox.faults.fail(made.id, error=f"login refused for {secret}")
    arrange.until(made.id, "Failed")
    ended = [run_task(sense(made.id, state), mode) for state in ("Stopped", "Failed")]
    check(seen(*ended), "login refused for ***")
    assert ended[1].result["failure_reason"] == "login refused for ***"
    # The job's errors say the same, so they are not listed.
    assert str(ended[0].error).count("login refused for ***") == 1


@pytest.mark.parametrize("mode", harness.SENSOR_MODES)
def test_an_error_that_quotes_a_value_in_the_sql_shows_no_secret(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    pipeline_id = arrange.pipeline("Running", query=canaries.SQL)
    sandbox.faults.fail(pipeline_id, error=f"login refused for {canaries.leaked(canaries.SQL)[0]}")
    arrange.until(pipeline_id, "Failed")
    text = str(run_task(sense(pipeline_id, "Stopped"), mode).error)
    assert text.count("login refused for ***") == 1
    check(text)


def _changed() -> str:
    return canaries.SQL.replace("cNary", "cNary9").replace("'orders'", "'other'")


def _replaced(sandbox: ArroyoSandbox) -> list[Make]:
    return [deploy(canaries.SQL), deploy(_changed(), dry_run=True), deploy(_changed())]


def _owned(sandbox: ArroyoSandbox) -> list[Make]:
    return [submit(canaries.SQL), submit(_changed())]


def _refused(sandbox: ArroyoSandbox) -> list[Make]:
    sandbox.faults.status(400, path="*/pipelines*", method="PUT", error=REFUSAL, times=None)
    sandbox.faults.status(400, path="*/pipelines*", method="POST", error=REFUSAL, times=None)
    return [submit(SQL), deploy(SQL)]


def _away(sandbox: ArroyoSandbox) -> list[Make]:
    sandbox.faults.status(502, path="*", error=f"<html>{canaries.SQL}", times=None)
    return [submit(canaries.SQL, api_outage_tolerance=1)]


def _echoed(sandbox: ArroyoSandbox) -> list[Make]:
    settings = planted_in(canaries.SETTINGS)
    for path, message in (("profiles", settings), ("tables", settings), ("udfs", planted(canaries.UDF))):
        sandbox.faults.status(400, path=f"*{path}", method="POST", error=f"invalid: {message!r}", times=None)
    makes = profile, table
    return [lambda make=make, **_: make(config=settings) for make in makes]


def _different(sandbox: ArroyoSandbox) -> list[Make]:
    sources = planted(canaries.UDF), planted(canaries.UDF)
    settings = planted_in(canaries.SETTINGS), planted_in(canaries.SETTINGS)
    return [
        *(lambda config=config, **_: profile(config=config) for config in settings),
        *(lambda definition=definition, **_: udf(definition=definition) for definition in sources),
    ]


@pytest.mark.parametrize(
    "tasks, mode, message",
    [
        (_replaced, harness.SYNC, "*** (changed)"),
        (_replaced, harness.DEFERRED, "*** (changed)"),
        (_owned, harness.SYNC, "*** (changed)"),
        (_refused, harness.SYNC, "Schema error"),
        (_away, harness.SYNC, "502"),
        (_echoed, harness.SYNC, "invalid: "),
        (_different, harness.SYNC, "(differs)"),
    ],
)
def test_tasks_that_show_sql_or_settings_show_no_secret(
    tasks: Callable[[ArroyoSandbox], list[Make]], mode: str, message: str, seen: Any, sandbox: ArroyoSandbox
) -> None:
    ti = FakeTaskInstance()
    ended = [run_task(make, mode, ti) for make in tasks(sandbox)]
    check(seen(*ended), message)


def test_airflow_masks_the_secrets_in_rendered_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr("airflow.providers.common.compat.sdk.mask_secret", masked.append, raising=False)
    variables, settings = planted_in(canaries.VARIABLES), planted_in(canaries.SETTINGS)
    for operator in (submit(env_vars=variables)(), deploy(env_vars=variables)(), profile(config=settings)):
        operator.render_template_fields({})
    assert "info" not in masked
    text = json.dumps([variables, settings])
    for value in masked:
        text = text.replace(value, "***")
    assert not canaries.leaked(text)


def test_a_variable_that_a_template_made_a_number_is_not_shown(sandbox: ArroyoSandbox) -> None:
    operator = submit(env_vars={"DB_PASSWORD": "{{ 1 }}"})()
    operator.env_vars = {"DB_PASSWORD": 83_649_127}
    with pytest.raises(ValueError, match=r"env_vars\['DB_PASSWORD'\] must be a string, got int\.") as caught:
        operator.execute(context())
    assert "83649127" not in str(caught.value)
