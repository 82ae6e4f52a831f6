"""A pipeline that stops finishing checkpoints causes one event; a wrong clock alone causes none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.monitoring.event_rule import EventRule
from airflow_provider_arroyo.monitoring.watch import EventMemory, EventWatch
from tests.monitoring.support import GONE, ORDERS, REFUSED, T0, job, logged

RULE = EventRule(states=frozenset(), max_checkpoint_age=timedelta(seconds=100))
INTERVAL = 10


class Server:
    """A pipeline that finishes a checkpoint every ten seconds, except during its stalls.

    :param stalls: when each stall starts and ends, seconds after the pipeline was created.
    :param skew: how far the server's clock is ahead of the watcher's.
    :param age: how long it has been running when the watch begins.
    :param date_skew: how far the clock of a gateway, which writes its own date, is ahead of the server's.
    """

    def __init__(
        self,
        *stalls: tuple[float, float],
        skew: float = 0.0,
        age: float = 0.0,
        has_date: bool = True,
        date_skew: float = 0.0,
    ) -> None:
        self.stalls, self.skew, self.age, self.has_date = stalls, skew, age, has_date
        self.date_skew = date_skew

    def job(self, state: str = "Running", run: int = 1, **more: Any) -> Job:
        began = int((T0 - self.age + self.skew) * 1e6)
        shown = job(state, run, **more)
        return Job(
            id=shown.id,
            state=shown.state,
            run_id=shown.run_id,
            running_desired=shown.running_desired,
            created_at_micros=began,
            start_time_micros=began,
        )

    def read(self, now: float) -> Reading:
        elapsed = int(now - T0 + self.age)
        ends = [
            at
            for at in range(INTERVAL, elapsed + 1, INTERVAL)
            if not any(begin <= at < end for begin, end in self.stalls)
        ]
        began = T0 - self.age + self.skew
        found = tuple(
            Checkpoint(
                epoch=number,
                start_time_micros=int((began + at - 1) * 1e6),
                finish_time_micros=int((began + at) * 1e6),
            )
            for number, at in enumerate(ends, 1)
        )
        return Reading(found, now + self.skew + self.date_skew if self.has_date else None)


def watch(memory: EventMemory | None = None, now: float = T0) -> EventWatch:
    return EventWatch(ORDERS, RULE, now=now, memory=memory)


def play(
    one: EventWatch,
    server: Server,
    seconds: float,
    *,
    begin: float = 0.0,
    jobs: Iterable[tuple[float, Any]] = (),
    first: Job | None = None,
) -> list[tuple[float, str]]:
    """Read whenever a reading is due, and return the events with their times."""
    now, end, reported, changes = T0 + begin, T0 + seconds, list[tuple[float, str]](), list(jobs)
    one.observe(first or server.job(), now)
    reads = 0
    while True:
        for payload in one.take_events():
            reported.append((now - T0, payload["event_id"]))
        due = min([one.details_due() or end, *(T0 + at for at, _ in changes)])
        if due >= end:
            assert reads <= 2 + (seconds - begin) / 10 * 2, "more readings than a few for each age"
            return reported
        now = max(now, due)
        if changes and T0 + changes[0][0] <= now:
            one.observe(changes.pop(0)[1], now)
        else:
            shown = one.progress.job
            assert shown is not None
            reads += 1
            one.observe_details(shown, server.read(now), now, sent_at=now)


def test_a_healthy_pipeline_causes_no_event() -> None:
    assert play(watch(), Server(), 3_000) == []


@pytest.mark.parametrize("skew", [0.0, 3600.0, -3600.0, 30.0, -30.0])
@pytest.mark.parametrize("has_date", [True, False])
def test_each_stall_is_one_event(skew: float, has_date: bool) -> None:
    server = Server((500, 900), (1500, 2000), skew=skew, has_date=has_date)
    found = play(watch(), server, 2500)
    # The last ones before were number 49 and 109.
    assert [event for _, event in found] == [
        "job_1/checkpoint-49/NoCheckpoint",
        "job_1/checkpoint-109/NoCheckpoint",
    ]
    for (at, _), last in zip(found, (490, 1490), strict=True):
        assert last + 100 <= at + 1e-6
        assert at <= last + 100 + (10 if has_date else 20) + 1e-6


@pytest.mark.parametrize("date_skew", [3600.0, -3600.0])
def test_a_gateways_wrong_clock_reports_no_stall_too_early(date_skew: float) -> None:
    ((at, event),) = play(watch(), Server((500, 900), date_skew=date_skew), 1_000)
    assert event == "job_1/checkpoint-49/NoCheckpoint"
    assert 490 + 100 <= at <= 490 + 100 + 20 + 1e-6


def test_a_checkpoint_between_the_begin_of_a_watch_and_its_first_reading_counts() -> None:
    # The watch begins 3 s before checkpoint 50, and first reads 7 s after it.
    ((at, event),) = play(watch(), Server((501, 900), age=497.0), 200)
    assert event == "job_1/checkpoint-50/NoCheckpoint"
    assert at >= 3 + 100


@pytest.mark.parametrize("skew", [0.0, 3600.0, -3600.0])
def test_a_watch_that_begins_during_a_stall_needs_a_second_reading(skew: float) -> None:
    healthy = Server(age=1_000.0, skew=skew)
    assert play(watch(), healthy, 1_000) == []
    stalled = Server((0, 1e9), age=1_000.0, skew=skew)
    (found,) = play(watch(), stalled, 1_000)
    assert found[1] == "job_1/checkpoint-0/NoCheckpoint"
    assert found[0] <= 110 + 1e-6
    if skew == 0:
        assert found[0] == pytest.approx(20.0)


@pytest.mark.parametrize("has_date", [False, True])
def test_a_clock_that_is_wrong_by_hours_causes_no_event(has_date: bool) -> None:
    """A gateway's date, or none: the server's own clock is two hours behind it."""

    class Gateway(Server):
        def read(self, now: float) -> Reading:
            return Reading(super().read(now).value, now + 7200 if has_date else None)

    assert play(watch(), Gateway(age=500.0, skew=-7200.0), 1_000) == []


@pytest.mark.parametrize("date_skew", [150.0, 1800.0, 7200.0])
def test_a_wrong_clock_causes_no_event_after_a_long_time_without_readings(date_skew: float) -> None:
    one, server = watch(), Server(date_skew=date_skew)
    assert play(one, server, 300) == []
    one.observe_error(REFUSED, T0 + 300)
    assert play(one, server, 5_000, begin=3_900) == []
    # Checkpoints that could not be read at all, of a pipeline that ran before, or was just resumed.
    for before in ([server.job()], [server.job("Stopped", desired=False), server.job("Running", 2)]):
        one, now = watch(), T0
        for shown in before:
            one.observe(shown, T0)
        while now < T0 + 1_000:
            now = one.details_due() or T0
            one.observe_details(before[-1], REFUSED, now, sent_at=now)
        assert play(one, server, 3_000, begin=1_000, first=before[-1]) == []


def test_flapping_runs_without_a_checkpoint_are_one_stall() -> None:
    server = Server((0, 1e9))
    runs = [(30.0 * run, server.job("Running", run + 1)) for run in range(1, 20)]
    assert [event for _, event in play(watch(), server, 600, jobs=runs)] == [
        "job_1/checkpoint-0/NoCheckpoint"
    ]


@pytest.mark.parametrize(
    "shown",
    [
        ("Stopped", False),
        ("Running", False),
        ("Finishing", True),
        ("Finished", True),
        ("Failed", True),
        ("Failing", True),
    ],
)
def test_a_state_without_checkpoints_causes_no_event(shown: tuple[str, bool]) -> None:
    server = Server((100, 1e9))
    ends = [(120.0, server.job(shown[0], desired=shown[1]))]
    assert play(watch(), server, 2_000, jobs=ends) == []


def test_a_resume_restarts_the_time_for_a_checkpoint() -> None:
    server = Server((100, 1_030))
    changes = [(110.0, server.job("Stopped", desired=False)), (1_000.0, server.job("Running", 2))]
    assert play(watch(), server, 2_000, jobs=changes) == []
    dead = Server((100, 1e9))
    ((at, event),) = play(watch(), dead, 2_000, jobs=changes)
    assert event == "job_1/checkpoint-9/NoCheckpoint"
    assert 1_100 <= at <= 1_110


@pytest.mark.parametrize("starting_seconds", [0.5, 90.0])
def test_a_watch_that_begins_while_it_starts_again_counts_from_then_on(starting_seconds: float) -> None:
    """Until it runs, it shows when it ended and began before."""
    server = Server((0, 5_000 + starting_seconds), age=5_000.0)
    starting = replace(server.job("Scheduling", 2), finish_time_micros=int((T0 - 60) * 1e6))
    one = watch()
    assert (
        play(one, server, 100 - 1e-3, jobs=[(starting_seconds, server.job("Running", 2))], first=starting)
        == []
    )
    dead = Server((0, 1e9), age=5_000.0)
    one = watch()
    changes = [(starting_seconds, dead.job("Running", 2))]
    ((at, event),) = play(one, dead, 2_000, jobs=changes, first=starting)
    assert event == "job_1/checkpoint-0/NoCheckpoint"
    assert at == pytest.approx(100.0)


def test_a_reported_stall_is_remembered_and_otherwise_repeated_with_its_id() -> None:
    server = Server((500, 1e9))
    one = watch()
    assert [event for _, event in play(one, server, 700)] == ["job_1/checkpoint-49/NoCheckpoint"]
    kept = EventMemory.from_dict(json.loads(json.dumps(one.memory.to_dict())))
    assert play(watch(kept, T0 + 700), server, 2_000, begin=700) == []
    assert [event for _, event in play(watch(None, T0 + 700), server, 2_000, begin=700)] == [
        "job_1/checkpoint-49/NoCheckpoint"
    ]


def test_the_payload_names_the_last_checkpoint() -> None:
    one, server = watch(), Server((500, 1e9))
    one.observe(server.job(), T0)
    payload: dict[str, Any] = {}
    while not payload:
        due = one.details_due()
        assert due is not None
        one.observe_details(server.job(), server.read(due), due, sent_at=due)
        payload = next(iter(one.take_events()), {})
    assert (payload["event"], payload["state"], payload["last_checkpoint"]) == ("NoCheckpoint", "Running", 49)
    assert payload["last_checkpoint_at"] == "2026-11-25T02:08:10.000+00:00"
    assert payload["max_checkpoint_age_seconds"] == 100.0


def test_unreadable_checkpoints_are_one_warning_and_are_retried() -> None:
    one, server = watch(), Server()
    one.observe(server.job(), T0)
    for _ in range(5):
        due = one.details_due()
        assert due is not None
        assert not one.observe_details(server.job(), REFUSED, due, sent_at=due).is_over
        following = one.details_due()
        assert following is not None
        assert following >= due + 1, "retried at once"
    assert [text for text in logged(one) if "cannot be read" in text] == [
        "Checkpoints cannot be read, retrying: orders_per_minute: Connection refused"
    ]


def test_checkpoints_are_read_only_of_an_existing_job_and_only_if_requested() -> None:
    one, server = watch(), Server()
    assert one.details_due() is None
    one.observe(server.job(), T0)
    assert one.details_due() is not None
    one.observe_error(REFUSED, T0 + 1)
    assert one.details_due() is None
    one.observe(server.job(), T0 + 2)
    one.observe_error(GONE, T0 + 3)
    assert one.details_due() is None
    other = EventWatch(ORDERS, EventRule(states=frozenset({"Failed"})), now=T0)
    other.observe(server.job(), T0)
    assert other.details_due() is None
    # Readings of another job are ignored.
    one.observe(server.job(job_id="job_2"), T0 + 4)
    assert not one.observe_details(server.job(), server.read(T0 + 5), T0 + 5, sent_at=T0 + 5).is_over
