"""What checkpoints tell: whether data flows, whether a stop took its final one, and for how long none has finished.

Epochs, not clocks, tell in which order things happened: a gateway may overwrite the server's clock, and Arroyo
renews a job's ``start_time`` only when the job is created, resumed or restarted after a failure. The clock is used
only where epochs leave it open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.enums import TERMINAL_STATES, CheckpointType, JobState
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.wire import JsonValue

TAKES_NONE = TERMINAL_STATES | {JobState.FAILING, JobState.FINISHING}
"""The states without checkpoints. Arroyo takes none once one of several sources has ended."""

# -- whether data flows ----------------------------------------------------------------------------------------

SETTLES_SECONDS = 0.5
"""How long a state without new checkpoints must last, in seconds, until none can follow. If all sources end,
``Finished`` follows ``Finishing`` within milliseconds, and the metadata of a checkpoint in progress is written
up to 200 ms later.
"""

WRITTEN = "WritingMetadata"
"""The last phase of a checkpoint before the sinks commit."""

_LEAST_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOfLife(JsonValue):
    """The proof that data flows: a finished checkpoint that began in the awaited run.

    ``Running`` proves little: a Kafka source that cannot reach its broker is ``Running`` for 30 seconds at a time,
    and its first checkpoint begins but never finishes. A checkpoint finishes only after every operator has passed its
    barrier. Checkpoints that had finished when a run was first seen are older than the run, and so are those that
    had been written, but not committed by the sinks: after a failure, the next run commits them. Before a first run,
    there are none.

    :param after_epoch: the highest epoch that had been written when the run was first seen; None if unknown.
    :param epoch: the finished checkpoint that is the proof; None without one.
    :param open_epoch: the last checkpoint, if it has not finished.
    :param is_final: whether the checkpoints were read when no more could follow.
    """

    after_epoch: int | None = None
    epoch: int | None = None
    open_epoch: int | None = None
    is_final: bool = False

    @classmethod
    def of_run(cls, job: Job) -> Self:
        """Return the initial knowledge about a run that has just begun."""
        return cls(after_epoch=0 if job.run_id <= 1 else None)

    def after(self, checkpoints: Sequence[Checkpoint], *, is_final: bool) -> Self:
        """Return what is known after a reading.

        :param checkpoints: the checkpoints as read.
        :param is_final: whether no more can follow.
        """
        finished, last = highest_epoch(one for one in checkpoints if one.is_finished), _last(checkpoints)
        open_epoch = None if last is None or last.is_finished else last.epoch
        known = replace(self, open_epoch=open_epoch, is_final=is_final)
        if self.after_epoch is None:
            written = [one for one in checkpoints if any(span.event == WRITTEN for span in one.events)]
            return replace(known, after_epoch=max(finished, highest_epoch(written)))
        return replace(known, epoch=finished) if finished > self.after_epoch else known


def pause_seconds(waited_seconds: float) -> float:
    """Return how long to wait before the checkpoints are read again, in seconds: less and less often, so that long
    waits for rare checkpoints cost little.

    :param waited_seconds: how long the wait for them has lasted.
    """
    return min(max(waited_seconds / 10, _LEAST_PAUSE_SECONDS), _MOST_PAUSE_SECONDS)


# -- whether a stop took its final checkpoint ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest(JsonValue):
    """What must be recorded when a stop is requested, to prove its checkpoint afterwards.

    The state ``Stopped`` alone does not prove it. Restarts and rescales also leave checkpoints of type ``stopping``,
    and change only the ``run_id``.

    :param after_epoch: the highest epoch before the request, finished or not; 0 if there was no checkpoint.
    :param requested_at_micros: when it was requested, by the ``date`` of the response; None if unknown.
    :param accepted_epoch: if the server sends no checkpoint types: the highest epoch after it accepted the request; a
        higher one began later. None if it was not read.
    :param run_id: the run in which it was requested; None if unknown.
    """

    after_epoch: int
    requested_at_micros: int | None = None
    accepted_epoch: int | None = None
    run_id: int | None = None

    @classmethod
    def after(
        cls,
        checkpoints: Sequence[Checkpoint],
        requested_at_micros: int | None = None,
        *,
        accepted: Sequence[Checkpoint] | None = None,
        job: Job | None = None,
    ) -> Self:
        """Return the record of a stop request, from the checkpoints before it.

        :param checkpoints: the job's checkpoints before the request.
        :param requested_at_micros: when it was requested, by the ``date`` of the response; None if unknown.
        :param accepted: the checkpoints after the server accepted the request.
        :param job: the job before the request.
        """
        # Before the first run, there can be no checkpoint.
        highest, run_id = highest_epoch(checkpoints), None if job is None else max(1, job.run_id)
        last = _last(checkpoints)
        if job is not None and last is not None and last.checkpoint_type == CheckpointType.STOPPING:
            if job.state == JobState.CHECKPOINT_STOPPING and not last.is_finished:
                # An earlier stop request is in progress; this is its checkpoint.
                highest = highest_epoch(one for one in checkpoints if one is not last)
            elif job.state in (JobState.RESTARTING, JobState.RESCALING):
                # The checkpoint of the next run is already here.
                run_id = job.run_id + 1
        return cls(
            after_epoch=highest,
            requested_at_micros=requested_at_micros,
            accepted_epoch=None if accepted is None else highest_epoch(accepted),
            run_id=run_id,
        )


def checkpoint_of_stop(
    checkpoints: Sequence[Checkpoint], request: StopRequest, job: Job | None = None
) -> Checkpoint | None:
    """Return the checkpoint that a stop took; None without proof.

    It is the last checkpoint, it is finished, and its epoch is higher than any before the request. If the server
    sends types (0.16), its type is ``stopping``. Otherwise (0.15), it began after the request: by its epoch or, if
    that leaves it open, by the server's clock. If runs began since the request, each of them may have taken one of
    the checkpoints.

    :param checkpoints: the job's checkpoints after it stopped.
    :param request: the record of the stop request.
    :param job: the stopped job; default None, if no run began since.
    """
    last = _last(checkpoints)
    if last is None or not last.is_finished or last.epoch <= request.after_epoch:
        return None
    if last.checkpoint_type not in (None, CheckpointType.STOPPING):
        return None
    if last.checkpoint_type is None and not _began_after(last, request):
        return None
    runs = 0 if job is None or request.run_id is None else max(0, job.run_id - request.run_id)
    later = [one for one in checkpoints if one.epoch > request.after_epoch and one.is_finished]
    return last if sum(one.checkpoint_type == last.checkpoint_type for one in later) > runs else None


def checkpoint_of_stopped(checkpoints: Sequence[Checkpoint], job: Job) -> Checkpoint | None:
    """Return the final checkpoint of a job that was found stopped; None without proof.

    Only the first run can prove it, and only if the server sends types: by its last checkpoint, finished and of type
    ``stopping``. After a restart, that checkpoint may be the restart's, since nothing tells when the last run began.

    :param checkpoints: the job's checkpoints.
    :param job: the stopped job.
    """
    last = _last(checkpoints)
    if last is None or not last.is_finished or last.checkpoint_type != CheckpointType.STOPPING:
        return None
    is_first_run = job.run_id <= 1 and job.start_time_micros is not None
    return last if is_first_run and last.start_time_micros >= (job.start_time_micros or 0) else None


def _began_after(checkpoint: Checkpoint, request: StopRequest) -> bool:
    if request.accepted_epoch is not None and checkpoint.epoch > request.accepted_epoch:
        return True
    at = request.requested_at_micros
    return at is not None and checkpoint.start_time_micros >= at


# -- for how long none has finished ----------------------------------------------------------------------------

_READS_PER_AGE = 10
_LEAST_STEP_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class CheckpointAge:
    """How long a pipeline that should take checkpoints has finished none, determined by their epochs.

    The server's times only make this more precise. Where an event would depend on them alone, another reading must
    confirm it: a wrong clock causes one only if no checkpoint finishes between two readings. Other times are seconds
    since the epoch, by the watcher's clock.

    :param max_age_seconds: the maximum age.
    :param job_id: the job; None before one was seen.
    :param epoch: the last finished checkpoint, 0 for none; None before the first reading.
    :param finished_at_micros: when it finished, by the server's clock.
    :param since: since when none has finished; None if none is expected.
    :param read_at, tried_at: when the checkpoints were last read, and when the last try to read them began.
    :param may_be_older: whether the checkpoints may have stopped before the watch began.
    """

    max_age_seconds: float
    job_id: str | None = None
    epoch: int | None = None
    finished_at_micros: int | None = None
    since: float | None = None
    read_at: float | None = None
    tried_at: float | None = None
    may_be_older: bool = False

    @property
    def step_seconds(self) -> float:
        """Time between two readings."""
        return max(_LEAST_STEP_SECONDS, self.max_age_seconds / _READS_PER_AGE)

    def follow(self, job: Job, now: float) -> None:
        """Record the current job; a job that is stopping or has ended takes no checkpoints."""
        is_first = job.id != self.job_id
        if is_first:
            self.job_id, self.epoch, self.since = job.id, None, None
        if job.state in TAKES_NONE or job.running_desired is False:
            self.since = None
        elif self.since is None:
            # A job that starts again shows when it ended, and no new start, until it runs.
            is_starting = job.finish_time_micros is not None
            self.since, self.read_at, self.tried_at = now, None, None
            self.may_be_older = is_first and not is_starting

    def due(self) -> float | None:
        """Return when the checkpoints must be read; None if none are expected."""
        if self.since is None:
            return None
        if self.tried_at is None:
            return self.since + self.step_seconds
        ends = self.since + self.max_age_seconds
        following = self.tried_at + self.step_seconds
        return min(following, ends) if ends > self.tried_at else following

    def take(
        self, job: Job, checkpoints: Sequence[Checkpoint], now: float, server_time: float | None
    ) -> bool:
        """Process the checkpoints, and return whether the last one is too old.

        :param job: the job.
        :param checkpoints: its checkpoints.
        :param now: when they were received, by the watcher's clock.
        :param server_time: when they were read, by the server's clock; None if unknown.
        """
        self.tried_at = now
        if self.since is None:
            return False
        last = last_finished(checkpoints)
        epoch = 0 if last is None else last.epoch
        finished = None if last is None else last.finish_time_micros
        # Without the server's time, it is only known that the checkpoint finished since the last reading.
        age = 0.0 if server_time is None else max(0.0, server_time - (finished or 0) / 1e6)
        possible = max(0.0, now - (self.since if self.read_at is None else self.read_at))
        # One more reading must confirm what only the clocks tell, since they may be wrong.
        most = self.max_age_seconds - self.step_seconds
        if self.read_at is None and self.may_be_older:
            began = max(finished or 0, job.start_time_micros or 0, job.created_at_micros) / 1e6
            older = (now if server_time is None else server_time) - began
            if older > possible:
                older = max(possible, older - self.step_seconds)
            self.since = now - max(0.0, min(older, most))
        elif finished is not None and self.read_at is None:
            self.since = now - min(age, possible, most)
        elif finished is not None and epoch != self.epoch:
            # It finished since the last reading, so a higher age shows that a clock is wrong.
            self.since = now - (min(age, most) if age <= possible else 0.0)
        self.epoch, self.finished_at_micros, self.read_at, self.may_be_older = epoch, finished, now, False
        return now - self.since >= self.max_age_seconds


LONG_SECONDS = 120.0
"""How long a final checkpoint may take, in seconds, before something is likely to be wrong."""

WAY_OUT = {
    JobState.RESTARTING: "A restart with force=True ends that, and continues from its last finished checkpoint.",
    JobState.RESCALING: "Stop it with mode 'immediate', then resume it from its last finished checkpoint.",
    JobState.CHECKPOINT_STOPPING: "A stop with mode 'immediate' ends that.",
}
"""What ends the wait in each state that begins with it. Arroyo itself waits for ever, also if a restart was requested
while another checkpoint was in progress.
"""


def waits_seconds(jobs: Sequence[Job], checkpoints: Sequence[Checkpoint], now: float) -> float:
    """Return for how long nothing has been heard of the final checkpoint, which a stop, a restart and a rescale begin
    with; 0 if none is awaited.

    :param jobs: the job, as polled several times, oldest first.
    :param checkpoints: its checkpoints, read after that.
    :param now: the server's time, seconds since the epoch.
    """
    last = _last(checkpoints)
    state = jobs[-1].state
    if last is None or state not in WAY_OUT or any(job.state != state for job in jobs):
        return 0.0
    return now - (last.finish_time_micros or last.start_time_micros) / 1e6


def last_finished(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """Return the finished checkpoint of the highest epoch; None if there is none."""
    return _last(one for one in checkpoints if one.is_finished)


def highest_epoch(checkpoints: Iterable[Checkpoint]) -> int:
    """Return the highest epoch, finished or not; 0 if there is no checkpoint."""
    return max((one.epoch for one in checkpoints), default=0)


def _last(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    return max(checkpoints, key=lambda one: one.epoch, default=None)
