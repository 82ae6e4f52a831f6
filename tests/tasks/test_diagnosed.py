"""The error of a wait includes a diagnosis if that adds something; a failed diagnosis never hides the error."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_arroyo import evidence
from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import ArroyoDeployPipelineOperator
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .conftest import BROKEN, Arrange
from .harness import OPERATOR_MODES, SYNC, run_task, sense, submit


def diagnosis_of(error: BaseException | None) -> str | None:
    assert isinstance(error, ArroyoTaskError), error
    assert error.error is not None
    return getattr(error.error, "diagnosis", None)


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_a_failure_is_diagnosed_in_every_mode(mode: str, sandbox: ArroyoSandbox) -> None:
    error = run_task(submit(BROKEN), mode).error
    assert diagnosis_of(error) == "file_missing"
    text = str(error)
    assert "Diagnosis (file_missing): " in text
    assert "Arroyo's workers see the file" in text
    assert "Fix the cause." not in text, "the advice of the diagnosis replaces it"


def test_a_failed_deploy_is_diagnosed_too(sandbox: ArroyoSandbox) -> None:
    error = run_task(
        lambda **mode: ArroyoDeployPipelineOperator(
            task_id="a_task", pipeline_name="orders", query=BROKEN, timeout=20, **mode
        ),
        SYNC,
    ).error
    assert "Diagnosis (file_missing): " in str(error)


def test_a_timeout_names_an_unreachable_broker(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    sandbox.faults.kafka_away()
    arrange.after_polls(sandbox.advance, 45, polls=1)
    error = run_task(submit(until_checkpoint=True, timeout=8), SYNC).error
    assert diagnosis_of(error) == "broker_unreachable"
    assert "Diagnosis (broker_unreachable): " in str(error)
    assert "allow more time" in str(error)


def test_an_externally_stopped_pipeline_is_diagnosed(sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    def pause() -> None:
        sandbox.advance(15)
        sandbox.faults.stop("orders")

    arrange.after_polls(pause)
    error = run_task(submit(stable_for=15, timeout=60), SYNC).error
    assert diagnosis_of(error) == "paused"
    assert "was stopped externally" in str(error)
    assert "it continues from checkpoint" in str(error)


def test_a_diagnosis_without_new_information_is_left_out(arrange: Arrange, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.fail("orders", error="worker left", after=0.1)
    error = run_task(submit(stable_for=5), SYNC).error
    assert diagnosis_of(error) is None
    assert "Diagnosis" not in str(error)
    pipeline_id = arrange.pipeline("Running", name="other")
    assert "Diagnosis" not in str(run_task(sense(pipeline_id, "Stopped", timeout=0.3), SYNC).error)


@pytest.mark.parametrize("broken", ["requests", "itself", "alarm"])
def test_a_failing_diagnosis_does_not_hide_the_error(
    broken: str, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        # Airflow's alarm may go off at this moment.
        raise AirflowTaskTimeout("Timeout") if broken == "alarm" else RuntimeError("a bug")

    if broken == "requests":
        for path in ("*/errors*", "*/checkpoints", "*/operator_metric_groups", "*/validate_query"):
            sandbox.faults.status(500, path=path, times=None)
    else:
        monkeypatch.setattr(evidence, "gather_for_error", fail)
    ended = run_task(submit(BROKEN), SYNC)
    assert isinstance(ended.error, ArroyoTaskError)
    assert "is Fail" in str(ended.error)
    assert "/nonexistent/input.json" in str(ended.error)
    assert len(ended.texts("WARNING")) == 1
