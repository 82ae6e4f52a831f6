"""Scenarios of one task and its pipeline: submit, clear, stop, break, mark failed, two tries at once."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.operators.arroyo import ArroyoStopPipelineOperator, ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import BOUNDED, ENDLESS, KilledError
from tests.tasks.harness import FakeTaskInstance

from .conditions import draw_condition
from .figures import Figures
from .ground_truth import GroundTruth, named_in
from .network_faults import LATE_SECONDS
from .small_airflow import Deferred, Failed, MakeOperator, Running, Succeeded, Triggerer, Worker

TRIES_WITH_CRASHES = 5
"""How many tries of a task may crash; later ones only meet network faults."""

MAX_TRIES = 40

STATE_TIMEOUT_SECONDS = 60.0
"""How long a pipeline may take, on a busy machine, to reach the state that was requested."""

OUTCOMES_LOGGED = (
    "keeps running",
    "Stop requested (",
    "is not stopped: ",
    "continues without this task",
    "nothing was stopped",
)
"""Texts by which the log of a killed task states what happens to its pipeline."""

EVENTS = (
    *("clear", "clear", "stop", "break", "mark failed", "two tries at once"),
    *("clear under changed SQL", "wait for a condition"),
)

NAMESPACES = ("production", "staging", "laptop")
"""Deployments of Airflow that share one Arroyo; the last sets its namespace when an error asks for it."""


def conn_id_in(conn_id: str, namespace: str) -> str:
    """Return the connection of one deployment of Airflow; with an empty namespace, the one without a namespace."""
    return f"{conn_id}_{namespace}" if namespace else conn_id


class Journal(logging.Handler):
    """Collects the log lines of a scenario's tasks, which are shown if it violates a rule."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.getLogger(f"tests.chaos.{name}")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(f"{time.time() % 1000:7.2f} {record.levelname[:4]} {record.getMessage()}")


@dataclass
class Environment:
    """Where scenarios run.

    :param sandbox: the server.
    :param truth: what really happens in it.
    :param triggerers: two of them.
    :param conn_id: the Airflow connection to the server.
    :param until: when every scenario must have ended, on ``time.monotonic``.
    """

    sandbox: ArroyoSandbox
    truth: GroundTruth
    triggerers: Sequence[Triggerer]
    conn_id: str
    until: float


@dataclass
class Outcome:
    """How a scenario ended.

    :param violations: the violations: the name of the figure and a line of text.
    """

    violations: list[tuple[str, str]] = field(default_factory=list)
    tasks: int = 0
    tries: int = 0
    events: Counter[str] = field(default_factory=Counter)


class NotFinishedError(Exception):
    """A task did not finish."""


