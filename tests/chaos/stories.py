"""What happens to one task and its pipeline: submitted, cleared, stopped, broken, marked, tried twice at once."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_arroyo.arroyo.models import JobState
from airflow_provider_arroyo.operators.pipelines import (
    ArroyoStopPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.support import BOUNDED, ENDLESS
from tests.tasks.harness import FakeTaskInstance

from .figures import Figures
from .mortals import Killed
from .stage import Deferred, Green, MakeOperator, Red, Running, Triggerer, Worker
from .truth import Truth
from .weather import LATE_SECONDS

FAULTY_TRIES = 5
"""How many tries of a task may be killed; after that it is only the API that is bad."""

MAX_TRIES = 40

PATIENCE_SECONDS = 20.0
"""How long a pipeline may take, on a busy machine, to come where it is asked to be."""

FATES = (
    "goes on",
    "was asked to stop",
    "is not stopped",
    "did not get through",
    "nothing was stopped",
)
"""How the log of a wait that is killed says what becomes of its pipeline."""

ACTS = ("clear", "clear", "stop", "break", "mark failed", "two at once")


class Journal(logging.Handler):
    """Keeps what the tasks of a story said, to be shown if it goes wrong."""

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
class Place:
    """Where stories happen.

    :param sandbox: the server.
    :param truth: what really happens in it.
    :param triggerers: two of them.
    :param conn_id: the Airflow connection to the server.
    :param until: when every story must have ended, on ``time.monotonic``.
    """

    sandbox: ArroyoSandbox
    truth: Truth
    triggerers: Sequence[Triggerer]
    conn_id: str
    until: float


@dataclass
class Outcome:
    """What a story came to.

    :param wrong: what must not be: the figure's name and a line of text.
    """

    wrong: list[tuple[str, str]] = field(default_factory=list)
    tasks: int = 0
    tries: int = 0
    befell: Counter[str] = field(default_factory=Counter)


class NotEndedError(Exception):
    """A task did not end."""


class Story:
    """One pipeline, from its first submit on.

    :param place: where.
    :param name: the pipeline's name.
    :param seed: what happens is drawn from it.
    """

    def __init__(self, place: Place, name: str, seed: str) -> None:
        self._place = place
        self._outdone: list[Running] = []
        """Waits whose event came from another triggerer first; they end with their task."""
        self._truth = place.truth
        self._draw = random.Random(seed)
        self.name = name
        self.journal = Journal(name)
        self.outcome = Outcome()
        self._is_bounded = self._draw.random() < 0.2
        self._deferrable = self._draw.random() < 0.6
        self._on_kill = self._draw.choice((None, None, "checkpoint", "immediate"))
        self._wait_for = "Finished" if self._is_bounded else self._draw.choice(("Running", "Running", None))
        self._submit_ti = FakeTaskInstance(dag_id="chaos", task_id="submit", run_id=name, try_number=0)
        self._stop_ti = FakeTaskInstance(dag_id="chaos", task_id="stop", run_id=name, try_number=0)
        self._submitted: dict[str, Any] = {}
        self.at_rest = frozenset({JobState.FINISHED if self._is_bounded else JobState.RUNNING})
        """The states of which the pipeline must be in one at the end."""

    def run(self) -> Outcome:
        """Let it happen."""
        try:
            self._submit()
            for _ in range(self._draw.randint(0, 3)):
                act = self._draw.choice(ACTS)
                self._say(f"--- {act}")
                self.outcome.befell[act] += 1
                {
                    "clear": self._submit,
                    "stop": self._stop,
                    "break": self._break,
                    "mark failed": self._mark_failed,
                    "two at once": self._two_at_once,
                }[act]()
        except NotEndedError as err:
            self._wrong("not ended", str(err))
        return self.outcome

    # -- the acts --------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Run the submit to its end, as a clear does when it has run before."""
        if not self._is_bounded:
            self.at_rest = frozenset({JobState.RUNNING})
        result = self._to_its_end(self._submit_ti, self._make_submit)
        self._submitted = result
        wanted = {JobState.FINISHED} if self._is_bounded else {JobState.RUNNING}
        if self._wait_for is not None:
            false = self._truth.is_false(result, frozenset(wanted), is_calm=True)
            if false:
                self._wrong("false success", f"submit: {false}")
        self._count_pipelines()

    def _stop(self) -> None:
        """Run a stop to its end."""
        mode = self._draw.choice(("checkpoint", "checkpoint", "graceful", "immediate", "force"))
        by_name = self._draw.random() < 0.3
        which = {"pipeline_name": self.name} if by_name else {"pipeline_id": self._submitted["pipeline_id"]}
        ledger = self._truth.ledgers[self.name]

        def make() -> ArroyoStopPipelineOperator:
            return ArroyoStopPipelineOperator(
                task_id="stop", mode=mode, timeout=60, **which, **self._waiting("stop")
            )

        ledger.open(self._truth.now())
        result = self._to_its_end(self._stop_ti, make)
        ledger.close(self._truth.now())
        false = self._truth.is_false(result, frozenset({JobState.STOPPED, JobState.FINISHED}), is_calm=True)
        if false:
            self._wrong("false success", f"stop ({mode}): {false}")
        if unmade := self._truth.is_unmade(result):
            self._wrong("checkpoint claimed", f"stop ({mode}): {unmade}")
        if not self._is_bounded:
            self.at_rest = frozenset({JobState.STOPPED})
        self._let_late_calls_land()

    def _break(self) -> None:
        """Let the pipeline fail by itself, then clear its submit."""
        pipeline_id = self._submitted["pipeline_id"]
        if self._is_bounded or self.at_rest != {JobState.RUNNING}:
            return
        self._until(lambda: self._is_in(pipeline_id, JobState.RUNNING), "Running, to be broken")

        def fails() -> bool:
            # Ordered again and again: it passes by a pipeline whose controller is away.
            if self._is_in(pipeline_id, JobState.RUNNING):
                self._place.sandbox.faults.fail(pipeline_id, error="chaos")
            return self._is_in(pipeline_id, JobState.FAILING, JobState.FAILED)

        self._until(fails, "Failed")
        self._submit()

    def _mark_failed(self) -> None:
        """Mark the submit failed while it is under way, and clear it: now, in a moment, or before it notices."""
        ledger, ti = self._truth.ledgers[self.name], self._submit_ti
        ti.try_number += 1
        ti.state = "running"
        self.outcome.tries += 1
        worker = Worker(self._make_submit, ti, self.journal.logger)
        calls = self._draw.randint(2, 9)
        half = worker.begin(calls=None if self._deferrable else calls)
        if isinstance(half, Deferred):
            running = self._draw.choice(self._place.triggerers).start(half.trigger())
            if not running.has_fired(within_seconds=self._draw.uniform(0.0, 0.4)):
                self._marked_in_the_triggerer(running)
        elif isinstance(half, Red) and isinstance(half.error, Killed):
            ti.state = "failed"
            if self._on_kill:
                ledger.open(self._truth.now())
            self._kill(worker.operator.on_kill)
            ledger.close(self._truth.now())
            self._let_late_calls_land()
        # Whatever came of it, the task is cleared now.
        self._submit()

    def _marked_in_the_triggerer(self, running: Running) -> None:
        """Airflow tells a trigger late: the task may be cleared by then, and tried again."""
        ledger, ti = self._truth.ledgers[self.name], self._submit_ti
        if self._draw.random() < 0.5:
            ti.state = "failed"
            if self._on_kill:
                ledger.open(self._truth.now())
            self._kill(running.kill)
            ledger.close(self._truth.now())
            self._let_late_calls_land()
            return
        self.outcome.befell["old trigger killed after a clear"] += 1
        ti.state = self._draw.choice((None, "scheduled", "queued"))
        later = threading.Timer(self._draw.uniform(0, 1.0), self._kill, [running.kill])
        later.start()
        self._submit()
        later.join(40)

    def _two_at_once(self) -> None:
        """Let an old try go on beside the new one, as on a machine that Airflow has lost sight of."""
        if not self._is_bounded:
            self.at_rest = frozenset({JobState.RUNNING})
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
        # What the old one did last may have come after the new one's success: the next clear puts it right.
        self._submit()

    # -- a task, until it is green ---------------------------------------------------------------------------

    def _to_its_end(self, ti: FakeTaskInstance, make: MakeOperator) -> dict[str, Any]:
        """Try a task until it succeeds, killing the first tries wherever the seed says."""
        self.outcome.tasks += 1
        for number in range(MAX_TRIES):
            if time.monotonic() > self._place.until:
                break
            ti.try_number += 1
            ti.state = "running"
            ti.xcoms.clear()
            self.outcome.tries += 1
            end = self._try(ti, make, is_faulty=number < FAULTY_TRIES)
            ti.state = end.state
            while self._outdone:
                self._kill(self._outdone.pop().kill)
            if isinstance(end, Green):
                return end.result
            if end.is_for_good:
                # Somebody looks at it, and clears it.
                self.outcome.befell["failed for good, cleared"] += 1
        raise NotEndedError(f"{ti.task_id} is not done after {ti.try_number} tries")

    def _try(self, ti: FakeTaskInstance, make: MakeOperator, *, is_faulty: bool) -> Green | Red:
        worker = Worker(make, ti, self.journal.logger)
        self._say(f"--- try {ti.try_number} of {ti.task_id}")
        half = worker.begin(**self._doom(is_faulty))
        while isinstance(half, Deferred):
            ti.state = "deferred"
            payload = self._wait(half, is_faulty=is_faulty)
            if payload is None or (is_faulty and self._draw.random() < 0.15):
                self._befell("killed between event and resume" if payload else "cleared while deferred")
                return Red(Killed("before it could resume"))
            ti.state = "running"
            half = worker.resume(half, payload, **self._doom(is_faulty))
        if isinstance(half, Red) and isinstance(half.error, Killed):
            self._befell("killed in the worker")
            if self._draw.random() < 0.4:
                # A worker that shuts down tells its tasks; the task itself goes on elsewhere.
                self._befell("told by a worker that shuts down")
                self._kill(worker.operator.on_kill)
        return half

    def _doom(self, is_faulty: bool) -> dict[str, Any]:
        if not is_faulty or self._draw.random() < 0.45:
            return {}
        return {"calls": 1 + int(self._draw.expovariate(0.25)), "after": self._draw.random() < 0.6}

    def _wait(self, deferred: Deferred, *, is_faulty: bool) -> Any:
        """Run a trigger until it fires, and return its event; None if its task was cleared meanwhile."""
        here, there = self._draw.sample(self._place.triggerers, 2)
        running = here.start(deferred.trigger())
        while is_faulty and self._draw.random() < 0.5:
            if running.has_fired(within_seconds=self._draw.uniform(0.0, 0.5)):
                break
            what = self._draw.choice(("restarted", "taken over", "cleared"))
            self._befell(f"triggerer {what}" if what != "cleared" else "cleared in the triggerer")
            if what == "cleared":
                deferred.ti.state = None
                self._kill(running.kill)
                return None
            if what == "restarted":
                running.cancel()
                running = there.start(deferred.trigger())
            else:
                # The one that was silent for too long goes on with its wait until it is told.
                successor = there.start(deferred.trigger())
                if running.has_fired(within_seconds=self._draw.uniform(0.0, 0.5)):
                    # Its event counts, and the other one is told only when Airflow has dealt with it.
                    self._befell("triggerer fired after it was taken over")
                    self._outdone.append(successor)
                    break
                self._kill(running.kill)
                running = successor
            here, there = there, here
        left = max(1.0, self._place.until - time.monotonic())
        if not running.has_fired(within_seconds=left):
            raise NotEndedError("a trigger does not fire")
        (payload,) = running.payloads.result()
        return payload

    # -- the operators ---------------------------------------------------------------------------------------

    def _make_submit(self) -> ArroyoSubmitPipelineOperator:
        return ArroyoSubmitPipelineOperator(
            task_id="submit",
            name=self.name,
            query=BOUNDED if self._is_bounded else ENDLESS,
            wait_for=self._wait_for,
            stable_for=0.1,
            on_kill=self._on_kill,
            timeout=60,
            **self._waiting("submit"),
        )

    def _waiting(self, task_id: str) -> dict[str, Any]:
        return {
            "arroyo_conn_id": self._place.conn_id,
            "deferrable": self._deferrable,
            "defer_after": 0,
            "poll_interval": 0.15,
            "api_outage_tolerance": 15,
        }

    def _kill(self, kill: Callable[[], object]) -> None:
        """Kill a wait, and see that its log says what became of the pipeline."""
        before = len(self.journal.lines)
        kill()
        if not any(fate in line for line in self.journal.lines[before:] for fate in FATES):
            self._wrong("fate not told", "the log of a wait that was killed does not say it")

    # -- looking ---------------------------------------------------------------------------------------------

    def _count_pipelines(self) -> None:
        there = self._truth.pipelines(self.name)
        if len(there) > 1:
            self._wrong("doubled", f"{[pipeline.id for pipeline in there]} when its submit was green")

    def _let_late_calls_land(self) -> None:
        """Wait as long as a call whose client gave up may be under way: a person is no quicker to clear a task."""
        threading.Event().wait(LATE_SECONDS)

    def _is_in(self, pipeline_id: str, *states: str) -> bool:
        job = self._truth.job(pipeline_id)
        return job is not None and job.state in states

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        until = min(self._place.until, time.monotonic() + PATIENCE_SECONDS)
        waited = threading.Event()
        while not condition():
            if time.monotonic() > until:
                states = self._truth.timeline(self._submitted["pipeline_id"])
                raise NotEndedError(f"its pipeline does not come to be {what}: {states}")
            waited.wait(0.05)

    def _befell(self, what: str) -> None:
        self.outcome.befell[what] += 1
        self._say(f"--- {what}")

    def _say(self, text: str) -> None:
        self.journal.logger.info("%s", text)

    def _wrong(self, figure: str, text: str) -> None:
        self._say(f"*** {figure}: {text}")
        self.outcome.wrong.append((figure, f"{self.name}: {text}"))


def judge_the_end(story: Story, truth: Truth, figures: Figures) -> None:
    """Count a story's pipelines when all is at rest, and say what is wrong with them."""
    there = truth.pipelines(story.name)
    figures.wanted += 1
    figures.made += len(there)
    if len(there) > 1:
        figures.wrong["doubled"].append(f"{story.name}: {[pipeline.id for pipeline in there]}")
    for pipeline in there[:1]:
        if pipeline.job is None or pipeline.job.state not in story.at_rest:
            state = pipeline.job.state if pipeline.job else None
            figures.wrong["lost"].append(
                f"{story.name}: {state}, not one of {sorted(story.at_rest)}: {truth.timeline(pipeline.id)}"
            )
    if not there:
        figures.wrong["lost"].append(f"{story.name}: there is no such pipeline")
