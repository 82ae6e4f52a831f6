"""Lets the jobs live: takes the moves out of the table as time passes.

Nothing runs in the background. Each planned move lies in a heap, and :meth:`Engine.advance` makes those
that are due, in order, before anybody looks. So the same requests at the same times give the same story,
on a clock that is real, scaled, or moved by hand.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.models import JobState

from . import running
from .clock import Clock, micros
from .lifecycle import (
    ACTIVE,
    CONTROLLER_START_MILLIS,
    GLANCE_MILLIS,
    HEALTHY_SECONDS,
    PREVIEW_TTL_SECONDS,
    STUCK_SCHEDULING_MILLIS,
    TICK_MILLIS,
    WANTED,
    WORKER_LOSS_NOTICED_MILLIS,
    Cause,
    Flavour,
    Millis,
    Move,
    moves,
)
from .records import Job

_STOPS = {
    "checkpoint": Cause.STOP_CHECKPOINT,
    "graceful": Cause.STOP_GRACEFUL,
    "immediate": Cause.STOP_IMMEDIATE,
    "force": Cause.STOP_FORCE,
}
_ACTIVE = frozenset(state.value for state in ACTIVE)
_TICK = TICK_MILLIS * 1000


class Engine:
    """The controller, the workers and the time that they take.

    :param clock: whose time it is.
    :param flavour: which table it follows.
    :param allowed_restarts: how often a job may fail and be tried again (Arroyo's default is 20).
    :param rng: where times that differ are drawn from; seeded, the story repeats itself.
    """

    def __init__(self, *, clock: Clock, flavour: Flavour, allowed_restarts: int, rng: random.Random) -> None:
        self.clock = clock
        self.flavour = flavour
        self.allowed_restarts = allowed_restarts
        self.rng = rng
        self.changes = 0
        """Rises with every change of any job: who keeps an answer knows by it whether it still holds."""
        self.controller_up = True
        self.now = clock.now_micros()
        self.on_change: list[Callable[[Job, str], None]] = []
        """Called with the job and its former state after each change of state."""
        self.on_touch: Callable[[str], None] | None = None
        """Called with the id of the pipeline whenever anything of its job changes."""
        self._table = moves(flavour)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0
        self._glance_period = self._draw(GLANCE_MILLIS)
        self._glance_origin = self.now - rng.randrange(self._glance_period)
        self._skew = 0

    # -- time ---------------------------------------------------------------------------------------------

    def advance(self) -> int:
        """Make every move that is due, and return the time."""
        until = self.clock.now_micros() + self._skew
        heap = self._heap
        while heap and heap[0][0] <= until:
            moment, _, act = heapq.heappop(heap)
            self.now = max(self.now, moment)
            act()
        self.now = max(self.now, until)
        return self.now

    def set_skew(self, skew_micros: int, jobs: list[Job]) -> None:
        """Set the server's clock ahead of the sandbox's, or behind: what was written keeps its time.

        :param jobs: every job there is: what is planned for them comes when it would have come.
        """
        by = skew_micros - self._skew
        self._skew = skew_micros
        self.now += by
        self._glance_origin += by
        self._heap = [(moment + by, number, act) for moment, number, act in self._heap]
        for job in jobs:
            running.shift(job, self.now - by, by)
            job.entered += by
            self.touch(job)

    async def sleep_until(self, moment: int) -> None:
        """Return once the engine's time has reached the moment."""
        await self.clock.sleep_until(moment - self._skew)

    def at(self, moment: int, act: Callable[[], None]) -> None:
        """Plan an act for a moment."""
        self._planned += 1
        heapq.heappush(self._heap, (moment, self._planned, act))

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Plan an act in so many seconds of the sandbox's time."""
        self.at(self.now + micros(seconds), act)

    @property
    def next_due(self) -> int | None:
        """When the next planned act is due; None: nothing is planned."""
        return self._heap[0][0] if self._heap else None

    def _draw(self, millis: Millis) -> int:
        return self.rng.randint(millis[0] * 1000, millis[1] * 1000)

    def _next_glance(self) -> int:
        passed = (self.now - self._glance_origin) // self._glance_period
        return self._glance_origin + (passed + 1) * self._glance_period

    # -- what is wanted -----------------------------------------------------------------------------------

    def want(self, job: Job) -> None:
        """Let the controller find out at its next glance that something was asked of the job."""
        self.touch(job)
        self.at(self._next_glance(), lambda: self._glance(job))

    def touch(self, job: Job) -> None:
        """Forget the answers that were made of the job."""
        self.changes += 1
        if self.on_touch is not None:
            self.on_touch(job.pipeline.id)
        job.rendered = None
        job.pipeline.rendered = None

    def _wanted(self, job: Job) -> set[Cause]:
        wanted = job.wanted
        causes = set()
        if wanted.stop != "none":
            causes.add(_STOPS[wanted.stop])
        elif not (job.pipeline.preview and job.state == JobState.STOPPED):
            causes.add(Cause.START)
        if wanted.restarts != job.seen_restarts:
            if wanted.ignore_state:
                causes.add(Cause.RESTART_NO_STATE)
            else:
                causes.add(Cause.RESTART_FORCE if wanted.restart_force else Cause.RESTART)
        if (wanted.env_vars, wanted.scheduler_config) != job.seen_env:
            causes.add(Cause.ENV_CHANGED)
        if wanted.parallelism != job.seen_parallelism:
            causes.add(Cause.RESTART if job.restarted else Cause.RESCALE)
        return causes

    def _glance(self, job: Job) -> None:
        if not self.controller_up:
            return
        if job.held or job.pipeline.job is not job:
            return
        if job.state == JobState.SCHEDULING and self.now - job.entered < STUCK_SCHEDULING_MILLIS * 1000:
            return
        wanted = self._wanted(job)
        for cause in WANTED:
            if cause in wanted and (move := self._table.get((job.state, cause))):
                self._make(job, move)
                return
        if job.state == JobState.RUNNING and job.wanted.interval_micros != job.seen_interval_micros:
            running.catch_up(job, self.now, self.rng)
            job.seen_interval_micros = job.wanted.interval_micros
            running.plan_checkpoint(job, self.now)

    # -- what happens -------------------------------------------------------------------------------------

    def hold(self, job: Job, state: str) -> None:
        """Let a job show a state, whatever it is called, until it is let go."""
        if not job.held:
            job.held, job.state_before_hold = True, job.state
        self._show(job, state)

    def let_go(self, job: Job) -> None:
        """Let a held job go on where it was."""
        if job.held:
            job.held = False
            self._show(job, job.state_before_hold)
            self._later_glance(job)

    def _show(self, job: Job, state: str) -> None:
        before, job.state = job.state, state
        self.touch(job)
        for listener in self.on_change:
            listener(job, before)

    def happen(self, job: Job, cause: Cause) -> bool:
        """Let something happen to a job now; return whether its state had a row for it."""
        move = self._table.get((job.state, cause))
        if move is None or job.held:
            return False
        if not self.controller_up and cause is not Cause.TIME:
            return False
        self._make(job, move)
        return True

    def fail(self, job: Job, *, error: str, domain: str, restarts: bool = True) -> None:
        """Let a task of the job fail, as far as it runs.

        :param error: what it says.
        :param domain: whose fault it is: user, external, internal.
        :param restarts: False: it is not tried again, whatever is allowed.
        """
        if job.state != JobState.RUNNING or job.held:
            return
        self._clear_after_healthy_run(job)
        job.failures += 1
        gone_too_far = not restarts or job.failures > self.allowed_restarts
        cause = Cause.TASK_FAILED_FOR_GOOD if gone_too_far else Cause.TASK_FAILED
        if self.flavour == "0.15" and restarts:
            # 0.15 keeps the reason to itself.
            if gone_too_far:
                job.failure = ("Job has restarted too many times", domain)
        else:
            self.note_error(job, error, domain)
            job.failure = (error, domain)
        self.happen(job, cause)

    def lose_worker(self, job: Job) -> None:
        """Kill the worker of a job: the controller notices more than half a second later."""
        turn = job.turn

        def noticed() -> None:
            if job.turn != turn:
                return
            self._clear_after_healthy_run(job)
            job.failures += 1
            spent = job.failures > self.allowed_restarts - (self.flavour != "0.15")
            if not spent:
                self.happen(job, Cause.WORKER_LOST)
                return
            if self.flavour == "0.15":
                job.failure = ("Job has restarted too many times", "internal")
            else:
                job.failure = ("Exhausted retries: error while running", "internal")
            self.happen(job, Cause.WORKER_LOST_FOR_GOOD)

        self.at(self.now + self._draw(WORKER_LOSS_NOTICED_MILLIS), noticed)

    def note_error(self, job: Job, error: str, domain: str) -> None:
        """Add an entry to what the API lists as the job's errors."""
        job.errors.append(
            {
                "id": new_id(self.rng, "jlm"),
                "created_at": self.now,
                "operator_id": "",
                "task_index": 0,
                "level": "error",
                "message": "task failed",
                "details": error,
                "error_domain": domain,
            }
        )

    def _clear_after_healthy_run(self, job: Job) -> None:
        if job.run_started is not None and self.now - job.run_started > micros(HEALTHY_SECONDS):
            job.failures = 0

    def controller_goes(self, jobs: list[Job]) -> None:
        """Take the controller away: the jobs stand as they are, whatever is asked, and make no checkpoints."""
        self.controller_up = False
        for job in jobs:
            running.end(job, self.now, self.rng)

    def controller_comes(self, jobs: list[Job]) -> None:
        """Bring the controller back: it starts every job again that it finds at work."""
        if self.controller_up:
            return
        self.controller_up = True
        for job in jobs:
            self.at(self.now + self._draw(CONTROLLER_START_MILLIS), partial(self._found, job))

    def _found(self, job: Job) -> None:
        if job.state in _ACTIVE:
            stop = job.wanted.stop != "none"
            self.happen(job, Cause.CONTROLLER_BACK_STOP if stop else Cause.CONTROLLER_BACK)
        else:
            self._glance(job)

    # -- moving -------------------------------------------------------------------------------------------

    def _make(self, job: Job, move: Move) -> None:
        stays = None if move.stays is None else self._draw(move.stays)
        if move.leaves_checkpoint and stays is not None and job.run_started is not None:
            running.stopping_checkpoint(job, self.now, self.now + stays, self.rng)
        if move.cause in (Cause.RESTART, Cause.RESTART_FORCE, Cause.RESTART_NO_STATE):
            job.restarted = job.state == JobState.RUNNING
            job.failures = 0
            if move.cause is Cause.RESTART_NO_STATE:
                job.progress_micros = 0
        elif move.cause in (Cause.CONTROLLER_BACK, Cause.CONTROLLER_BACK_STOP):
            job.restarted = False
        self.enter(job, move.to.value, stays)

    def enter(self, job: Job, state: str, stays: int | None = None) -> None:
        """Put a job into a state.

        :param stays: micros until it moves on by itself; None: until something happens.
        """
        before = job.state
        job.state = state
        job.turn += 1
        job.entered = self.now
        if before == JobState.RUNNING:
            running.end(job, self.now, self.rng)
        else:
            running.drop_unfinished(job, self.now)
        if state == JobState.SCHEDULING:
            self._schedule(job)
            if job.never_starts or job.wanted.parallelism == 0:
                stays = None
                self.at(self.now + STUCK_SCHEDULING_MILLIS * 1000, lambda: self._later_glance(job))
        elif state == JobState.RUNNING:
            self._run(job)
        elif state in (JobState.STOPPED, JobState.FINISHED, JobState.FAILED, JobState.FAILING):
            if before != JobState.FAILING:
                job.finish_time = self.now
            if state != JobState.FAILING:
                job.restarted = False
        if stays is not None:
            turn = job.turn
            self.at(self.now + stays, lambda: self._time_is_up(job, turn))
        self.touch(job)
        self._later_glance(job)
        for listener in self.on_change:
            listener(job, before)

    def _later_glance(self, job: Job) -> None:
        # Something may have been asked while no row of the former state obeyed it.
        wanted = self._wanted(job)
        if any((job.state, cause) in self._table for cause in wanted):
            self.at(self._next_glance(), lambda: self._glance(job))

    def _time_is_up(self, job: Job, turn: int) -> None:
        if job.turn != turn:
            return
        if job.held:
            self.at(self.now + _TICK, lambda: self._time_is_up(job, turn))
            return
        if not self.controller_up:
            return
        self.happen(job, Cause.TIME)

    def _schedule(self, job: Job) -> None:
        wanted = job.wanted
        job.run_id += 1
        job.failure = None
        job.seen_restarts = wanted.restarts
        job.seen_parallelism = wanted.parallelism
        job.seen_env = (dict(wanted.env_vars), dict(wanted.scheduler_config))
        job.seen_interval_micros = wanted.interval_micros
        wanted.ignore_state = wanted.restart_force = False

    def _run(self, job: Job) -> None:
        job.start_time = self.now
        job.finish_time = None
        job.tasks = job.seen_parallelism * len(job.pipeline.graph.get("nodes", ()))
        running.begin(job, self.now, self.rng)
        turn = job.turn
        pipeline = job.pipeline

        def if_still(act: Callable[[], Any]) -> Callable[[], None]:
            def guarded() -> None:
                if job.turn == turn:
                    if job.held:
                        self.at(self.now + _TICK, guarded)
                    else:
                        act()

            return guarded

        if pipeline.preview:
            over = if_still(lambda: self.happen(job, Cause.TTL_OVER))
            self.at(self.now + micros(PREVIEW_TTL_SECONDS), over)
        if job.flap is not None:
            self.at(self.now + job.flap[0], if_still(lambda: self.end_run_of_flapping(job)))
            return
        missing = next((source.missing_path for source in pipeline.sources if source.missing_path), None)
        if missing is not None:
            error = (
                f"error in connector: failed to open file '{missing}': No such file or directory (os error 2)"
            )
            failing = if_still(lambda: self.fail(job, error=error, domain="user"))
            self.at(self.now + _TICK + self._draw((2, 6)), failing)
            return
        durations = [source.duration_micros for source in pipeline.sources]
        if durations and all(duration is not None for duration in durations):
            left = max(0, max(duration or 0 for duration in durations) - job.progress_micros)
            end = self.now + (left // _TICK + 1) * _TICK + self._draw((2, 5))
            self.at(end, if_still(lambda: self.happen(job, Cause.SOURCES_DONE)))

    def end_run_of_flapping(self, job: Job) -> None:
        """Let a run of a flapping job end: it recovers, and the failure is not counted."""
        if job.flap is not None and self.happen(job, Cause.WORKER_LOST):
            lasts, left = job.flap
            job.flap = (lasts, left - 1) if left > 1 else None


_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id(rng: random.Random, prefix: str) -> str:
    """Return an id as Arroyo makes them: the prefix and ten letters or digits."""
    return f"{prefix}_{''.join(rng.choices(_ALPHABET, k=10))}"