class Scenario:
    """The life of one pipeline, beginning with its first submit.

    :param environment: where it runs.
    :param name: the name of the pipeline.
    :param seed: decides what happens.
    :param namespace: of the Airflow that it runs in; empty if none is set.
    """

    def __init__(self, environment: Environment, name: str, seed: str, namespace: str = "") -> None:
        self._environment = environment
        self._overtaken: list[Running] = []
        """Waits whose event another triggerer sent first; they are killed when the task has resumed."""
        self._truth = environment.truth
        self._draw = random.Random(seed)
        self.name = name
        self._namespace = namespace
        self._revision = 1
        """Of the SQL."""
        self._on_existing = "adopt"
        self.journal = Journal(self.key)
        self.outcome = Outcome()
        self._is_bounded = self._draw.random() < 0.2
        self._deferrable = self._draw.random() < 0.6
        self._stop_on_kill = self._draw.choice((None, None, "checkpoint", "immediate"))
        self._wait_for = "Finished" if self._is_bounded else self._draw.choice(("Running", "Running", None))
        self._submit_ti = FakeTaskInstance(dag_id="chaos", task_id="submit", run_id=name, try_number=0)
        self._stop_ti = FakeTaskInstance(dag_id="chaos", task_id="stop", run_id=name, try_number=0)
        self._watch_ti = FakeTaskInstance(dag_id="chaos", task_id="watch", run_id=name, try_number=0)
        self._submitted: dict[str, Any] = {}
        self._refusals = 0
        self.final_state = JobState.FINISHED if self._is_bounded else JobState.RUNNING
        """The state in which the pipeline must be at the end."""

    @property
    def key(self) -> str:
        """The key by which its pipelines are counted."""
        return named_in(self.name, self._namespace)

    def run(self) -> Outcome:
        """Submit the pipeline, then let up to three events happen to it."""
        try:
            self._submit()
            for _ in range(self._draw.randint(0, 3)):
                event = self._draw.choice(EVENTS)
                self._record(event)
                {
                    "clear": self._submit,
                    "stop": self._stop,
                    "break": self._break,
                    "mark failed": self._mark_failed,
                    "two tries at once": self._two_tries_at_once,
                    "clear under changed SQL": self._clear_under_changed_sql,
                    "wait for a condition": self._wait_for_condition,
                }[event]()
        except NotFinishedError as err:
            self._violation("not finished", str(err))
        return self.outcome

    # -- the events ------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Run the submit until it succeeds, as a clear does when it has run before."""
        result = self._run_until_success(self._submit_ti, self._make_submit)
        if not self._is_bounded:
            self.final_state = JobState.RUNNING
        self._submitted = result
        wanted = JobState.FINISHED if self._is_bounded else JobState.RUNNING
        if self._wait_for is not None and (why := self._truth.why_false(result, frozenset({wanted}))):
            self._violation("false success", f"submit: {why}")
        pipelines = self._truth.pipelines(self.key)
        if len(pipelines) > 1:
            self._violation("duplicated", f"{[one.id for one in pipelines]} when its submit had succeeded")
        if not all(one.query.endswith(self._query) for one in pipelines):
            self._violation("false success", f"submit: its SQL is not revision {self._revision}")

    def _clear_under_changed_sql(self) -> None:
        """Clear the submit after its SQL was edited: a running pipeline stays untouched until the user decides."""
        pipelines = self._truth.pipelines(self.key)
        running = [one.job.id for one in pipelines if one.job and one.job.state == JobState.RUNNING]
        is_wanted = all(one.job is not None and one.job.wanted.stop == "none" for one in pipelines)
        self._revision += 1
        self._refusals = 0
        self._submit()
        self._truth.wanted_stops[self.key].close(self._truth.now())
        self._on_existing = "adopt"
        if running and is_wanted and self._refusals == 0:
            now = [one.job.id for one in self._truth.pipelines(self.key) if one.job]
            if now != running:
                self._violation("unwanted stop", f"{running} ran and was replaced by {now} unasked")

    def _react(self, error: BaseException) -> None:
        """Follow the advice in the error of a refused submit."""
        text = str(error)
        if "set the connection's extra namespace" in text:
            self.outcome.events["namespace set as the error advises"] += 1
            self._namespace = NAMESPACES[-1]
        elif "Differences, from that pipeline to this try" in text:
            self._refusals += 1
            choice = self._draw.choice(("undo the change", "replace", "stop"))
            self.outcome.events[f"refused to touch what runs; {choice}"] += 1
            if choice == "undo the change":
                self._revision -= 1
            elif choice == "replace":
                self._on_existing = "replace"
                self._truth.wanted_stops[self.key].open(self._truth.now())
            else:
                self._stop()

    def _stop(self) -> None:
        """Run a stop until it succeeds."""
        mode = self._draw.choice(("checkpoint", "checkpoint", "graceful", "immediate", "force"))
        by_name = self._draw.random() < 0.3
        which = {"pipeline_name": self.name} if by_name else {"pipeline_id": self._submitted["pipeline_id"]}
        wanted_stops = self._truth.wanted_stops[self.key]

        def make() -> ArroyoStopPipelineOperator:
            return ArroyoStopPipelineOperator(
                task_id="stop", mode=mode, timeout=60, **which, **self._wait_arguments()
            )

        wanted_stops.open(self._truth.now())
        result = self._run_until_success(self._stop_ti, make)
        wanted_stops.close(self._truth.now())
        if why := self._truth.why_false(result, frozenset({JobState.STOPPED, JobState.FINISHED})):
            self._violation("false success", f"stop ({mode}): {why}")
        if why := self._truth.why_unproven(result):
            self._violation("unproven checkpoint", f"stop ({mode}): {why}")
        if not self._is_bounded:
            self.final_state = JobState.STOPPED
        self._let_late_requests_arrive()

    def _wait_for_condition(self) -> None:
        """Run a sensor for a checkpoint, or for a metric, until it succeeds."""
        if self.final_state != JobState.RUNNING:
            return
        wanted = draw_condition(self._draw, self._truth)
        more = {"pipeline_id": self._submitted["pipeline_id"], "timeout": 60, **wanted.arguments}
        make = partial(wanted.sensor, task_id="watch", **more, **self._wait_arguments())
        result = self._run_until_success(self._watch_ti, make)
        if why := wanted.why_false(result):
            self._violation("false success", f"watch ({wanted.arguments}): {why}")

    def _break(self) -> None:
        """Make the pipeline fail, then clear its submit."""
        pipeline_id = self._submitted["pipeline_id"]
        if self.final_state != JobState.RUNNING:
            return
        self._wait_until(lambda: self._is_in(pipeline_id, JobState.RUNNING), "Running, before it is broken")

        def has_failed() -> bool:
            # Injected again and again: while the controller is down, the fault has no effect.
            if self._is_in(pipeline_id, JobState.RUNNING):
                self._environment.sandbox.faults.fail(pipeline_id, error="chaos")
            return self._is_in(pipeline_id, JobState.FAILING, JobState.FAILED)

        self._wait_until(has_failed, "Failed")
        self._submit()

    def _mark_failed(self) -> None:
        """Mark the submit failed while it runs, and clear it: at once, a moment later, or before it is killed."""
        ti = self._submit_ti
        ti.try_number += 1
        ti.state = "running"
        self.outcome.tries += 1
        worker = Worker(self._make_submit, ti, self.journal.logger)
        requests = self._draw.randint(2, 9)
        half = worker.begin(crash_at_request=None if self._deferrable else requests)
        if isinstance(half, Deferred):
            running = self._draw.choice(self._environment.triggerers).start(half.trigger())
            if not running.has_fired(within_seconds=self._draw.uniform(0.0, 0.4)):
                self._mark_failed_in_triggerer(running)
        elif isinstance(half, Failed) and isinstance(half.error, KilledError):
            self._kill_marked(worker.operator.on_kill)
        # In any case, a user clears the task.
        self._submit()

    def _mark_failed_in_triggerer(self, running: Running) -> None:
        """Airflow kills a trigger late: by then the task may have been cleared, and tried again."""
        if self._draw.random() < 0.5:
            self._kill_marked(running.kill)
            return
        self.outcome.events["old trigger killed after a clear"] += 1
        self._submit_ti.state = self._draw.choice((None, "scheduled", "queued"))
        later = threading.Timer(self._draw.uniform(0, 1.0), self._kill, [running.kill])
        later.start()
        self._submit()
        later.join(40)

    def _kill_marked(self, kill: Callable[[], object]) -> None:
        """Kill the submit after it was marked failed."""
        wanted_stops = self._truth.wanted_stops[self.key]
        self._submit_ti.state = "failed"
        if self._stop_on_kill:
            wanted_stops.open(self._truth.now())
        self._kill(kill)
        wanted_stops.close(self._truth.now())
        self._let_late_requests_arrive()

    def _two_tries_at_once(self) -> None:
        """Run an old try at the same time as the new one, as on a machine that Airflow has lost contact with."""
        if not self._is_bounded:
            self.final_state = JobState.RUNNING
        ti = self._submit_ti
        ti.try_number += 1
        old = FakeTaskInstance(
            dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, try_number=ti.try_number
        )
        self.outcome.tries += 1
        worker = Worker(self._make_submit, old, self.journal.logger)
        thread = threading.Thread(target=worker.begin, daemon=True)
        thread.start()
        self._submit()
        thread.join(60)
        # The old try's last request may have arrived after the new one succeeded; the next clear repairs that.
        self._submit()

    # -- a task, until it succeeds ---------------------------------------------------------------------------

    def _run_until_success(self, ti: FakeTaskInstance, make: MakeOperator) -> dict[str, Any]:
        """Run a task until it succeeds; the first tries may crash anywhere."""
        self.outcome.tasks += 1
        for number in range(MAX_TRIES):
            if time.monotonic() > self._environment.until:
                break
            ti.try_number += 1
            ti.state = "running"
            ti.xcoms.clear()
            self.outcome.tries += 1
            end = self._try(ti, make, may_crash=number < TRIES_WITH_CRASHES)
            ti.state = end.state
            while self._overtaken:
                self._kill(self._overtaken.pop().kill)
            if isinstance(end, Succeeded):
                return end.result
            if end.is_fatal:
                # A user reads the log and clears the task.
                self.outcome.events["failed without retry, cleared"] += 1
                if isinstance(end, Failed):
                    self._react(end.error)
        raise NotFinishedError(f"{ti.task_id} has not succeeded after {ti.try_number} tries")

    def _try(self, ti: FakeTaskInstance, make: MakeOperator, *, may_crash: bool) -> Succeeded | Failed:
        worker = Worker(make, ti, self.journal.logger)
        self._note(f"--- try {ti.try_number} of {ti.task_id}")
        half = worker.begin(**self._draw_crash(may_crash))
        while isinstance(half, Deferred):
            ti.state = "deferred"
            payload = self._run_trigger(half, may_crash=may_crash)
            if payload is None or (may_crash and self._draw.random() < 0.15):
                self._record("killed between event and resume" if payload else "cleared while deferred")
                return Failed(KilledError("before it could resume"))
            ti.state = "running"
            half = worker.resume(half, payload, **self._draw_crash(may_crash))
        if isinstance(half, Failed) and isinstance(half.error, KilledError):
            self._record("killed in the worker")
            if ti is not self._watch_ti and self._draw.random() < 0.4:
                # A worker that shuts down calls on_kill; the task itself is tried again elsewhere.
                self._record("on_kill called by a worker that shuts down")
                self._kill(worker.operator.on_kill)
        return half

    def _draw_crash(self, may_crash: bool) -> dict[str, Any]:
        if not may_crash or self._draw.random() < 0.45:
            return {}
        return {
            "crash_at_request": 1 + int(self._draw.expovariate(0.25)),
            "after_response": self._draw.random() < 0.6,
        }

    def _run_trigger(self, deferred: Deferred, *, may_crash: bool) -> Any:
        """Run a trigger until it fires, and return its event; None if its task was cleared in the meantime."""
        here, there = self._draw.sample(self._environment.triggerers, 2)
        running = here.start(deferred.trigger())
        while may_crash and self._draw.random() < 0.5:
            if running.has_fired(within_seconds=self._draw.uniform(0.0, 0.5)):
                break
            what = self._draw.choice(("restarted", "taken over", "cleared"))
            self._record(f"triggerer {what}" if what != "cleared" else "cleared in the triggerer")
            if what == "cleared":
                deferred.ti.state = None
                self._kill(running.kill)
                return None
            if what == "restarted":
                running.cancel()
                running = there.start(deferred.trigger())
            else:
                # A triggerer whose heartbeat stopped continues its wait until Airflow kills it.
                successor = there.start(deferred.trigger())
                if running.has_fired(within_seconds=self._draw.uniform(0.0, 0.5)):
                    # Its event counts; the successor is killed only after Airflow has processed the event.
                    self._record("triggerer fired after it was taken over")
                    self._overtaken.append(successor)
                    break
                self._kill(running.kill)
                running = successor
            here, there = there, here
        left = max(1.0, self._environment.until - time.monotonic())
        if not running.has_fired(within_seconds=left):
            raise NotFinishedError("a trigger does not fire")
        (payload,) = running.payloads.result()
        return payload

    # -- the operators ---------------------------------------------------------------------------------------

    def _make_submit(self) -> ArroyoSubmitPipelineOperator:
        return ArroyoSubmitPipelineOperator(
            task_id="submit",
            pipeline_name=self.name,
            query=self._query,
            on_existing=self._on_existing,
            wait_for=self._wait_for,
            stable_for=0.1,
            stop_on_kill=self._stop_on_kill,
            timeout=60,
            **self._wait_arguments(),
        )

    @property
    def _query(self) -> str:
        return f"{BOUNDED if self._is_bounded else ENDLESS}\n-- revision {self._revision}"

    def _wait_arguments(self) -> dict[str, Any]:
        return {
            "arroyo_conn_id": conn_id_in(self._environment.conn_id, self._namespace),
            "deferrable": self._deferrable,
            "defer_after": 0,
            "poll_interval": 0.15,
            "api_outage_tolerance": 15,
        }

    def _kill(self, kill: Callable[[], object]) -> None:
        """Kill a wait, and check that its log states what happens to the pipeline."""
        before = len(self.journal.lines)
        kill()
        if not any(text in line for line in self.journal.lines[before:] for text in OUTCOMES_LOGGED):
            self._violation("outcome not logged", "the log of a killed wait does not state it")

    # -- the pipeline ----------------------------------------------------------------------------------------

    def _let_late_requests_arrive(self) -> None:
        """Wait until every request whose client gave up must have arrived: no user clears a task faster."""
        threading.Event().wait(LATE_SECONDS)

    def _is_in(self, pipeline_id: str, *states: str) -> bool:
        job = self._truth.job(pipeline_id)
        return job is not None and job.state in states

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        until = min(self._environment.until, time.monotonic() + STATE_TIMEOUT_SECONDS)
        pause = threading.Event()
        while not condition():
            if time.monotonic() > until:
                states = self._truth.timeline(self._submitted["pipeline_id"])
                raise NotFinishedError(f"its pipeline does not become {what}: {states}")
            pause.wait(0.05)

    def _record(self, event: str) -> None:
        self.outcome.events[event] += 1
        self._note(f"--- {event}")

    def _note(self, text: str) -> None:
        self.journal.logger.info("%s", text)

    def _violation(self, figure: str, text: str) -> None:
        self._note(f"*** {figure}: {text}")
        self.outcome.violations.append((figure, f"{self.key}: {text}"))


def check_the_end(scenario: Scenario, truth: GroundTruth, figures: Figures) -> None:
    """Count a scenario's pipelines once nothing changes anymore, and record what is wrong with them."""
    pipelines = truth.pipelines(scenario.key)
    figures.wanted += 1
    figures.created += len(pipelines)
    if len(pipelines) > 1:
        figures.violations["duplicated"].append(f"{scenario.key}: {[pipeline.id for pipeline in pipelines]}")
    if not pipelines:
        figures.violations["lost"].append(f"{scenario.key}: the pipeline does not exist")
    for pipeline in pipelines[:1]:
        state = pipeline.job.state if pipeline.job else None
        if state != scenario.final_state:
            figures.violations["lost"].append(
                f"{scenario.key}: {state} instead of {scenario.final_state}: {truth.timeline(pipeline.id)}"
            )
