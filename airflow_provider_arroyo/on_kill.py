"""What happens to a pipeline if its task is killed: it keeps running, unless ``stop_on_kill`` requests a stop.

A stop is requested only if the task instance really ended, and only for the run that the task watched. Airflow
also kills work that it only moves: when a worker shuts down, or when another triggerer takes over. After a clear,
the old try can be killed when the new one has already adopted the pipeline.

One pure decision (:func:`reason_not_to_stop`, :func:`reason_not_ended`), and two callers: in a worker
(:func:`stop_on_kill`), and in a triggerer (``triggers/on_kill.py``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_arroyo.client.enums import TERMINAL_STATES, JobState, StopMode
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.monitoring.plan import PipelineRef

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.monitoring.wait import PipelineWait
    from airflow_provider_arroyo.pipelines.submit import Submission

T = TypeVar("T")

WAIT_XCOM_KEY = "arroyo_wait"
"""The key under which a task stores the run it watches, the try, and whether that wait is over. Airflow tells a
killed trigger none of this. After a clear, the task's state is that of a later try, which may have succeeded. If two
triggerers run the same wait, one is killed when the other's event has made the task succeed.
"""

ENDED_STATES = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})
"""States of a task instance that end its try without another one. A cleared task instance has none of them."""

WORKER_SECONDS = 4.0
"""How long it may take in a worker, in seconds; Airflow kills the worker's process after 5 seconds."""

