"""The faults of a sandbox: stores them, and applies them to requests, pipelines and the server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.models import JobState

from . import fault_types as types
from .clock import micros
from .engine import Engine
from .http_server import HttpServer
from .records import Job


class Faults:
    """The faults of a sandbox, each injected by the method of its name, which returns its id.

    ``status latency early_hints reset hang_up hang endless cut_short not_json`` hit requests to the API;
    ``fail flap kafka_away late_pickup never_starts show_state traffic kill_worker delete stop`` hit pipelines;
    ``api_away controller_away server_restart clock_skew`` hit the server. :mod:`fault_types` says what each
    takes. ``pipeline`` may be an id, a name, or a pattern of either; if there is no such pipeline yet, the
    fault waits for the next one that is created. ``path`` is a pattern too.

    .. code-block:: python

        sandbox.faults.status(503, times=2, path="*/jobs")
        sandbox.faults.fail("orders", error="topic is gone", domain="external", after=3)
    """

    def __init__(self, *, engine: Engine, server: HttpServer) -> None:
        self._engine = engine
        self._store = engine.store
        self._lock = engine.store.lock
        self._server = server
        self._ids = itertools.count(1)
        self._controller_away = 0
        """The fault that took the controller away last."""
        self._pending: list[types.Fault] = []
        self._first_runs: dict[str, list[types.PipelineFault]] = {}
        """By job id, the faults to plan when the job first runs."""
        self._planned: dict[int, tuple[types.PipelineFault, list[Job]]] = {}
        """By fault id, the planned faults, and the jobs that each has not hit yet."""
        self._cancel_return: Callable[[], object] = lambda: None
        engine.on_change.append(self._changed)

    # -- injecting ----------------------------------------------------------------------------------------

    def __getattr__(self, kind: str) -> Callable[..., int]:
        if kind not in types.KINDS:
            raise AttributeError(
                f"there is no fault of the kind {kind!r}; there are {', '.join(types.KINDS)}"
            )

        def inject(*values: Any, **fields: Any) -> int:
            names = types.KINDS[kind].positional
            if len(values) > len(names):
                raise TypeError(f"{kind} takes {len(names)} arguments by position ({', '.join(names)})")
            return self.inject(kind, **dict(zip(names, values, strict=False)), **fields)

        return inject

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *types.KINDS]

    def inject(self, kind: str, /, **fields: Any) -> int:
        """Inject a fault by the name of its kind.

        :param kind: one of ``fault_types.KINDS``.
        :param fields: what that kind takes.
        :returns: its id.
        :raises ValueError: naming the field that is wrong, and the choices.
        """
        return self.add(types.parse({"kind": kind, **fields}))

    def add(self, fault: types.Fault) -> int:
        """Inject a fault; return its id."""
        engine = self._engine
        with self._lock:
            engine.advance()
            fault.id = next(self._ids)
            match fault:
                case types.RequestFault():
                    self._pending.append(fault)
                case types.PipelineFault():
                    existing = [job for job in self._store.jobs() if fault.matches(job.pipeline)]
                    for job in existing:
                        self._plan(job, fault)
                    if not existing:
                        self._pending.append(fault)
                case types.ControllerAway() | types.ServerRestart():
                    engine.stop_controller()
                    self._controller_away = fault.id
                    if fault.seconds is not None:
                        engine.later(fault.seconds, partial(self._controller_returns, fault.id))
                case types.ClockSkew():
                    engine.set_skew(micros(fault.seconds))
        if isinstance(fault, types.ApiAway | types.ServerRestart):
            # Without the lock, since open requests wait for it.
            self._cancel_return()
            self._server.close()
            if fault.seconds is not None:
                back = engine.on_clock(engine.now + micros(fault.seconds))
                self._cancel_return = engine.clock.call_at(back, self._server.open)
        return fault.id

    def api_back(self) -> None:
        """Bring the API back."""
        self._cancel_return()
        self._server.open()

    def controller_back(self) -> None:
        """Bring the controller back."""
        with self._lock:
            self._engine.advance()
            self._engine.start_controller()

    def _controller_returns(self, fault_id: int) -> None:
        if self._controller_away == fault_id:
            self._engine.start_controller()

    def release(self, pipeline: str = "*") -> None:
        """Let pipelines that :meth:`show_state` holds continue where they were.

        :param pipeline: their id or name, or a pattern of it.
        """
        with self._lock:
            self._engine.advance()
            for job in self._store.jobs():
                if types.PipelineFault(pipeline=pipeline).matches(job.pipeline):
                    self._engine.release(job)

    def pending(self) -> list[dict[str, Any]]:
        """Return the faults that are not used up: on requests, on future pipelines, and those that hit later."""
        with self._lock:
            self._engine.advance()
            names = {kind: name for name, kind in types.KINDS.items()}
            waiting = [*self._pending, *(fault for fault, _ in self._planned.values())]
            return [{"kind": names[type(fault)], **asdict(fault)} for fault in waiting]

    def remove(self, fault_id: int) -> bool:
        """Remove a fault that is not used up; return whether there was one."""
        with self._lock:
            self._engine.advance()
            before = len(self._pending)
            self._pending = [fault for fault in self._pending if fault.id != fault_id]
            return self._planned.pop(fault_id, None) is not None or len(self._pending) < before

    def clear(self) -> None:
        """Remove all faults, also those that would hit later; bring the server back, and release all pipelines."""
        with self._lock:
            self._engine.advance()
            self._pending.clear()
            self._planned.clear()
            self._first_runs.clear()
            self._engine.set_skew(0)
            self._engine.start_controller()
            for job in self._store.jobs():
                self._engine.release(job)
                job.kafka_away, job.flap = False, None
                job.traffic.clear()
                if job.picked_up_at is not None:
                    job.picked_up_at = None
                    self._engine.want(job)
                if job.never_starts:
                    job.never_starts = False
                    self._engine.start(job)
        self.api_back()

    # -- requests -----------------------------------------------------------------------------------------

    def matching(self, method: str, path: str) -> list[types.RequestFault]:
        """Return the faults that hit a request, and count them: all delays and interim responses, and one other."""
        found: list[types.RequestFault] = []
        replaced = False
        for fault in tuple(self._pending):
            if not (isinstance(fault, types.RequestFault) and fault.matches(method, path)):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if not isinstance(fault, types.Latency | types.EarlyHints):
                if replaced:
                    continue
                replaced = True
            found.append(fault)
            self._count(fault)
        return found

    def _count(self, fault: types.RequestFault | types.PipelineFault) -> None:
        """Count a fault that hits; drop it once it is used up."""
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._pending.remove(fault)

    # -- pipelines ----------------------------------------------------------------------------------------

    def _plan(self, job: Job, fault: types.PipelineFault) -> None:
        self._planned.setdefault(fault.id, (fault, []))[1].append(job)
        self._engine.later(fault.after, partial(self._hit_later, job, fault))

    def _hit_later(self, job: Job, fault: types.PipelineFault) -> None:
        """Hit a job, unless the fault was removed meanwhile."""
        _, jobs = self._planned.get(fault.id, (fault, []))
        if any(one is job for one in jobs):
            jobs[:] = [one for one in jobs if one is not job]
            if not jobs:
                del self._planned[fault.id]
            self._hit(job, fault)

    def job_created(self, job: Job) -> None:
        """Apply the faults that waited for such a pipeline."""
        for fault in tuple(self._pending):
            if not (isinstance(fault, types.PipelineFault) and fault.matches(job.pipeline)):
                continue
            self._count(fault)
            if fault.at_creation:
                self._hit(job, fault)
            else:
                self._first_runs.setdefault(job.id, []).append(fault)

    def _changed(self, job: Job, before: str) -> None:
        if self._first_runs and job.state == JobState.RUNNING:
            for fault in self._first_runs.pop(job.id, ()):
                self._plan(job, fault)

    def _hit(self, job: Job, fault: types.PipelineFault) -> None:
        engine = self._engine
        if job.pipeline.job is not job:
            return
        match fault:
            case types.Fail():
                self._fail(job, fault)
            case types.Flap():
                job.flap = (micros(fault.every), fault.runs)
                if job.state == JobState.RUNNING:
                    engine.end_flapping_run(job)
            case types.KafkaAway():
                job.kafka_away = True
            case types.LatePickup():
                job.picked_up_at = engine.now + micros(fault.seconds)
                engine.want(job)
            case types.NeverStarts():
                job.never_starts = True
            case types.ShowState():
                engine.hold(job, fault.state)
                if fault.seconds is not None:
                    engine.later(fault.seconds, lambda: engine.release(job))
            case types.Traffic():
                job.traffic.append((engine.now, fault))
            case types.KillWorker():
                engine.lose_worker(job)
            case types.Delete():
                engine.delete(job)
            case types.Stop():
                job.wanted.stop = fault.mode
                engine.want(job)

    def _fail(self, job: Job, fault: types.Fail) -> None:
        engine = self._engine
        engine.release(job)
        if job.state == JobState.RUNNING:
            engine.fail(job, error=fault.error, domain=fault.domain, restarts=fault.restarts)
        elif not job.terminal:
            engine.add_error(job, fault.error, fault.domain)
            job.failure = (fault.error, fault.domain)
            engine.enter(job, JobState.FAILED.value)
