"""The worker's loop, on a clock that only advances during sleeps and requests."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoConnectionError, ArroyoSettingsError
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.poll import poll_until
from tests.polling.fake_arroyo import CHECKPOINTS, Answer, FakeArroyo
from tests.polling.support import a_logger, a_plan
from tests.polling.virtual_time import EPOCH, ManualTime, VirtualClock
from tests.support import Lines


class Worker:
    """One task that waits in a worker."""

    def __init__(self, state: str = "Scheduling") -> None:
        self.time = ManualTime()
        self.clock = VirtualClock(monotonic=self.time)
        self.server = FakeArroyo(monotonic=self.time, spend=self.time.sleep)
        self.server.set("pl_1", state)
        self.lines = Lines()

    def wait(
        self,
        *targets: str,
        interval: float = 0.1,
        until: float | None = None,
        stop_when: Any = None,
        **plan: Any,
    ) -> WaitResult:
        now = self.clock()
        return poll_until(
            self.server.client(),
            PipelineWait(a_plan("pl_1", *targets, at=now, **plan), now=now),
            clock=self.clock,
            interval_seconds=interval,
            log=a_logger(self.lines),
            until=until,
            stop_when=stop_when,
            sleep=self.time.sleep,
        )

    def away(self, begin: float, end: float = float("inf"), answer: Answer = "refused") -> None:
        """Make the server unreachable for a while."""
        self.server.fault = lambda kind, of: answer if begin <= self.time() < end else None


def test_it_polls_at_once_then_at_the_interval() -> None:
    worker = Worker()
    worker.server.seconds = lambda kind, of: 0.03
    worker.server.at(0.95, lambda: worker.server.set("pl_1", "Running"))
    assert worker.wait().outcome is Outcome.REACHED
    assert [time for time, _, _ in worker.server.log] == pytest.approx(
        [0.1 * number for number in range(11)], abs=0.001
    )
    assert worker.lines.lines == [
        ("INFO", "Scheduling: pl_1 (run 1)"),
        ("INFO", "Scheduling → Running after 1.0 s: pl_1 (run 1)"),
    ]


def test_a_slow_server_is_polled_without_a_pause_but_not_twice_at_a_time() -> None:
    worker = Worker()
    worker.server.seconds = lambda kind, of: 0.5
    worker.server.at(2.0, lambda: worker.server.set("pl_1", "Running"))
    assert worker.wait().outcome is Outcome.REACHED
    assert worker.server.count() == 5


@pytest.mark.parametrize("step", [0.0001, 0.0013, 0.0037, 0.011])
def test_a_poll_that_becomes_due_between_two_clock_readings_is_not_skipped(step: float) -> None:
    for stable_for in (0.29 + 0.0005 * number for number in range(40)):
        worker = Worker("Running")

        def passing(passed: ManualTime = worker.time) -> float:
            passed.sleep(step)
            return passed()

        worker.clock = VirtualClock(monotonic=passing)
        assert worker.wait(stable_for=timedelta(seconds=stable_for)).outcome is Outcome.REACHED
        assert worker.time() < 1, stable_for


@pytest.mark.parametrize("interval", [0.1, 60.0])
def test_the_deadline_is_kept(interval: float) -> None:
    worker = Worker()
    assert worker.wait(timeout=7, interval=interval).outcome is Outcome.TIMED_OUT
    assert worker.time() == pytest.approx(7)


@pytest.mark.parametrize("seconds, outcome", [(1.5, Outcome.REACHED), (60.0, Outcome.TIMED_OUT)])
def test_a_wait_after_its_deadline_still_polls_once(seconds: float, outcome: Outcome) -> None:
    worker = Worker("Running")
    worker.server.seconds = lambda kind, of: seconds
    assert worker.wait(timeout=0).outcome is outcome
    assert (worker.time(), worker.server.count()) == (min(seconds, 2.0), 1)


def test_a_hanging_poll_does_not_outlast_the_deadline() -> None:
    worker = Worker()
    worker.away(5, answer="hangs")
    assert worker.wait(timeout=11).outcome is Outcome.TIMED_OUT
    assert worker.time() == pytest.approx(11)


def test_it_returns_at_a_given_time_or_as_soon_as_a_result_is_as_wanted() -> None:
    worker = Worker()
    assert worker.wait(until=EPOCH + 3).outcome is Outcome.WAITING
    assert worker.time() == pytest.approx(3)
    assert worker.wait(until=EPOCH + 10, interval=60).outcome is Outcome.WAITING
    assert worker.time() == pytest.approx(10)
    assert worker.wait(stop_when=lambda result: result.job is not None).outcome is Outcome.WAITING
    assert worker.time() == pytest.approx(10)


def test_the_heartbeat_is_logged_though_polls_are_rare() -> None:
    worker = Worker()
    worker.wait(timeout=35, interval=3600, heartbeat=timedelta(seconds=10))
    assert [text.split(";")[0] for _, text in worker.lines.lines[1:]] == [
        f"Still Scheduling after {seconds}.0 s: pl_1 (run 1)" for seconds in (10, 20, 30)
    ]


def test_a_heartbeat_of_zero_does_not_spin() -> None:
    worker = Worker()
    worker.away(2)
    result = worker.wait(heartbeat=timedelta(0), outage_tolerance=timedelta(seconds=30))
    assert result.outcome is Outcome.UNREACHABLE
    assert len(worker.lines.lines) < 1000


# -- outages -------------------------------------------------------------------------------------------------


def test_an_outage_is_retried_and_its_start_and_end_are_logged() -> None:
    worker = Worker()
    worker.away(2, 42)
    worker.server.at(42, lambda: worker.server.set("pl_1", "Running"))
    assert worker.wait().outcome is Outcome.REACHED
    assert worker.time() <= 44
    warnings = [text for level, text in worker.lines.lines if level == "WARNING"]
    assert [text.split(" in ")[0] for text in warnings[:10]] == [
        f"Poll failed, retry {number} of 10" for number in range(1, 11)
    ]
    assert warnings[10].startswith("Arroyo unreachable for")
    assert len(warnings) == 11
    assert [text.split(" after")[0] for level, text in worker.lines.lines if level == "INFO"] == [
        "Scheduling: pl_1 (run 1)",
        "Arroyo reachable again",
        "Scheduling → Running",
    ]


def test_pauses_between_retries_grow_from_100_ms_to_2_s() -> None:
    worker = Worker()
    worker.away(0.05)
    worker.wait(timeout=60)
    times = [time for time, _, _ in worker.server.log][1:13]
    pauses = [b - a for a, b in itertools.pairwise(times)]
    for retry, pause in enumerate(pauses[:10], 1):
        most = min(2.0, 0.1 * 2**retry)
        assert most / 2 - 1e-6 <= pause <= most + 1e-6
    # After ten retries the poll is missed, and the next one follows at the interval.
    assert pauses[10] == pytest.approx(0.1)


@pytest.mark.parametrize("answer", ["refused", "hangs", (503, ""), (200, "<html>")])
@pytest.mark.parametrize("tolerance", [8, 12.7, 30])
def test_the_tolerance_is_kept_to_a_second(answer: Answer, tolerance: float) -> None:
    worker = Worker()
    worker.away(20, answer=answer)
    result = worker.wait(outage_tolerance=timedelta(seconds=tolerance))
    assert result.outcome is Outcome.UNREACHABLE
    assert tolerance - 0.11 <= worker.time() - 20 <= tolerance + 0.5
    assert result.error is not None


def test_a_hanging_try_in_an_outage_does_not_outlast_the_tolerance() -> None:
    worker = Worker()
    worker.server.fault = lambda kind, of: (
        None if worker.time() < 100 else "refused" if worker.time() < 120 else "hangs"
    )
    result = worker.wait(outage_tolerance=timedelta(seconds=30))
    assert result.outcome is Outcome.UNREACHABLE
    assert worker.time() <= 130.1


def test_a_slow_response_is_not_an_outage_even_without_tolerance() -> None:
    worker = Worker("Running")
    worker.server.seconds = lambda kind, of: 4.5
    assert worker.wait(outage_tolerance=timedelta(0)).outcome is Outcome.REACHED
    worker.away(0)
    assert worker.wait(outage_tolerance=timedelta(0)).outcome is Outcome.UNREACHABLE


def test_retry_after_is_respected() -> None:
    worker = Worker()
    worker.away(1, 2, answer=(429, ""))
    worker.server.headers = {"retry-after": "4"}
    worker.wait(timeout=20)
    times = [time for time, _, _ in worker.server.log]
    assert min(b for a, b in itertools.pairwise(times) if b - a > 1) >= 4


@pytest.mark.parametrize(
    "error", [None, ArroyoNoConnectionError("none"), ArroyoSettingsError("another server")]
)
def test_the_connection_is_loaded_again_after_each_missed_poll(error: ArroyoError | None) -> None:
    worker = Worker()
    loaded: list[float] = []

    def load() -> ClientSettings:
        loaded.append(worker.time())
        if error is not None:
            raise error
        return worker.server.clients[0].settings

    worker.server.reload = load
    worker.away(1)
    result = worker.wait(timeout=61)
    if isinstance(error, ArroyoSettingsError) and not isinstance(error, ArroyoNoConnectionError):
        assert (result.outcome, result.error, len(loaded)) == (Outcome.ERROR, error, 1)
    else:
        assert result.outcome is Outcome.TIMED_OUT
        assert 3 <= len(loaded) <= 6


def test_a_permanent_error_ends_the_wait_at_once() -> None:
    worker = Worker()
    worker.away(1, answer=(401, ""))
    assert worker.wait().outcome is Outcome.ERROR
    worker.away(0, answer=(404, '{"error": "Pipeline not found"}'))
    assert worker.wait().outcome is Outcome.MISSING
    assert worker.time() <= 1.1


def test_checkpoints_are_read_only_while_they_are_waited_for() -> None:
    worker = Worker()
    worker.server.at(1.05, lambda: worker.server.set("pl_1", "Running"))
    worker.server.at(2.05, lambda: worker.server.checkpoint("pl_1", 1, finished=False))
    worker.server.at(8.05, lambda: worker.server.checkpoint("pl_1", 1))
    result = worker.wait(stable_for=timedelta(seconds=2), until_checkpoint=True)
    assert (result.outcome, result.lacks_checkpoint) == (Outcome.REACHED, False)
    reads = [time for time, kind, _ in worker.server.log if kind == CHECKPOINTS]
    assert reads[0] >= 3.09
    assert 4 <= len(reads) <= 6
    assert worker.lines.lines[-1] == ("INFO", "Checkpoint 1 finished: pl_1 (run 1)")


@pytest.mark.parametrize("answer", ["refused", "hangs", (500, ""), (404, '{"error": "Pipeline not found"}')])
def test_unreadable_checkpoints_are_not_an_outage(answer: Answer) -> None:
    worker = Worker("Running")
    worker.server.checkpoint("pl_1", 1)
    worker.server.fault = lambda kind, of: answer if kind == CHECKPOINTS and worker.time() < 20 else None
    result = worker.wait(until_checkpoint=True, outage_tolerance=timedelta(seconds=5))
    assert result.outcome is Outcome.REACHED
    assert worker.time() < 30
    warnings = [text for level, text in worker.lines.lines if level == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("Checkpoints cannot be read, retrying: pl_1: ")


def test_an_interruption_is_raised() -> None:
    worker = Worker()

    def interrupt(kind: str, pipeline_id: str) -> None:
        raise KeyboardInterrupt

    worker.server.fault = interrupt
    with pytest.raises(KeyboardInterrupt):
        worker.wait()