_FIND_SECONDS = 0.25
"""Time between two look-ups of a pipeline that is being created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRun(JsonValue):
    """The run that a task watches.

    :param pipeline: the pipeline.
    :param job: its job as last seen; None if none was seen.
    :param awaits_run: whether the task had requested a run that had not begun yet; default False.
    """

    pipeline: PipelineRef
    job: Job | None = None
    awaits_run: bool = False

    @classmethod
    def of(cls, wait: PipelineWait) -> Self:
        """Return the run that a wait watches; before it has seen one, the run before the change."""
        before, job = wait.plan.baseline, wait.progress.job
        if job is None and before is not None:
            job = Job(id=before.job_id, state=before.state, run_id=before.run_id)
        return cls(pipeline=wait.plan.pipeline, job=job, awaits_run=wait.awaits_run)

    @property
    def advice(self) -> str:
        """How to stop the pipeline, which keeps running."""
        pipeline_id, name = self.pipeline.pipeline_id, self.pipeline.name
        which = f"pipeline_id={pipeline_id!r}" if pipeline_id else f"pipeline_name={name!r}"
        what = f"{self.pipeline.label} keeps running; stop it with"
        return f"{what} ArroyoStopPipelineOperator({which}) or in Arroyo's console"


# -- the decision --------------------------------------------------------------------------------------------------


def reason_not_to_stop(job: Job | None, watched: Job | None, *, awaits_run: bool = False) -> str | None:
    """Return why a pipeline must not be stopped; None if it may be.

    :param job: its current job; None if it has none.
    :param watched: its job as the task last saw it; None if it saw none.
    :param awaits_run: whether the task had requested a run that had not begun yet.
    """
    # The old state still shows for a moment after a restart or a resume.
    is_stopped = job is not None and job.state == JobState.STOPPED and job.running_desired is False
    may_start = awaits_run and job is not None and job.state != JobState.FINISHED and not is_stopped
    if job is None or (job.state in TERMINAL_STATES and not may_start):
        return "it no longer runs"
    if job.running_desired is False:
        return "a stop was already requested"
    if watched is None:
        return "this task never saw it run"
    # Run 0 is a job that was not scheduled yet; run 1 is the same job a moment later.
    may_have_begun = watched.run_id == 0 or awaits_run
    has_begun_since = may_have_begun and (job.id, job.run_id) == (watched.id, watched.run_id + 1)
    if (job.id, job.run_id) != (watched.id, watched.run_id) and not has_begun_since:
        now = f"it is now at run {job.run_id} of {job.id}"
        return f"{now}, but this task watched run {watched.run_id} of {watched.id}"
    return None


def reason_not_ended(state: str | None, noted: Mapping[str, Any], try_number: int) -> str | None:
    """Return why a killed try is no reason for a stop; None if the task ended with this try.

    :param state: the state of the task instance in Airflow.
    :param noted: the last note of the task instance about its wait.
    :param try_number: the try that was killed.
    """
    if state not in ENDED_STATES:
        return f"the state of its task in Airflow is {state or 'none: it was cleared'}"
    if noted.get("try_number") != try_number:
        return "a later try of its task has begun"
    return "its task had ended by itself" if noted.get("is_over") else None


# -- the note about the watched run --------------------------------------------------------------------------------


def note_wait(ti: Any, watched: WatchedRun, *, is_over: bool = False) -> None:
    """Store which run a try of a task watches, for :func:`noted_wait`.

    :param ti: the task instance.
    :param watched: the run that it watches.
    :param is_over: whether the wait has ended by itself, so that a later kill stops nothing; default False.
    """
    ti.xcom_push(
        key=WAIT_XCOM_KEY,
        value={**watched.to_dict(), "try_number": ti.try_number, "is_over": is_over},
    )


def noted_wait(ti: Any) -> WatchedRun | None:
    """Return the note of this task instance about its wait; None if there is none."""
    try:
        return WatchedRun.from_dict(_read_note(ti))
    except ValueError:
        return None


def _read_note(ti: Any) -> Mapping[str, Any]:
    # Without an index, Airflow returns the notes of all mapped instances.
    value = ti.xcom_pull(task_ids=ti.task_id, key=WAIT_XCOM_KEY, map_indexes=map_index_of(ti))
    return value if isinstance(value, Mapping) else {}


# -- in a worker ---------------------------------------------------------------------------------------------------


def stop_on_kill(
    client: ArroyoClient,
    watched: WatchedRun,
    mode: StopMode | None,
    *,
    ti: Any,
    is_timeout: bool,
    log: Any,
    submission: Submission | None = None,
    limit_seconds: float = WORKER_SECONDS,
) -> bool:
    """Stop the pipeline of a task that ends in the worker, if wanted and allowed; log what was done.

    Never waits for the stop to finish, and never raises.

    :param client: sends the requests; not a submit's own client, which may be in the middle of a request.
    :param watched: the run that the task watched.
    :param mode: how to stop; None leaves the pipeline running.
    :param ti: the task instance, whose state is read from Airflow.
    :param is_timeout: whether the task ends because of a timeout, so that its state need not be read.
    :param log: gets one line.
    :param submission: the submit that was interrupted before a wait saw its pipeline. Only a pipeline that this
        submit created is stopped, found by its ownership label as soon as it exists; one of an earlier try that was
        being adopted keeps running. Default None.
    :param limit_seconds: how long it may take in total.
    :returns: whether a stop was requested.
    """
    advice, adopted = watched.advice, None if submission is None else submission.adopted
    if adopted is not None:
        watched = WatchedRun(pipeline=PipelineRef(pipeline_id=adopted.id, name=adopted.name))
        advice = f"{watched.advice}, or clear this task to adopt it"
    elif submission is not None:
        name = watched.pipeline.short
        advice = (
            f"If pipeline {name!r} exists, it keeps running; stop it with ArroyoStopPipelineOperator("
            f"pipeline_name={name!r}) or in Arroyo's console, or clear this task to adopt it"
        )
    if mode is None:
        log.info("This task ends. %s", advice)
        return False
    if adopted is not None:
        why = "this task ended before it had adopted or replaced it"
        log.warning("%s is not stopped: %s. %s", watched.pipeline.label, why, advice)
        return False
    deadline = time.monotonic() + limit_seconds
    if not is_timeout and not has_ended(ti, limit_seconds / 2, advice, log):
        return False
    if submission is not None:
        created = _created_by(submission, client, deadline, advice, log)
        if created is None:
            return False
        watched = created
    return request_stop(client, watched, mode, deadline, log)


def _created_by(
    submission: Submission, client: ArroyoClient, deadline: float, advice: str, log: Any
) -> WatchedRun | None:
    """Return the pipeline that a submit created, as soon as it exists; if it does not in time, log that."""
    try:
        limited = client.with_limits(
            max_elapsed_seconds=max(0.0, deadline - time.monotonic()), deadline=deadline
        )
        found = submission.find_created(limited)
        while found is None and submission.is_pending and time.monotonic() + _FIND_SECONDS < deadline:
            time.sleep(_FIND_SECONDS)
            found = submission.find_created(limited)
        if found is not None:
            pipeline = PipelineRef(pipeline_id=found.id, name=found.name)
            return WatchedRun(pipeline=pipeline, job=limited.get_job(found.id))
        log.warning("This task ended before it had created its pipeline. %s", advice)
    except Exception as err:  # noqa: BLE001  # the task ends whatever fails, so it is logged
        log.error("The pipeline of a task that ended was not found: %s. %s", err, advice)
    return None


def has_ended(ti: Any, limit_seconds: float, advice: str, log: Any) -> bool:
    """Return whether, according to Airflow, the task instance ended with this try; if not, log why.

    :param ti, log: see :func:`stop_on_kill`.
    :param limit_seconds: how long Airflow may take to respond.
    :param advice: how to stop the pipeline by hand.
    """
    try:
        state, note = _in_time(lambda: _ask_airflow(ti), limit_seconds)
    except Exception as err:  # noqa: BLE001  # the task ends whatever Airflow responds, so it is logged
        log.warning("This task was killed, and its state in Airflow is unknown (%r). %s", err, advice)
        return False
    if reason := reason_not_ended(state, note, ti.try_number):
        log.warning("This task was killed, but %s. %s", reason, advice)
        return False
    return True


def request_stop(
    client: ArroyoClient, watched: WatchedRun, mode: StopMode, deadline: float, log: Any
) -> bool:
    """Request a stop of the watched run, unless another run has begun; log what was done.

    In ``Finishing``, it is stopped immediately if the mode would have no effect.

    :param client, watched, mode, log: see :func:`stop_on_kill`.
    :param deadline: on ``time.monotonic``.
    :returns: whether a stop was requested.
    """
    from airflow_provider_arroyo.pipelines.stopping import effective_stop_mode

    pipeline_id = watched.pipeline.pipeline_id
    try:
        limited = client.with_limits(
            max_elapsed_seconds=max(0.0, deadline - time.monotonic()), deadline=deadline
        )
        job = limited.get_job(pipeline_id)
        reason = reason_not_to_stop(job, watched.job, awaits_run=watched.awaits_run)
        if job is None or reason:
            log.warning("%s is not stopped: %s", watched.pipeline.label, reason)
            return False
        possible = effective_stop_mode(job, mode)
        limited.patch_pipeline(pipeline_id, stop=possible)
    except ArroyoNotFoundError:
        log.warning("%s is not stopped: it was deleted", watched.pipeline.label)
        return False
    except Exception as err:  # noqa: BLE001  # the task ends whatever fails, so it is logged
        log.error("The stop of a task that ended failed: %s. %s", err, watched.advice)
        return False
    how = possible.value if possible is mode else f"{possible.value}: Finishing ignores {mode.value}"
    log.warning("Stop requested (%s), because its task ended: %s", how, watched.pipeline.label)
    return True


def _ask_airflow(ti: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Return the state of a task instance, then its note about the wait.

    The order matters: Airflow deletes the note when the next try begins, before that try can end; and the end of a
    wait is noted before its task ends.
    """
    state = state_in(ti.get_task_states(**question_about(ti)), ti)
    return state, _read_note(ti)


