"""Events between a request and its effect: external requests, and failures of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import REFUSED, T0, job, logged, move, wait

STOP = ("Stopped", "Finished", "Failed")
WAITING, REACHED, FAILED, WITHDRAWN = Outcome.WAITING, Outcome.REACHED, Outcome.FAILED, Outcome.WITHDRAWN


def stop(**more: Any) -> PipelineWait:
    return wait(*STOP, **{"before": job(), "resume_is_final": True, **more})


def restart(**more: Any) -> PipelineWait:
    """A restart, which Arroyo also carries out if the pipeline fails first."""
    return wait(**{"before": job(), "restart_requested": True, "stopped_is_final": True, **more})


def change(**more: Any) -> PipelineWait:
    """New settings, which Arroyo does not apply if the pipeline fails first."""
    return wait(**{"before": job(), "stopped_is_final": True, "finished_is_success": True, **more})


def asked(state: str, run_id: int = 1, **more: Any) -> Job:
    return job(state, run_id, desired=False, **more)


@dataclass
class History:
    """A history of polls since the request, and how the wait ends.

    :param seen: seconds and jobs; only the last one ends the wait.
    """

    wait: Any
    seen: list[tuple[float, Job]]
    outcome: Outcome


WITHDRAWN_BEFORE = [(0.1, asked("Running")), (1, job())]
HISTORIES = {
    "withdrawn before it began": History(stop, [*WITHDRAWN_BEFORE, (5.9, job()), (6, job())], WITHDRAWN),
    "withdrawn before the first poll": History(stop, [(0.1, job()), (5.1, job())], WITHDRAWN),
    "withdrawn while it stops": History(
        stop,
        [(0.3, asked("CheckpointStopping")), (0.4, job("CheckpointStopping")), (5.5, job("Running", 2))],
        WITHDRAWN,
    ),
    "stopped, and resumed at once": History(
        stop, [(0.4, job("CheckpointStopping")), (0.5, job("Stopped"))], REACHED
    ),
    "stopped before, and resumed once more": History(
        lambda: stop(before=job("Stopped")), [(0.1, job("Stopped")), (5.1, job("Stopped"))], WITHDRAWN
    ),
    "withdrawn during a rescale": History(
        stop,
        [
            (0.1, asked("Rescaling")),
            (0.3, asked("Scheduling", 2)),
            (0.4, job("Running", 2)),
            (5.4, job("Running", 2)),
        ],
        WITHDRAWN,
    ),
    "another job instead": History(
        stop, [(0.1, job("Created", 0, job_id="job_2")), (5.2, job(job_id="job_2"))], WITHDRAWN
    ),
    "withdrawn in a state of a newer server": History(
        stop, [(0.1, job("Hibernating")), (5.2, job("Hibernating"))], WITHDRAWN
    ),
    "withdrawn in Finishing": History(
        lambda: stop(finishing_is_final=True),
        [(0.1, asked("Finishing")), (3, job("Finishing")), (5.5, job("Finishing")), (8, job("Finishing"))],
        WITHDRAWN,
    ),
    "withdrawn and requested again": History(
        stop, [(0.1, job()), (5, asked("Running")), (9, job()), (13, asked("Stopped"))], REACHED
    ),
    "an old response": History(stop, [(0.1, job()), (0.2, asked("Running")), (1, asked("Stopped"))], REACHED),
    "not known whether": History(
        stop, [(0.1, Job("job_1", "Running", 1, None)), (60, Job("job_1", "Stopped", 1, None))], REACHED
    ),
    "failed though it was asked to run": History(
        stop, [(0.1, job("Failing")), (5.2, job("Failing")), (5.3, job("Failed"))], REACHED
    ),
    "finished though it was asked to run": History(stop, [(0.1, job()), (1, job("Finished"))], REACHED),
    "failed, then restarted as requested": History(
        restart,
        [
            (0.1, job("Failing")),
            (5.1, job("Failing")),
            (5.2, job("Failed")),
            (5.5, job("Compiling")),
            (6, job("Running", 2)),
        ],
        REACHED,
    ),
    "failed, and not restarted": History(restart, [(0.1, job("Failed")), (5.1, job("Failed"))], FAILED),
    "failed after other settings": History(change, [(0.1, job("Failing"))], FAILED),
    "failed in the new run": History(restart, [(0.1, job("Failing")), (6, job("Failing", 2))], FAILED),
    "Finishing ignores a restart": History(
        restart, [(0.1, job("Finishing")), (5.1, job("Finishing"))], Outcome.NO_CHECKPOINT
    ),
    "Finishing ignores other settings": History(
        change, [(0.1, job("Finishing")), (5.1, job("Finishing"))], Outcome.NO_CHECKPOINT
    ),
    "Finishing in the new run": History(change, [(0.1, job()), (1, job("Finishing", 2))], REACHED),
    "Finishing, then finished": History(change, [(0.1, job("Finishing")), (5, job("Finished"))], REACHED),
    "Finishing is on its way to Finished": History(
        lambda: wait("Finished", before=job()),
        [(0.1, job("Finishing")), (60, job("Finishing")), (61, job("Finished"))],
        REACHED,
    ),
    "stopped instead": History(restart, [(0.1, asked("Running")), (1, asked("Stopped"))], Outcome.STOPPED),
}


@pytest.mark.parametrize("moves", [False, True], ids=["in one process", "in several"])
@pytest.mark.parametrize("name", HISTORIES)
def test_the_wait_ends_as_soon_as_it_can_no_longer_succeed(name: str, moves: bool) -> None:
    history = HISTORIES[name]
    one = history.wait()
    outcomes = []
    for seconds, seen in history.seen:
        outcomes.append(one.observe(seen, T0 + seconds).outcome)
        one = move(one, T0 + seconds) if moves else one
    assert outcomes == [WAITING] * (len(outcomes) - 1) + [history.outcome]


def test_a_withdrawn_stop_is_polled_when_it_counts_and_logged_once() -> None:
    one = stop()
    one.observe(asked("Running"), T0 + 0.1)
    one.observe(job(), T0 + 1)
    assert one.next_due() == T0 + 6
    assert logged(one)[1:] == ["Running, stop request withdrawn: orders_per_minute (run 1)"]
    assert one.tick(T0 + 6).outcome is WAITING
    assert one.observe(job(), T0 + 6).outcome is WITHDRAWN


def test_a_state_during_an_outage_counts_from_its_end() -> None:
    one = stop()
    one.observe(job(), T0 + 0.1)
    one.observe_error(REFUSED, T0 + 1)
    one.observe_error(REFUSED, T0 + 20)
    assert one.observe(job(), T0 + 30).outcome is WAITING
    assert one.observe(asked("Running"), T0 + 31).outcome is WAITING
    assert one.observe(asked("Stopped"), T0 + 32).outcome is REACHED


def test_time_without_polls_proves_nothing() -> None:
    one = stop()
    one.observe(job(), T0 + 0.1)
    one = move(one, T0 + 60)
    assert one.observe(job(), T0 + 60).outcome is WAITING
    assert one.observe(job(), T0 + 65).outcome is WITHDRAWN


@pytest.mark.parametrize("desired, outcome", [(True, REACHED), (None, Outcome.TIMED_OUT)])
def test_a_guard_fails_if_its_pipeline_may_be_about_to_stop(desired: bool | None, outcome: Outcome) -> None:
    guard = wait("Stopped", timeout_is_success=True)
    guard.observe(Job("job_1", "Running", 1, desired), T0 + 1)
    assert guard.tick(T0 + 600).outcome is outcome
