"""The faults of a sandbox: stores them, and applies them to requests, pipelines and the server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.enums import JobState

from .clock import micros
from .engine import Engine
from .fault_types import KINDS, Fault, parse
from .http_server import HttpServer
from .records import Job, Pipeline

_AWAY = {"api_away": ("api",), "controller_away": ("controller",), "server_restart": ("controller", "api")}


class Faults:
    """The faults of a sandbox, each injected by the method of its name, which returns its id.

    ``status latency early_hints reset hang_up hang endless cut_short not_json`` hit requests to the API;
    ``fail flap kafka_away late_pickup never_starts show_state traffic kill_worker delete stop`` hit pipelines;
    ``api_away controller_away server_restart clock_skew`` hit the server. :data:`fault_types.KINDS` says what
    each takes. ``pipeline`` may be an id, a name, or a pattern of either; if there is no such pipeline yet, the
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
        self._away: dict[str, int] = {}
        """The fault that took the controller or the API away last."""
        self._pending: list[Fault] = []
        """What hits requests, and what waits for pipelines that do not exist yet."""
        self._aimed: dict[tuple[int, str], tuple[Fault, Job]] = {}
        """What hits a job later, by the ids of both."""
        engine.on_change.append(self._changed)

    # -- injecting ----------------------------------------------------------------------------------------

    def __getattr__(self, kind: str) -> Callable[..., int]:
        if kind not in KINDS:
            raise AttributeError(f"there is no fault of the kind {kind!r}; there are {', '.join(KINDS)}")

        def inject(*values: Any, **fields: Any) -> int:
            names = KINDS[kind].positional
            if len(values) > len(names):
                known = ", ".join(names) or "nothing"
                raise TypeError(f"{kind} takes {known} by position; name the other arguments")
            return self.inject(kind, **dict(zip(names, values, strict=False)), **fields)

        return inject

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *KINDS]

    def inject(self, kind: str, /, **fields: Any) -> int:
        """Inject a fault by the name of its kind.

        :param kind: one of ``fault_types.KINDS``.
        :param fields: what that kind takes.
        :returns: its id.
        :raises ValueError: naming the field that is wrong, and the choices.
        """
        return self.add(parse({"kind": kind, **fields}))

    def add(self, fault: Fault) -> int:
        """Inject a fault; return its id."""
        engine = self._engine
        with self._lock:
            engine.advance()
            fault.id = next(self._ids)
            existing: list[Job] = []
            if KINDS[fault.kind].hits == "pipelines":
                existing = [job for job in self._store.jobs() if _matches(fault, job.pipeline)]
                for job in existing:
                    self._aim(fault, job)
                    self._hit_later(fault, job)
            if KINDS[fault.kind].hits != "server" and not existing:
                self._pending.append(fault)
            if fault.kind == "clock_skew":
                engine.set_skew(micros(fault.seconds))
            away = _AWAY.get(fault.kind, ())
            self._away |= dict.fromkeys(away, fault.id)
            if "controller" in away:
                engine.stop_controller()
        if "api" in away:
            # Without the lock, since open requests wait for it.
            self._server.close()
        if away and fault.seconds is not None:
            with self._lock:
                engine.later(fault.seconds, partial(self._returns, fault.id))
            engine.clock.tell_after(fault.seconds)
        return fault.id

    def api_back(self) -> None:
        """Bring the API back."""
        self._server.open()

    def controller_back(self) -> None:
        """Bring the controller back."""
        with self._lock:
            self._engine.advance()
            self._engine.start_controller()

    def _returns(self, fault_id: int) -> None:
        if self._away.get("controller") == fault_id:
            self._engine.start_controller()
        if self._away.get("api") == fault_id:
            self._server.open()

    def release(self, pipeline: str = "*") -> None:
        """Let pipelines that ``show_state`` holds continue where they were.

        :param pipeline: their id or name, or a pattern of it.
        """
        with self._lock:
            self._engine.advance()
            for job in self._store.jobs():
                if _matches(Fault(pipeline=pipeline), job.pipeline):
                    self._engine.release(job)

    def pending(self) -> list[dict[str, Any]]:
        """Return the faults that are not used up: on requests, on future pipelines, and those that hit later."""
        with self._lock:
            self._engine.advance()
            found = {
                fault.id: fault for fault in (*self._pending, *(fault for fault, _ in self._aimed.values()))
            }
            return [dict(vars(fault)) for fault in found.values()]

    def remove(self, fault_id: int) -> bool:
        """Remove a fault that is not used up; return whether there was one."""
        is_there = any(fault["id"] == fault_id for fault in self.pending())
        with self._lock:
            self._pending = [fault for fault in self._pending if fault.id != fault_id]
            self._aimed = {key: aimed for key, aimed in self._aimed.items() if key[0] != fault_id}
        return is_there

    def clear(self) -> None:
        """Remove all faults, also those that would hit later; bring the server back, and release all pipelines."""
        with self._lock:
            self._engine.advance()
            self._pending.clear()
            self._aimed.clear()
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

    def matching(self, method: str, path: str) -> list[Fault]:
        """Return the faults that hit a request, and count them: all delays and interim responses, and one other."""
        found: list[Fault] = []
        replaced = False
        for fault in tuple(self._pending):
            if KINDS[fault.kind].hits != "requests" or not fnmatchcase(path, fault.path):
                continue
            if fault.method is not None and fault.method.upper() != method:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.kind not in ("latency", "early_hints"):
                if replaced:
                    continue
                replaced = True
            found.append(fault)
            self._count(fault)
        return found

    def _count(self, fault: Fault) -> None:
        """Count a fault that hits; drop it once it is used up."""
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._pending.remove(fault)

    # -- pipelines ----------------------------------------------------------------------------------------

    def job_created(self, job: Job) -> None:
        """Apply the faults that waited for such a pipeline, or those that wait for its first run then."""
        for fault in tuple(self._pending):
            if KINDS[fault.kind].hits == "pipelines" and _matches(fault, job.pipeline):
                self._count(fault)
                if KINDS[fault.kind].at_creation:
                    self._hit(fault, job)
                else:
                    self._aim(fault, job)

    def _aim(self, fault: Fault, job: Job) -> None:
        self._aimed[fault.id, job.id] = fault, job

    def _changed(self, job: Job, before: str) -> None:
        if job.state == JobState.RUNNING:
            for fault, aimed in tuple(self._aimed.values()):
                if aimed is job:
                    # If it is planned already, it hits before that, and is then no longer aimed.
                    self._hit_later(fault, job)

    def _hit_later(self, fault: Fault, job: Job) -> None:
        """Hit a job after the seconds of the fault, unless the fault is removed meanwhile."""
        self._engine.later(fault.after, partial(self._hit_if_aimed, (fault.id, job.id)))

    def _hit_if_aimed(self, key: tuple[int, str]) -> None:
        if (aimed := self._aimed.pop(key, None)) is not None:
            self._hit(*aimed)

    def _hit(self, fault: Fault, job: Job) -> None:
        engine = self._engine
        if job.pipeline.job is not job:
            return
        match fault.kind:
            case "fail":
                self._fail(fault, job)
            case "flap":
                job.flap = (micros(fault.every), fault.runs)
                if job.state == JobState.RUNNING:
                    engine.end_flapping_run(job)
            case "kafka_away":
                job.kafka_away = True
            case "late_pickup":
                job.picked_up_at = engine.now + micros(fault.seconds)
                engine.want(job)
            case "never_starts":
                job.never_starts = True
            case "show_state":
                engine.hold(job, fault.state)
                if fault.seconds is not None:
                    engine.later(fault.seconds, lambda: engine.release(job))
            case "traffic":
                job.traffic.append((engine.now, fault))
            case "kill_worker":
                engine.lose_worker(job)
            case "delete":
                engine.delete(job.pipeline)
            case "stop":
                job.wanted.stop = fault.mode
                engine.want(job)

    def _fail(self, fault: Fault, job: Job) -> None:
        engine = self._engine
        engine.release(job)
        if job.state == JobState.RUNNING:
            engine.fail(job, error=fault.error, domain=fault.domain, restarts=fault.restarts)
        elif not job.terminal:
            engine.add_error(job, fault.error, fault.domain)
            job.failure = (fault.error, fault.domain)
            engine.enter(job, JobState.FAILED.value)


def _matches(fault: Fault, pipeline: Pipeline) -> bool:
    wanted = fault.pipeline
    return any(wanted == name or fnmatchcase(name, wanted) for name in (pipeline.id, pipeline.name))