def _in_time(ask: Callable[[], T], seconds: float) -> T:
    """Return what ``ask`` returns.

    It runs in its own thread: the signal that led here may have interrupted the main thread during a request to the
    supervisor.

    :raises TimeoutError: if it takes longer.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as err:  # noqa: BLE001  # handed to the thread that waits; Airflow has some of its own
            future.set_exception(as_exception(err))

    threading.Thread(target=run, daemon=True, name="arroyo-task-state").start()
    if not wait_for_futures([future], seconds).done:
        raise TimeoutError(f"no response in {seconds:.1f} s")
    return future.result()


def as_exception(error: BaseException) -> Exception:
    """Return an error that ``except Exception`` catches; some of Airflow's are not, such as that of a deadlock."""
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


# -- what worker and triggerer read from Airflow -------------------------------------------------------------------


def state_in(states: Mapping[str, Mapping[str, Any]], ti: Any) -> str | None:
    """Return the state of a task instance from Airflow's response about task states."""
    index = map_index_of(ti)
    state = states.get(ti.run_id, {}).get(ti.task_id if index < 0 else f"{ti.task_id}_{index}")
    return None if state is None else str(getattr(state, "value", state))


def map_index_of(ti: Any) -> int:
    """Return the map index; -1 also if Airflow has None for a task that is not mapped."""
    return -1 if ti.map_index is None else int(ti.map_index)


def question_about(ti: Any) -> dict[str, Any]:
    """Return the request for the state of a task instance."""
    index = {} if map_index_of(ti) < 0 else {"map_index": ti.map_index}
    return {"dag_id": ti.dag_id, "task_ids": [ti.task_id], "run_ids": [ti.run_id], **index}
