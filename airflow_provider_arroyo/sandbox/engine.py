"""Runs the jobs: applies the transitions of the table as time passes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from functools import partial

from airflow_provider_arroyo.client.enums import JobState

from . import lifecycle, runs
from .clock import Agenda, Clock, micros
from .lifecycle import Cause, Millis, Transition, Variant, Version
from .records import FINAL_STATES, Checkpoint, Job, Pipeline, Store, new_id

_TICK = lifecycle.TICK_MILLIS * 1000
_STUCK = lifecycle.STUCK_SCHEDULING_MILLIS * 1000
_NO_SUCH_FILE = "No such file or directory (os error 2)"
_TOO_OFTEN = "Job has restarted too many times"
_WORKING = (JobState.RUNNING, JobState.FINISHING)


class Engine(Agenda):
    """Arroyo's controller and workers.

    :param variant: the table of transitions to use.
    :param allowed_restarts: how often a failing job is restarted (Arroyo's default is 20).
    :param rng: the source of times that vary.
    """

    def __init__(
        self, *, clock: Clock, variant: Variant, allowed_restarts: int, rng: random.Random, store: Store
    ) -> None:
        super().__init__(clock)
        clock.on_advance.append(self._time_passed)
        self.store = store
        self.variant = variant
        self.version: Version = "0.15" if variant == "0.15" else "0.16"
        self.allowed_restarts = allowed_restarts
        self.rng = rng
        self.changes = 0
        """Rises with every change of any job: by it a cached response is known to be valid."""
        self.controller_up = True
        self.on_change: list[Callable[[Job, str], None]] = []
        """Called with the job and its former state after each change of state."""
        self._table = lifecycle.transitions(variant)
        self._poll_period = self._draw(lifecycle.POLL_MILLIS)
        self._poll_origin = self.now - rng.randrange(self._poll_period)

    def _time_passed(self) -> None:
        with self.store.lock:
            self.advance()

    def _draw(self, millis: Millis) -> int:
        return self.rng.randint(millis[0] * 1000, millis[1] * 1000)

    # -- what is wanted -----------------------------------------------------------------------------------

    def want(self, job: Job) -> None:
        """Let the controller see at its next poll what was requested of the job."""
        self.touch(job)
        self._plan_poll(job)

    def touch(self, job: Job) -> None:
        """Forget the responses that were rendered from the job."""
        self.changes += 1
        job.rendered = None
        job.pipeline.rendered = None

    def _plan_poll(self, job: Job) -> None:
        after = max(self.now, job.picked_up_at or 0) - self._poll_origin
        moment = self._poll_origin + (after // self._poll_period + 1) * self._poll_period
        self.at(moment, lambda: self._poll(job))

    def _plan_poll_if_wanted(self, job: Job) -> None:
        # What was requested may have had no row in the former state.
        if any((job.state, cause) in self._table for cause in lifecycle.wanted(job)):
            self._plan_poll(job)

    def _poll(self, job: Job) -> None:
        if not self.controller_up or job.state_before_hold or job.pipeline.job is not job:
            return
        is_unreached = job.state == JobState.CREATED and (job.picked_up_at or 0) > self.now
        is_scheduling = job.state == JobState.SCHEDULING and self.now - job.entered < _STUCK
        is_short = job.state in (JobState.RESTARTING, JobState.RESCALING) and not job.is_stuck
        if is_unreached or is_scheduling or is_short:
            return
        if job.kafka_away:
            runs.catch_up(job, self.now, self.rng)
        for cause in lifecycle.wanted(job):
            if row := self._table.get((job.state, cause)):
                self._make(job, row)
                return
        if job.state == JobState.RUNNING and job.wanted.interval_micros != job.seen.interval_micros:
            runs.change_interval(job, self.now, self.rng)

    def checkpoints(self, job: Job) -> list[tuple[Checkpoint, bool]]:
        """Return the checkpoints of a job, by the server's clock, the oldest first, and whether each is finished."""
        runs.catch_up(job, self.now, self.rng)
        unfinished = runs.under_way(job, self.now)
        skews = ((one, self.server_time(one.start) - one.start) for one in job.checkpoints)
        return [(one.shifted(skew), one is not unfinished) for one, skew in skews]

    # -- what happens -------------------------------------------------------------------------------------

    def happen(self, job: Job, cause: Cause) -> bool:
        """Let something happen to a job now; return whether the table had a row for it."""
        row = self._table.get((job.state, cause))
        if row is None or job.state_before_hold or not (self.controller_up or cause is Cause.TIME):
            return False
        self._make(job, row)
        return True

    def hold(self, job: Job, state: str) -> None:
        """Let a job show a state, known or not, until it is released."""
        job.state_before_hold = job.state_before_hold or job.state
        self._show(job, state)

    def release(self, job: Job) -> None:
        """Let a held job continue where it was."""
        if (before := job.state_before_hold) is not None:
            job.state_before_hold = None
            self._show(job, before)
            self._plan_poll_if_wanted(job)

    def _show(self, job: Job, state: str) -> None:
        before, job.state = job.state, state
        self._changed(job, before)

    def _changed(self, job: Job, before: str) -> None:
        self.touch(job)
        for listener in self.on_change:
            listener(job, before)

    def fail(self, job: Job, *, error: str, domain: str, restarts: bool = True) -> None:
        """Let a task of a running job fail; does nothing to others.

        :param error: the reason.
        :param domain: user, external or internal.
        :param restarts: False: it is not tried again, whatever is allowed.
        """
        if job.state != JobState.RUNNING or job.state_before_hold:
            return
        too_often = self._count_failure(job) > self.allowed_restarts
        if self.version == "0.15" and restarts:
            # 0.15 keeps the reason to itself.
            if too_often:
                job.failure = (_TOO_OFTEN, domain)
        else:
            self.add_error(job, error, domain)
            job.failure = (error, domain)
        self.happen(job, Cause.TASK_FAILED_FOR_GOOD if too_often or not restarts else Cause.TASK_FAILED)

    def lose_worker(self, job: Job) -> None:
        """Kill the worker of a job: the controller notices more than half a second later."""
        self._plan(job, self._draw(lifecycle.WORKER_LOSS_NOTICED_MILLIS), lambda: self._worker_lost(job))

    def _worker_lost(self, job: Job) -> None:
        if self._count_failure(job) <= self.allowed_restarts - (self.version != "0.15"):
            self.happen(job, Cause.WORKER_LOST)
            return
        reason = _TOO_OFTEN if self.version == "0.15" else "Exhausted retries: error while running"
        job.failure = (reason, "internal")
        self.happen(job, Cause.WORKER_LOST_FOR_GOOD)

    def _count_failure(self, job: Job) -> int:
        if job.run_started is not None and self.now - job.run_started > micros(lifecycle.HEALTHY_SECONDS):
            job.failures = 0
        job.failures += 1
        return job.failures

    def add_error(
        self, job: Job, details: str, domain: str, *, message: str = "task failed", operator_id: str = ""
    ) -> None:
        """Add an entry to the errors that the API lists."""
        entry = {"id": new_id(self.rng, "jlm"), "created_at": self.server_now, "operator_id": operator_id}
        entry |= {"task_index": 0, "level": "error", "message": message, "details": details}
        job.errors.append(entry | {"error_domain": domain})

    def start(self, job: Job) -> None:
        """Give a job that waits for workers the workers, if there are any to give."""
        if job.state == JobState.SCHEDULING and job.wanted.parallelism > 0:
            self.happen(job, Cause.TIME)

    def stop_controller(self) -> None:
        """Take the controller away: the jobs stay as they are, whatever is asked, and make no checkpoints."""
        self.controller_up = False
        for job in self.store.jobs():
            runs.end(job, self.now, self.rng)

    def start_controller(self) -> None:
        """Bring the controller back: it schedules every job again that it finds at work."""
        if self.controller_up:
            return
        self.controller_up = True
        for job in self.store.jobs():
            self.at(self.now + self._draw(lifecycle.CONTROLLER_START_MILLIS), partial(self._found, job))

    def _found(self, job: Job) -> None:
        stop = job.wanted.stop != "none"
        if job.state in lifecycle.ACTIVE or (job.state == JobState.CREATED and stop):
            self.happen(job, Cause.CONTROLLER_BACK_STOP if stop else Cause.CONTROLLER_BACK)
        else:
            self._poll(job)

    def delete(self, pipeline: Pipeline) -> None:
        """Forget a pipeline, and let nothing more happen to its job."""
        del self.store.pipelines[pipeline.id]
        if (job := pipeline.job) is not None:
            job.turn += 1
            self.touch(job)
            pipeline.job = None

    # -- moving -------------------------------------------------------------------------------------------

    def _make(self, job: Job, row: Transition) -> None:
        stays = None if row.stays is None else self._draw(row.stays)
        if row.leaves_checkpoint and stays is not None and job.run_started is not None:
            if self._gets_stuck(job, row.to):
                stays = None
            else:
                runs.stopping_checkpoint(job, self.now, self.now + stays, self.rng)
        if row.cause in lifecycle.RESTARTS:
            is_requested = job.wanted.restarts != job.seen.restarts
            job.restarted = is_requested and job.state in (JobState.RUNNING, JobState.RESTARTING)
            job.failures = 0
        elif row.cause in (Cause.CONTROLLER_BACK, Cause.CONTROLLER_BACK_STOP):
            job.restarted = False
        elif row.cause is Cause.RESTART_AND_STOP:
            job.seen.restarts, job.failure = job.wanted.restarts, None
        job.run_id += row.counts_run
        self.enter(job, row.to.value, stays)

    def _gets_stuck(self, job: Job, to: JobState) -> bool:
        """Return whether the final checkpoint never finishes or, as a restart waits for no other, never begins."""
        runs.catch_up(job, self.now, self.rng)
        is_under_way = to is JobState.RESTARTING and runs.under_way(job, self.now) is not None
        return self.variant != "0.16-worker" and (is_under_way or job.has_endless_checkpoint)

    def enter(self, job: Job, state: str, stays: int | None = None) -> None:
        """Put a job into a state.

        :param stays: microseconds until the next transition; None: it waits for something to happen.
        """
        is_stuck = job.is_stuck
        before, job.state = job.state, state
        job.turn += 1
        job.entered = self.now
        if state == JobState.FINISHING:
            self._finishing(job)
        elif state in FINAL_STATES and stays is None:
            job.next_checkpoint = None
        elif before in _WORKING or is_stuck:
            runs.end(job, self.now, self.rng)
        else:
            runs.drop_unfinished(job, self.now)
        if state == JobState.COMPILING:
            job.started_anew = True
            job.picked_up_at = None
        elif state == JobState.SCHEDULING:
            self._scheduling(job)
            if job.never_starts or job.wanted.parallelism == 0:
                stays = None
                self.at(self.now + _STUCK, lambda: self._plan_poll_if_wanted(job))
        elif state == JobState.RUNNING:
            self._running(job)
        elif job.terminal or state == JobState.FAILING:
            if before != JobState.FAILING:
                job.finish_time = self.server_now
            job.restarted = job.restarted and state == JobState.FAILING
        if stays is not None:
            self._plan(job, stays, lambda: self.controller_up and self.happen(job, Cause.TIME))
        self._plan_poll_if_wanted(job)
        self._changed(job, before)

    def _plan(self, job: Job, after: int, act: Callable[[], object]) -> None:
        """Plan an action for after so many microseconds, unless the job leaves its state before."""
        self.at(self.now + after, partial(self._if_unchanged, job, job.turn, act))

    def _if_unchanged(self, job: Job, turn: int, act: Callable[[], object]) -> None:
        if job.turn != turn:
            return
        if job.state_before_hold:
            self.at(self.now + _TICK, lambda: self._if_unchanged(job, turn, act))
        else:
            act()

    def _scheduling(self, job: Job) -> None:
        job.run_id += 1
        job.failure = None
        if job.wanted.ignore_state:
            job.progress_micros = 0
        job.wanted.ignore_state = job.wanted.restart_force = False
        job.seen = dataclasses.replace(job.wanted)

    def _running(self, job: Job) -> None:
        if job.started_anew or job.start_time is None:
            job.start_time = self.server_now
        job.started_anew = False
        job.finish_time = None
        job.tasks = job.seen.parallelism * len(job.pipeline.graph.get("nodes", ()))
        runs.begin(job, self.now, self.rng)
        if job.pipeline.preview:
            run = job.run_id
            over = lifecycle.PREVIEW_TTL_SECONDS
            self.later(over, lambda: job.run_id == run and self.happen(job, Cause.TTL_OVER))
        missing = next(filter(None, (source.missing_path for source in job.pipeline.sources)), None)
        ends = self._ends(job)
        if job.flap is not None:
            self._plan(job, job.flap[0], lambda: self.end_flapping_run(job))
        elif job.kafka_away:
            self._plan(job, self._draw(lifecycle.KAFKA_GIVES_UP_MILLIS), lambda: self._kafka_gives_up(job))
        elif missing is not None:
            error = f"error in connector: failed to open file '{missing}': {_NO_SUCH_FILE}"
            self._plan(job, _TICK + self._draw((2, 6)), lambda: self.fail(job, error=error, domain="user"))
        elif ends:
            first = _next_tick(min(ends)) + self._draw((2, 5))
            self._plan(job, first, lambda: self.happen(job, Cause.SOURCE_ENDED))

    def _ends(self, job: Job) -> list[int]:
        """Return after how much of the run each source ends that does."""
        durations = [source.duration_micros for source in job.pipeline.sources]
        return [max(0, item - job.progress_micros) for item in durations if item is not None]

    def _finishing(self, job: Job) -> None:
        runs.end_checkpoints(job, self.now, self.rng)
        ends = self._ends(job)
        if len(ends) == len(job.pipeline.sources):
            left = (job.run_started or self.now) + _next_tick(max(ends, default=0)) - self.now
            self._plan(job, max(0, left) + self._draw((1, 4)), lambda: self.happen(job, Cause.SOURCES_ENDED))

    def _kafka_gives_up(self, job: Job) -> None:
        source = job.pipeline.sources[0].name if job.pipeline.sources else "kafka"
        message = "Could not create Kafka consumer" if self.version == "0.15" else "creating kafka consumer"
        details = "Meta data fetch error: BrokerTransportFailure (Local: Broker transport failure)"
        self.add_error(job, details, "external", message=message, operator_id=f"source_{source}_0")
        self.happen(job, Cause.SOURCE_LOST)

    def end_flapping_run(self, job: Job) -> None:
        """End a run of a flapping job: it recovers, and the failure is not counted."""
        if job.flap is not None and self.happen(job, Cause.WORKER_LOST):
            lasts, left = job.flap
            job.flap = (lasts, left - 1) if left > 1 else None


def _next_tick(micros: int) -> int:
    return (micros // _TICK + 1) * _TICK
