"""Faults at work: keeps the orders, and lets them happen to requests, pipelines and the server."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from airflow_provider_arroyo.client.models import JobState

from . import orders
from .api import Api
from .clock import micros
from .engine import Engine
from .records import Job, Pipeline
from .store import Store


class Gate(Protocol):
    """The way in: what can be closed so that the API is away."""

    def close(self, until_micros: int | None) -> None:
        """Refuse connections and reset the open ones, until a moment or until it is opened."""
        ...

    def open(self) -> None:
        """Take connections again."""
        ...


class Faults:
    """The faults of a sandbox. Every method that orders one returns its id.

    ``pipeline`` may be an id, a name, or a pattern of either; where no such pipeline is there yet, the
    fault waits for the next one that is created. ``path`` is a pattern too, and ``*`` in it stands for
    anything, slashes included.
    """

    def __init__(
        self, *, engine: Engine, store: Store, api: Api, gate: Gate, lock: AbstractContextManager[Any]
    ) -> None:
        self._engine = engine
        self._store = store
        self._api = api
        self._gate = gate
        self._lock = lock
        self._ids = itertools.count(1)
        self._on_requests: list[orders.OnRequest] = []
        self._waiting: list[orders.OnPipeline] = []
        self._first_runs: dict[str, list[Callable[[], None]]] = {}
        api.on_create.append(self._created)
        engine.on_change.append(self._changed)

    # -- ordering -----------------------------------------------------------------------------------------

    def order(self, kind: str, /, **fields: Any) -> int:
        """Order a fault by the name of its kind.

        :param kind: one of ``orders.KINDS``.
        :param fields: what that kind takes.
        :raises ValueError: naming the field that is wrong, and the choices.
        """
        return self.put(orders.parse({"kind": kind, **fields}))

    def put(self, order: orders.Order) -> int:
        """Order a fault."""
        closed_until: int | None = None
        with self._lock:
            self._engine.advance()
            order.id = next(self._ids)
            match order:
                case orders.OnRequest():
                    self._on_requests.append(order)
                case orders.OnPipeline():
                    self._put_on_pipelines(order)
                case orders.ApiAway():
                    closed_until = self._until(order.seconds)
                case orders.ControllerAway():
                    self._engine.controller_goes(list(self._store.jobs()))
                    if order.seconds is not None:
                        self._engine.later(order.seconds, self._controller_comes)
                case orders.ServerRestart():
                    self._engine.controller_goes(list(self._store.jobs()))
                    closed_until = self._until(order.seconds)
                    self._engine.later(order.seconds, self._controller_comes)
                case orders.ClockSkew():
                    self._engine.set_skew(micros(order.seconds), list(self._store.jobs()))
        if isinstance(order, orders.ApiAway | orders.ServerRestart):
            # Without the lock: requests wait for it on the thread that closes the gate.
            self._gate.close(closed_until)
        return order.id

    def _until(self, seconds: float | None) -> int | None:
        return None if seconds is None else self._engine.now + micros(seconds)

    def _controller_comes(self) -> None:
        self._engine.controller_comes(list(self._store.jobs()))

    def status(self, status: int, **fields: Any) -> int:
        """Answer the next requests with a status; see :class:`orders.Status`."""
        return self.order("status", status=status, **fields)

    def latency(self, seconds: float, **fields: Any) -> int:
        """Answer later; see :class:`orders.Latency`."""
        return self.order("latency", seconds=seconds, **fields)

    def reset(self, **fields: Any) -> int:
        """Reset the next connections; see :class:`orders.Reset`."""
        return self.order("reset", **fields)

    def hang(self, **fields: Any) -> int:
        """Begin an answer that never ends; see :class:`orders.Hang`."""
        return self.order("hang", **fields)

    def cut_short(self, **fields: Any) -> int:
        """Send half an answer; see :class:`orders.CutShort`."""
        return self.order("cut_short", **fields)

    def not_json(self, **fields: Any) -> int:
        """Answer with something that is not Arroyo's; see :class:`orders.NotJson`."""
        return self.order("not_json", **fields)

    def api_away(self, seconds: float | None = None) -> int:
        """Take the API away; see :class:`orders.ApiAway`."""
        return self.order("api_away", seconds=seconds)

    def api_back(self) -> None:
        """Bring the API back."""
        self._gate.open()

    def controller_away(self, seconds: float | None = None) -> int:
        """Take the controller away; see :class:`orders.ControllerAway`."""
        return self.order("controller_away", seconds=seconds)

    def controller_back(self) -> None:
        """Bring the controller back."""
        with self._lock:
            self._engine.advance()
            self._controller_comes()

    def server_restart(self, seconds: float = 3.0) -> int:
        """Kill the server and start it again; see :class:`orders.ServerRestart`."""
        return self.order("server_restart", seconds=seconds)

    def clock_skew(self, seconds: float) -> int:
        """Let the server's clock be wrong; see :class:`orders.ClockSkew`."""
        return self.order("clock_skew", seconds=seconds)

    def fail(self, pipeline: str = "*", **fields: Any) -> int:
        """Let a pipeline fail; see :class:`orders.Fail`."""
        return self.order("fail", pipeline=pipeline, **fields)

    def flap(self, pipeline: str = "*", **fields: Any) -> int:
        """Let a pipeline's next runs end early; see :class:`orders.Flap`."""
        return self.order("flap", pipeline=pipeline, **fields)

    def never_starts(self, pipeline: str = "*", **fields: Any) -> int:
        """Let a pipeline stand in Scheduling; see :class:`orders.NeverStarts`."""
        return self.order("never_starts", pipeline=pipeline, **fields)

    def show_state(self, pipeline: str, state: str, **fields: Any) -> int:
        """Let a pipeline show a state, known or not; see :class:`orders.ShowState`."""
        return self.order("state", pipeline=pipeline, state=state, **fields)

    def let_go(self, pipeline: str = "*") -> None:
        """Let pipelines that show an ordered state go on where they were."""
        with self._lock:
            self._engine.advance()
            for job in self._store.jobs():
                if orders.OnPipeline(pipeline=pipeline).matches(job.pipeline.id, job.pipeline.name):
                    self._engine.let_go(job)

    def kill_worker(self, pipeline: str = "*", **fields: Any) -> int:
        """Kill a pipeline's worker; see :class:`orders.KillWorker`."""
        return self.order("kill_worker", pipeline=pipeline, **fields)

    def delete(self, pipeline: str, **fields: Any) -> int:
        """Let someone else delete a pipeline; see :class:`orders.Delete`."""
        return self.order("delete", pipeline=pipeline, **fields)

    def stop(self, pipeline: str, **fields: Any) -> int:
        """Let someone else stop a pipeline; see :class:`orders.Stop`."""
        return self.order("stop", pipeline=pipeline, **fields)

    def pending(self) -> list[dict[str, Any]]:
        """Return the orders on requests and on pipelines to come that are not used up."""
        with self._lock:
            return [orders.describe(order) for order in (*self._on_requests, *self._waiting)]

    def take_back(self, order_id: int) -> bool:
        """Take back an order that is not used up; return whether there was one."""
        with self._lock:
            before = len(self._on_requests) + len(self._waiting)
            self._on_requests = [order for order in self._on_requests if order.id != order_id]
            self._waiting = [order for order in self._waiting if order.id != order_id]
            return len(self._on_requests) + len(self._waiting) < before

    def clear(self) -> None:
        """Take back all orders, bring everything back, let everything go."""
        with self._lock:
            self._engine.advance()
            self._on_requests.clear()
            self._waiting.clear()
            self._first_runs.clear()
            self._engine.set_skew(0, list(self._store.jobs()))
            self._controller_comes()
            for job in self._store.jobs():
                self._engine.let_go(job)
                job.never_starts = False
                job.flap = None
        self._gate.open()

    # -- requests -----------------------------------------------------------------------------------------

    def befalling(self, method: str, path: str) -> list[orders.OnRequest]:
        """Return what befalls a request, and count it: every latency, and the first of the others."""
        if not self._on_requests:
            return []
        found: list[orders.OnRequest] = []
        for order in tuple(self._on_requests):
            if not order.matches(method, path):
                continue
            if order.skip > 0:
                order.skip -= 1
                continue
            if not isinstance(order, orders.Latency) and any(
                not isinstance(other, orders.Latency) for other in found
            ):
                continue
            found.append(order)
            if order.times is not None:
                order.times -= 1
                if order.times == 0:
                    self._on_requests.remove(order)
        return found

    # -- pipelines ----------------------------------------------------------------------------------------

    def _put_on_pipelines(self, order: orders.OnPipeline) -> None:
        there = [job for job in self._store.jobs() if order.matches(job.pipeline.id, job.pipeline.name)]
        for job in there:
            self._engine.later(order.after, partial(self._befall, job, order))
        if not there:
            self._waiting.append(order)

    def _created(self, pipeline: Pipeline) -> None:
        job = pipeline.job
        if job is None:
            return
        for order in tuple(self._waiting):
            if not order.matches(pipeline.id, pipeline.name):
                continue
            if order.times is not None:
                order.times -= 1
                if order.times == 0:
                    self._waiting.remove(order)
            if isinstance(order, orders.NeverStarts | orders.Flap):
                self._befall(job, order)
            else:
                self._first_runs.setdefault(job.id, []).append(self._in_a_while(job, order))

    def _in_a_while(self, job: Job, order: orders.OnPipeline) -> Callable[[], None]:
        return partial(self._engine.later, order.after, partial(self._befall, job, order))

    def _changed(self, job: Job, before: str) -> None:
        if self._first_runs and job.state == JobState.RUNNING:
            for act in self._first_runs.pop(job.id, ()):
                act()

    def _befall(self, job: Job, order: orders.OnPipeline) -> None:
        engine = self._engine
        if job.pipeline.job is not job:
            return
        match order:
            case orders.Fail():
                self._fail(job, order)
            case orders.Flap():
                job.flap = (micros(order.every), order.runs)
                if job.state == JobState.RUNNING:
                    engine.end_run_of_flapping(job)
            case orders.NeverStarts():
                job.never_starts = True
            case orders.ShowState():
                engine.hold(job, order.state)
                if order.seconds is not None:
                    engine.later(order.seconds, lambda: engine.let_go(job))
            case orders.KillWorker():
                engine.lose_worker(job)
            case orders.Delete():
                self._api.remove(job.pipeline)
            case orders.Stop():
                job.wanted.stop = order.mode
                engine.want(job)

    def _fail(self, job: Job, order: orders.Fail) -> None:
        engine = self._engine
        engine.let_go(job)
        if job.state == JobState.RUNNING:
            engine.fail(job, error=order.error, domain=order.domain, restarts=order.restarts)
        elif not job.terminal:
            engine.note_error(job, order.error, order.domain)
            job.failure = (order.error, order.domain)
            engine.enter(job, JobState.FAILED.value)
