"""In every case, the worker's loop and the shared poller have the same result and the same log lines."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.client.enums import JobState
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import Baseline
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.poll import poll_until
from tests.polling.fake_arroyo import Answer, FakeArroyo
from tests.polling.support import ALONE, INTERVAL, Waits, a_logger, a_plan
from tests.polling.virtual_time import EPOCH, ManualTime, VirtualClock, virtual
from tests.support import Lines

MODES = pytest.mark.parametrize("mode", ["single", "list"])
VERSIONS = pytest.mark.parametrize("version", ["0.15", "0.16"])

Event = tuple[Any, ...]
Seen = tuple[WaitResult, list[tuple[str, str]]]


class History:
    """What happens to pipeline ``pl_0``; the same in every run.

    :param story: seconds since the last event, and the event.
    """

    def __init__(self, server: FakeArroyo, story: list[tuple[float, Event]]) -> None:
        self._server = server
        self._run, self._job, self._jobs = 0, "job_pl_0", 0
        server.set("pl_0", "Created", run_id=0)
        # Between two polls, so that the same poll sees it in both modes.
        time = 0.05
        for gap, event in story:
            time += gap
            server.at(time, lambda event=event: self._apply(event))  # type: ignore[misc]  # a default binds it
            if event[0] == "away":
                answer, end = event[2], time + event[1]
                self._away(answer, time, end)
                time = end

    def _away(self, answer: Answer, begin: float, end: float) -> None:
        before, server = self._server.fault, self._server

        def fault(kind: str, pipeline_id: str) -> Answer | None:
            return answer if begin <= server.monotonic() < end else before(kind, pipeline_id)

        server.fault = fault

    def _apply(self, event: Event) -> None:
        server = self._server
        match event:
            case ("set", state, more_runs, desired) if "pl_0" in server.jobs:
                self._run += more_runs
                server.set("pl_0", state, run_id=self._run, running_desired=desired, id=self._job)
            case ("checkpoint", epoch, is_finished):
                server.checkpoint("pl_0", epoch, finished=is_finished)
            case ("delete",) if "pl_0" in server.jobs:
                server.delete("pl_0")
            case ("replace job",) if "pl_0" in server.jobs:
                self._jobs, self._run = self._jobs + 1, 0
                self._job = f"job_new_{self._jobs}"
                server.set("pl_0", "Created", run_id=0, id=self._job)
            case ("hide",):
                server.hide("pl_0")
            case ("show",):
                server.show("pl_0")


def in_a_worker(version: str, story: list[tuple[float, Event]], targets: set[str], **plan: Any) -> Seen:
    time, lines = ManualTime(), Lines()
    clock = VirtualClock(monotonic=time)
    server = FakeArroyo(version=version, monotonic=time, spend=time.sleep)
    History(server, story)
    result = poll_until(
        server.client(),
        PipelineWait(a_plan("pl_0", *targets, at=EPOCH, **plan), now=EPOCH),
        clock=clock,
        interval_seconds=INTERVAL,
        log=a_logger(lines),
        sleep=time.sleep,
    )
    return result, lines.lines


def in_a_triggerer(
    mode: str, version: str, story: list[tuple[float, Event]], targets: set[str], **plan: Any
) -> Seen:
    seen: list[Seen] = []

    @virtual
    async def main() -> None:
        server, lines = FakeArroyo(version=version), Lines()
        others = server.many(ALONE if mode == "single" else 20)[1:]
        History(server, story)
        waits = Waits(server)
        watched = waits.start("pl_0", *targets, log=a_logger(lines), **plan)
        if mode == "list":
            waits.start_all(others, "Stopped", timeout=1e6)
        result = await watched
        seen.append((result, lines.lines))

    main()
    return seen[0]


def lines_of(seen: Seen) -> tuple[list[tuple[str, str]], list[float]]:
    """Return the log lines: the texts, and the seconds in them, which the modes may round differently."""
    texts, seconds = [], []
    for level, line in seen[1]:
        # A worker whose poll hangs cannot log that it is still waiting.
        if not line.startswith("Still "):
            seconds += [float(number) for number in re.findall(r"([\d.]+) s\b", line)]
            text = line.replace("GET /pipelines/pl_0/jobs", "GET /jobs").replace(
                "/pipelines/pl_0/jobs", "/jobs"
            )
            texts.append((level, re.sub(r"[\d.]+ s\b", "… s", text)))
    return texts, seconds


def comparable(seen: Seen) -> dict[str, Any]:
    result, _ = seen
    return {
        "outcome": result.outcome,
        "job": result.job,
        "target_states": result.target_states,
        "restarts": result.restarts,
        "error": type(result.error),
    }


def assert_same(seen: Seen, expected: Seen) -> None:
    assert comparable(seen) == comparable(expected)
    (texts, seconds), (expected_texts, expected_seconds) = lines_of(seen), lines_of(expected)
    assert texts == expected_texts
    assert seconds == pytest.approx(expected_seconds, abs=INTERVAL + 0.01)


@MODES
@pytest.mark.parametrize("hangs, outcome", [(1.5, Outcome.REACHED), (25.0, Outcome.TIMED_OUT)])
def test_a_last_poll_without_a_response_does_not_let_a_guard_succeed(
    mode: str, hangs: float, outcome: Outcome
) -> None:
    story = [(-0.05, ("set", "Running", 1, True)), (75.0 - hangs, ("away", 99.0, "hangs"))]
    options: dict[str, Any] = {"timeout": 75.0, "timeout_is_success": True}
    for seen in (
        in_a_worker("0.16", story, {"Stopped"}, **options),
        in_a_triggerer(mode, "0.16", story, {"Stopped"}, **options),
    ):
        assert seen[0].outcome is outcome
        assert seen[0].waited_seconds == pytest.approx(75.0, abs=INTERVAL)
        assert seen[0].is_outage is (outcome is Outcome.TIMED_OUT)


OUTAGES: list[Answer] = ["refused", (503, "away"), (200, "<html>Log in</html>"), "hangs"]


@MODES
@pytest.mark.parametrize("answer", OUTAGES)
@pytest.mark.parametrize("seconds", [0.33, 2.04, 25.7, 100.0])
def test_both_modes_log_the_same_lines_in_an_outage(
    mode: str, answer: Answer, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0.15 names no pipelines in the list; an outage has no list.
    version = "0.16"
    monkeypatch.setattr("random.random", lambda: 0.5)
    story = [
        (1.0, ("set", "Scheduling", 1, True)),
        (3.0, ("away", seconds, answer)),
        (9.02, ("set", "Running", 0, True)),
    ]
    options: dict[str, Any] = {"outage_tolerance": timedelta(seconds=60), "heartbeat": timedelta(seconds=20)}
    expected = in_a_worker(version, story, {"Running"}, **options)
    seen = in_a_triggerer(mode, version, story, {"Running"}, **options)
    assert len(expected[1]) >= 3
    if (mode, answer) == ("list", "hangs") and seconds < 3:
        # While the request for the list still hangs, single polls succeed again, so nothing failed.
        assert comparable(seen) == comparable(expected)
        assert {level for level, _ in seen[1]} == {"INFO"}
    else:
        assert_same(seen, expected)


BEGINS: list[tuple[float, Event]] = [
    (1.0, ("set", "Scheduling", 1, True)),
    (0.3, ("set", "Running", 0, True)),
]
FAILS: list[tuple[float, Event]] = [(3.0, ("set", "Recovering", 0, True)), (0.4, ("set", "Running", 1, True))]
PROOFS: dict[str, tuple[list[tuple[float, Event]], Outcome]] = {
    "a checkpoint": (
        [*BEGINS, (4.0, ("checkpoint", 1, False)), (4.3, ("checkpoint", 1, True))],
        Outcome.REACHED,
    ),
    "one of an earlier run, then another": (
        [
            *[*BEGINS, (0.1, ("checkpoint", 1, True)), (0.4, ("set", "Recovering", 0, True))],
            *[(0.3, ("set", "Running", 1, True)), (9.3, ("checkpoint", 2, True))],
        ],
        Outcome.REACHED,
    ),
    "none before a source ends": ([*BEGINS, (3.0, ("set", "Finishing", 0, True))], Outcome.NO_CHECKPOINT),
    "one before a source ends": (
        [*BEGINS, (1.0, ("checkpoint", 1, True)), (0.1, ("set", "Finishing", 0, True))],
        Outcome.REACHED,
    ),
    "none, then the end": (
        [*BEGINS, (3.0, ("checkpoint", 1, False)), (9.0, ("set", "Finished", 0, True))],
        Outcome.REACHED,
    ),
    "none, again and again": ([*BEGINS, *FAILS, *FAILS, *FAILS, *FAILS], Outcome.FLAPPING),
    "none, for ever": ([*BEGINS, (3.0, ("checkpoint", 1, False))], Outcome.TIMED_OUT),
}


@MODES
@pytest.mark.parametrize("name", PROOFS)
def test_both_modes_need_the_same_checkpoints(mode: str, name: str) -> None:
    (story, outcome), version = PROOFS[name], "0.16"
    options: dict[str, Any] = {
        "until_checkpoint": True,
        "stable_for": timedelta(seconds=2),
        "max_restarts": 3,
        "finished_is_success": True,
        "timeout": 120.0,
    }
    expected = in_a_worker(version, story, {"Running"}, **options)
    seen = in_a_triggerer(mode, version, story, {"Running"}, **options)
    assert expected[0].outcome is outcome
    assert comparable(seen) == comparable(expected)
    if outcome is Outcome.TIMED_OUT:
        assert seen[0].open_epoch == expected[0].open_epoch == 1
    assert lines_of(seen)[0] == lines_of(expected)[0]
    # One mode reads the checkpoints between polls, the other concurrently; both within one interval.
    assert abs(seen[0].waited_seconds - expected[0].waited_seconds) <= 1.2


def before(state: str) -> Baseline:
    """The job before a request at the beginning of the wait."""
    return Baseline(job_id="job_pl_0", run_id=1, state=state, requested_at=EPOCH)


@MODES
@pytest.mark.parametrize("state", ["Failed", "Stopped", "Failing"])
def test_an_old_state_counts_in_both_modes_once_it_has_lasted(mode: str, state: str) -> None:
    """No poll shows a change, so each wait must ask for the one that decides it."""
    targets = {"Failed", "Failing", "Stopped"}
    story: list[tuple[float, Event]] = [(-0.05, ("set", state, 1, state != "Stopped"))]
    for seen in (
        in_a_worker("0.16", story, targets, baseline=before(state)),
        in_a_triggerer(mode, "0.16", story, targets, baseline=before(state)),
    ):
        assert seen[0].outcome is Outcome.REACHED
        assert seen[0].waited_seconds == pytest.approx(5, abs=2 * INTERVAL)


# Every state lasts long enough for both to see it, and no duration is close to stable_for.
gaps = st.sampled_from([0.4, 0.7, 1.6, 2.6])
states = st.sampled_from([*JobState, "Hibernating"])
events = st.one_of(
    st.tuples(st.just("set"), states, st.integers(0, 1), st.booleans()),
    st.tuples(st.just("delete")),
    st.tuples(st.just("replace job")),
    st.tuples(st.just("hide")),
    st.tuples(st.just("show")),
)
wanted = st.sets(st.sampled_from(["Running", "Stopped", "Finished", "Failed"]), min_size=1, max_size=2)


@MODES
@VERSIONS
@given(
    story=st.lists(st.tuples(gaps, events), max_size=10),
    targets=wanted,
    stable=st.sampled_from([0.0, 1.1]),
    max_restarts=st.sampled_from([None, None, 0, 2]),
    old=st.sampled_from([None, "Running", "Failed", "Stopped"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_modes_have_the_same_result_and_lines(
    mode: str,
    version: str,
    story: list[tuple[float, Event]],
    targets: set[str],
    stable: float,
    max_restarts: int | None,
    old: str | None,
) -> None:
    options: dict[str, Any] = {
        "timeout": 10.0 + sum(gap for gap, _ in story),
        "stable_for": timedelta(seconds=stable),
        "max_restarts": max_restarts,
        "baseline": None if old is None else before(old),
    }
    expected = in_a_worker(version, story, targets, **options)
    seen = in_a_triggerer(mode, version, story, targets, **options)
    # A pipeline that leaves the list, or whose job is replaced on 0.15, is seen by the next single poll.
    assert abs(seen[0].waited_seconds - expected[0].waited_seconds) <= INTERVAL + 0.001
    assert_same(seen, expected)
