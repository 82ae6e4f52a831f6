"""A task tolerates an outage for api_outage_tolerance: one WARNING when it begins, one INFO when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.hooks.errors import ArroyoTaskError
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .conftest import Arrange
from .harness import DEFERRED, SYNC, Make, run_task, sense, stop, submit

TASKS: dict[str, Callable[..., Make]] = {
    "submit": lambda _, **more: submit(wait_for=None, **more),
    "stop": lambda pipeline_id, **more: stop(pipeline_id, wait_for_completion=False, **more),
}


@pytest.fixture(params=TASKS)
def make(request: pytest.FixtureRequest, arrange: Arrange) -> Callable[..., Make]:
    """Return a factory for a task that begins with its own requests."""
    pipeline_id = arrange.pipeline("Running")
    return lambda **more: TASKS[request.param](pipeline_id, **more)


def test_an_outage_within_the_tolerance_passes(make: Callable[..., Make], sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=4)
    ended = run_task(make(), SYNC)
    assert ended.error is None, ended.error
    (warning,) = ended.texts("WARNING")
    assert " failed, retrying for up to 10 min: " in warning
    assert "is not available at the moment (503)" in warning
    (info,) = [text for text in ended.texts("INFO") if text.startswith("Arroyo responds again after ")]
    assert float(info.split()[-2]) >= 0.5


@pytest.mark.parametrize("tolerance", [1.0, timedelta(seconds=1)])
def test_an_outage_beyond_the_tolerance_is_an_error(
    tolerance: Any, make: Callable[..., Make], sandbox: ArroyoSandbox
) -> None:
    sandbox.faults.status(503, times=None)
    began = time.monotonic()
    ended = run_task(make(api_outage_tolerance=tolerance), SYNC)
    assert time.monotonic() - began < 10
    assert type(ended.error) is ArroyoTaskError
    text = str(ended.error)
    assert text.startswith("Arroyo has been unreachable for ")
    assert "Last error of " in text
    assert "Check the server and the connection." in text
    assert len(ended.texts("WARNING")) == 1


def test_without_tolerance_a_failure_is_an_error(make: Callable[..., Make], sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, times=1)
    ended = run_task(make(api_outage_tolerance=0), SYNC)
    assert type(ended.error) is ArroyoTaskError
    assert ended.texts("WARNING") == []


@pytest.mark.arroyo_versions("0.15", "0.16")
def test_a_create_whose_response_is_lost_makes_one_pipeline(sandbox: ArroyoSandbox) -> None:
    method = "POST" if sandbox.arroyo_version == "0.15" else "PUT"
    sandbox.faults.reset(method=method, path="*/pipelines*", after_effect=True, times=1)
    ended = run_task(submit(), SYNC)
    assert ended.error is None, ended.error
    assert ended.result["action"] == "created"
    assert list(sandbox.store.pipelines) == [ended.result["pipeline_id"]]


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_hanging_server_is_an_outage(mode: str, sandbox: ArroyoSandbox, arrange: Arrange) -> None:
    """Its read timeout is 30 seconds, and each poll may be retried ten times."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.hang(path="*/jobs", times=None)
    began = time.monotonic()
    ended = run_task(sense(pipeline_id, api_outage_tolerance=3, timeout=120), mode)
    sandbox.faults.clear()
    assert isinstance(ended.error, ArroyoTaskError)
    assert "unreachable" in str(ended.error)
    assert 3 <= time.monotonic() - began < 20


@pytest.mark.parametrize("mode", [SYNC, DEFERRED])
def test_a_wait_announces_an_outage_and_its_end(
    mode: str, sandbox: ArroyoSandbox, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (
        "client.retry",
        "monitoring.wait",
        "monitoring.progress",
        "monitoring.messages",
        "polling.connection",
    ):
        # An outage is announced after that many retries, which take only tenths of a second here.
        monkeypatch.setattr(f"airflow_provider_arroyo.{module}.POLL_RETRIES", 2)
    pipeline_id = arrange.pipeline("Running")

    def fail() -> None:
        sandbox.faults.status(503, path="*/jobs", times=5)
        sandbox.faults.stop(pipeline_id, after=4)

    arrange.after_polls(fail)
    ended = run_task(sense(pipeline_id, "Stopped"), mode)
    assert ended.error is None, ended.error
    warnings = ended.texts("WARNING")
    assert [text for text in warnings if text.startswith("Poll failed, retry 1 of 2 in ")]
    assert [text for text in warnings if text.startswith("Poll failed, retry 2 of 2 in ")]
    (announced,) = [text for text in warnings if text.startswith("Arroyo unreachable for ")]
    assert "retrying for up to 10 min in total (api_outage_tolerance): orders: " in announced
    assert len(warnings) == 3
    (info,) = [text for text in ended.texts("INFO") if text.startswith("Arroyo reachable again after ")]
    assert info.endswith(": orders")


@pytest.mark.parametrize("method, skip", [("GET", 0), ("GET", 1), ("GET", 3), ("PATCH", 0)])
def test_a_stop_behind_two_servers_one_of_which_does_not_know_the_pipeline(
    method: str, skip: int, sandbox: ArroyoSandbox, arrange: Arrange
) -> None:
    """A response that it is gone would end the task in success, while the pipeline runs."""
    pipeline_id = arrange.pipeline("Running")
    sandbox.faults.status(404, error="Pipeline not found", method=method, path=f"*/{pipeline_id}*", skip=skip)
    ended = run_task(stop(pipeline_id, if_missing="succeed"), SYNC)
    assert ended.error is None, ended.error
    assert (ended.result["state"], ended.result["missing"]) == ("Stopped", False)
    assert "several servers respond at this address" in "\n".join(ended.texts("WARNING"))
