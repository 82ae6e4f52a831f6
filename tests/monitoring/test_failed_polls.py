"""Polls that fail: retries, the outage tolerance, log lines, and what counts afterwards."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoError,
    ArroyoTlsError,
    Disposition,
)
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from tests.monitoring.support import FOREIGN, GONE, REFUSED, T0, api_error, job, logged, move, wait

WAITING, REACHED, FAILED, UNREACHABLE = Outcome.WAITING, Outcome.REACHED, Outcome.FAILED, Outcome.UNREACHABLE


def seen(*targets: str, **more: object) -> PipelineWait:
    """A wait after a response of Arroyo at ``T0``."""
    sensor = wait(*targets, **more)
    sensor.observe(job("Created", 0), T0)
    sensor.messages()
    return sensor


def fail(
    sensor: PipelineWait, tries: int, start: float, step: float = 0.1, error: ArroyoError = REFUSED
) -> WaitResult:
    for number in range(tries):
        result = sensor.observe_error(error, start + number * step, retry_in=0.84)
    return result


# -- what ends the wait -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        *(api_error(status, disposition=Disposition.PERMANENT) for status in (400, 405, 409, 422, 500)),
        api_error(401, ArroyoAuthError),
        api_error(403, ArroyoAuthError),
        ArroyoTlsError("unknown CA"),
        ArroyoError("no idea"),
    ],
    ids=str,
)
def test_a_permanent_error_ends_the_wait_at_once(error: ArroyoError) -> None:
    sensor = seen()
    result = sensor.observe_error(error, T0 + 1)
    assert result.outcome is Outcome.ERROR
    assert result.error is error
    assert logged(sensor) == []


@pytest.mark.parametrize("disposition", [d for d in Disposition if d is not Disposition.PERMANENT])
def test_every_other_error_is_retried(disposition: Disposition) -> None:
    sensor = wait("Running")
    # A poll changes nothing, so it may always be repeated.
    error = api_error(503, disposition=disposition)
    assert sensor.observe_error(error, T0 + 1).outcome is WAITING
    assert sensor.observe(job(), T0 + 2).outcome is REACHED


def test_not_found_ends_the_wait_at_once_as_missing_or_deleted() -> None:
    assert wait("Running").observe_error(GONE, T0).outcome is Outcome.MISSING
    assert wait("Running", before=job()).observe_error(GONE, T0).outcome is Outcome.DELETED
    assert seen().observe_error(GONE, T0 + 1).outcome is Outcome.DELETED


# -- how long an outage may last ----------------------------------------------------------------------------------


def test_an_outage_counts_from_the_last_response() -> None:
    sensor = seen(outage_tolerance=60)
    sensor.observe(job("Created", 0), T0 + 10)
    result = sensor.observe_error(REFUSED, T0 + 20)
    assert (result.unreachable_since, result.unreachable_seconds) == (T0 + 10, 10)
    assert sensor.next_due() == T0 + 70
    assert sensor.tick(T0 + 69.99).outcome is WAITING
    assert sensor.tick(T0 + 70).outcome is UNREACHABLE


def test_an_unchanged_response_counts_as_well() -> None:
    """A poller skips unchanged responses, but reports when Arroyo last responded."""
    sensor = seen(outage_tolerance=60)
    result = sensor.observe_error(REFUSED, T0 + 200, responded_at=T0 + 199)
    assert (result.outcome, result.unreachable_since) == (WAITING, T0 + 199)
    sensor.observe_error(REFUSED, T0 + 230, responded_at=T0 + 229)
    assert sensor.tick(T0 + 258.99).outcome is WAITING
    assert sensor.tick(T0 + 259).outcome is UNREACHABLE


@pytest.mark.parametrize("responded_at", [T0 + 5, T0 + 90])
def test_an_outage_begins_between_the_last_poll_and_now(responded_at: float) -> None:
    sensor = seen()
    sensor.observe(job("Created", 0), T0 + 10)
    result = sensor.observe_error(REFUSED, T0 + 20, responded_at=responded_at)
    assert result.unreachable_since == (T0 + 10 if responded_at < T0 + 10 else T0 + 20)


def test_an_outage_before_the_first_response_counts_from_the_start_of_the_wait() -> None:
    sensor = wait("Running", outage_tolerance=60)
    sensor.observe_error(REFUSED, T0 + 15)
    result = sensor.observe_error(REFUSED, T0 + 60)
    assert (result.outcome, result.unreachable_since, result.error) == (UNREACHABLE, T0, REFUSED)
    assert not result.has_responded


def test_without_tolerance_the_first_failure_ends_the_wait_without_a_warning() -> None:
    sensor = seen(outage_tolerance=0)
    assert sensor.observe_error(REFUSED, T0 + 1).outcome is UNREACHABLE
    assert logged(sensor) == []


def test_if_deadline_and_tolerance_end_together_the_deadline_is_named() -> None:
    sensor = wait("Running", outage_tolerance=600)
    sensor.observe_error(REFUSED, T0)
    result = sensor.observe_error(REFUSED, T0 + 600)
    assert (result.outcome, result.unreachable_seconds) == (Outcome.TIMED_OUT, 600)


def test_foreign_responses_end_the_wait_after_a_minute_if_arroyo_never_responded() -> None:
    sensor = wait("Running")
    assert sensor.observe_error(FOREIGN, T0 + 1).outcome is WAITING
    assert sensor.next_due() == T0 + 61
    assert sensor.observe_error(FOREIGN, T0 + 60.99).outcome is WAITING
    result = sensor.observe_error(FOREIGN, T0 + 61)
    assert (result.outcome, result.has_responded) == (UNREACHABLE, False)
    shorter = wait("Running", outage_tolerance=5)
    assert shorter.observe_error(FOREIGN, T0 + 5).outcome is UNREACHABLE


@pytest.mark.parametrize("before", [REFUSED, api_error(503)], ids=["refused", "503"])
@pytest.mark.parametrize("moves", [False, True])
def test_the_minute_counts_from_the_first_response_of_something_else(
    before: ArroyoError, moves: bool
) -> None:
    sensor = wait("Running", deadline=T0 + 3600)
    fail(sensor, 40, T0 + 1, step=2, error=before)
    assert sensor.observe_error(FOREIGN, T0 + 82, sent_at=T0 + 81).outcome is WAITING
    if moves:
        sensor = move(sensor, T0 + 82)
    # What comes in between does not start it again.
    assert sensor.observe_error(before, T0 + 139).outcome is WAITING
    assert sensor.observe_error(FOREIGN, T0 + 140.9).outcome is WAITING
    assert sensor.observe_error(FOREIGN, T0 + 141).outcome is UNREACHABLE


def test_refused_connections_are_retried_for_the_tolerance_if_arroyo_never_responded() -> None:
    sensor = wait("Running", deadline=T0 + 3600)
    assert sensor.observe_error(REFUSED, T0 + 599).outcome is WAITING
    assert sensor.observe_error(REFUSED, T0 + 600).outcome is UNREACHABLE


@pytest.mark.parametrize(
    "how", ["in a poll", "in a poll that was left out", "earlier in this task", "before moving"]
)
def test_foreign_responses_after_arroyo_responded_are_an_outage(how: str) -> None:
    sensor, responded_at = wait("Running", deadline=T0 + 3600), None
    if how in ("in a poll", "before moving"):
        sensor.observe(job("Created", 0), T0)
    if how == "before moving":
        sensor = move(sensor, T0)
    if how == "in a poll that was left out":
        responded_at = T0
    if how == "earlier in this task":
        sensor = PipelineWait(sensor.plan, now=T0, has_responded=True)
    assert sensor.observe_error(FOREIGN, T0 + 1, responded_at=responded_at).has_responded
    assert sensor.observe_error(FOREIGN, T0 + 599.9).outcome is WAITING
    result = sensor.observe_error(FOREIGN, T0 + 600)
    assert (result.outcome, result.has_responded) == (UNREACHABLE, True)


def test_a_clock_that_steps_back_extends_no_outage() -> None:
    sensor = seen(outage_tolerance=60)
    sensor.observe_error(REFUSED, T0 + 10)
    assert sensor.observe_error(REFUSED, T0 - 3600).outcome is WAITING
    assert sensor.tick(T0 - 3540.01).outcome is WAITING
    assert sensor.tick(T0 - 3540).outcome is UNREACHABLE


# -- what is logged -----------------------------------------------------------------------------------------------


def test_ten_retries_the_announcement_and_the_end_are_logged() -> None:
    sensor = seen()
    fail(sensor, 34, T0 + 1, step=1.5)
    sensor.observe(job("Created", 0), T0 + 60)
    messages = sensor.messages()
    lines = [message.text for message in messages]
    retries = [
        f"Poll failed, retry {n} of 10 in 0.8 s: orders_per_minute: Connection refused" for n in range(1, 11)
    ]
    announced = (
        "Arroyo unreachable for 16.0 s, retrying for up to 10 min in total (api_outage_tolerance): "
        "orders_per_minute: Connection refused"
    )
    # The 22nd and the 33rd try are the last ones of their polls.
    assert lines == [
        *retries,
        announced,
        *retries,
        *retries,
        retries[0],
        "Arroyo reachable again after 1 min: orders_per_minute",
    ]
    assert [message.level for message in messages] == (
        [logging.WARNING] * 11 + [logging.DEBUG] * 21 + [logging.INFO]
    )


def test_failures_that_end_before_the_announcement_add_no_line() -> None:
    sensor = seen()
    fail(sensor, 10, T0 + 1)
    assert len(logged(sensor)) == 10
    sensor.observe(job("Created", 0), T0 + 3)
    assert logged(sensor) == []
    # A minute later, the count of failures starts again.
    sensor.observe_error(REFUSED, T0 + 63)
    assert logged(sensor) == ["Poll failed, retry 1 of 10: orders_per_minute: Connection refused"]


def test_a_flapping_server_is_one_warning() -> None:
    sensor = seen()
    for second in range(1, 300):
        sensor.observe_error(REFUSED, T0 + second)
        sensor.observe(job("Created", 0), T0 + second + 0.5)
    assert [
        message.text.split(":")[0] for message in sensor.messages() if message.level >= logging.WARNING
    ] == ["Poll failed, retry 1 of 10"]
    # An outage in between is announced, without warnings about its retries.
    fail(sensor, 13, T0 + 301)
    assert [message.text[:18] for message in sensor.messages() if message.level >= logging.WARNING] == [
        "Arroyo unreachable"
    ]


def test_a_flapping_server_is_remembered_by_the_next_process() -> None:
    sensor = seen()
    fail(sensor, 1, T0 + 1)
    sensor.observe(job("Created", 0), T0 + 2)
    sensor.messages()
    moved = move(sensor, T0 + 3)
    fail(moved, 1, T0 + 4)
    assert [message.level for message in moved.messages()] == [logging.DEBUG]


def test_failures_are_counted_on_in_the_next_process() -> None:
    sensor = seen()
    fail(sensor, 10, T0 + 1)
    moved = move(sensor, T0 + 1.9)
    fail(moved, 2, T0 + 3)
    announced, later = moved.messages()
    assert announced.text.startswith("Arroyo unreachable for 3.0 s, ")
    assert later.level == logging.DEBUG
    again = move(moved, T0 + 3.1)
    again.observe(job("Created", 0), T0 + 4)
    assert logged(again) == ["Arroyo reachable again after 4.0 s: orders_per_minute"]


def test_the_announcement_names_the_limit_of_the_first_contact() -> None:
    sensor = wait("Running")
    fail(sensor, 11, T0 + 1, error=FOREIGN)
    assert logged(sensor)[-1] == (
        "Arroyo unreachable for 2.0 s, retrying for up to 1 min 1 s in total (Arroyo has not responded yet): "
        "orders_per_minute: A gateway's page"
    )


def test_a_heartbeat_mentions_an_outage_only_after_its_announcement() -> None:
    sensor = seen("Finished", heartbeat=300, deadline=T0 + 3600, outage_tolerance=3000)
    sensor.observe_error(REFUSED, T0 + 299)
    sensor.observe_error(REFUSED, T0 + 300)
    assert logged(sensor)[2:] == [
        "Still Created after 5 min: orders_per_minute (no run yet); waiting for Finished, 55 min left"
    ]
    fail(sensor, 9, T0 + 301)
    sensor.messages()
    sensor.tick(T0 + 601)
    assert logged(sensor) == []
    sensor.tick(T0 + 602)
    (message,) = sensor.messages()
    assert message.level == logging.WARNING
    assert message.text == (
        "Arroyo still unreachable after 10 min 2 s: orders_per_minute; waiting for Finished, 49 min 58 s left"
    )


# -- what counts after it -----------------------------------------------------------------------------------------


def test_an_outage_does_not_reset_a_long_stable_for() -> None:
    stable = wait("Running", stable_for=60)
    stable.observe(job(), T0)
    stable.observe_error(REFUSED, T0 + 10)
    assert stable.observe(job(), T0 + 58).outcome is WAITING
    # For the grace time, responses may show the state before the outage.
    assert stable.observe(job(), T0 + 60).outcome is WAITING
    assert stable.observe(job(), T0 + 63).outcome is REACHED


@pytest.mark.parametrize("failing_seconds, counts", [(0.9, True), (1.0, False), (8.0, False)])
def test_after_long_failures_stable_for_needs_a_grace_time(failing_seconds: float, counts: bool) -> None:
    """A server that was restarted in that time may show an older state."""
    started = wait("Running", stable_for=2)
    started.observe(job(), T0)
    back = T0 + 2 + failing_seconds
    started.observe_error(REFUSED, back - 0.1, sent_at=T0 + 2)
    assert (started.observe(job(), back).outcome is REACHED) is counts
    if not counts:
        assert started.next_due() == back + 2
        assert started.observe(job(), back + 1.9).outcome is WAITING
        assert started.observe(job(), back + 2).outcome is REACHED


@pytest.mark.parametrize("failing_seconds, counts", [(0.9, True), (1.0, False), (60.0, False)])
def test_after_long_failures_the_grace_time_starts_again(failing_seconds: float, counts: bool) -> None:
    """An unreachable server had no time to carry out the change."""
    restart = wait("Running", before=job("Failed", 1))
    restart.observe(job("Failed", 1), T0)
    back = T0 + 5 + failing_seconds
    restart.observe_error(REFUSED, back - 0.1, sent_at=T0 + 5)
    assert (restart.observe(job("Failed", 1), back).outcome is FAILED) is counts
    if not counts:
        assert restart.next_due() == back + 5
        assert restart.observe(job("Failed", 1), back + 4.9).outcome is WAITING
        assert restart.observe(job("Failed", 1), back + 5).outcome is FAILED


def test_failures_count_from_when_the_first_was_sent() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    stable.observe_error(REFUSED, T0 + 1.5, sent_at=T0 + 1.1)
    stable.observe_error(REFUSED, T0 + 2, sent_at=T0 + 1.9)
    assert stable.observe(job(), T0 + 2.2).outcome is WAITING
    assert stable.observe(job(), T0 + 4.2).outcome is REACHED


def test_a_clock_that_steps_back_does_not_hide_a_long_failure() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    stable.observe_error(REFUSED, T0 + 1)
    stable.tick(T0 - 3600)
    assert stable.observe(job(), T0 - 3599).outcome is WAITING
    assert stable.observe(job(), T0 - 3598).outcome is WAITING
    assert stable.observe(job(), T0 - 3597).outcome is REACHED


# -- from one process to the next ---------------------------------------------------------------------------------


def test_an_outage_goes_on_in_the_next_process_with_its_error() -> None:
    sensor = seen(outage_tolerance=60)
    sensor.observe_error(api_error(503), T0 + 1)
    moved = move(sensor, T0 + 3)
    assert moved.tick(T0 + 61.9).outcome is WAITING, "the two seconds without a poll do not count"
    result = moved.tick(T0 + 62)
    assert result.outcome is UNREACHABLE
    assert isinstance(result.error, ArroyoApiError)
    assert (result.error.status, result.error.disposition) == (503, Disposition.RETRY_IF_IDEMPOTENT)


@pytest.mark.parametrize("is_failing", [False, True], ids=["reachable", "in an outage"])
def test_time_without_polls_is_not_an_outage(is_failing: bool) -> None:
    """A triggerer is restarted after hours, and Arroyo is unreachable at that moment."""
    sensor = wait("Stopped", deadline=T0 + 100_000, outage_tolerance=60)
    sensor.observe(job(), T0)
    if is_failing:
        sensor.observe_error(REFUSED, T0 + 10)
    moved = move(sensor, T0 + 7200)
    assert moved.tick(T0 + 7202).outcome is WAITING
    assert moved.observe_error(REFUSED, T0 + 7212).outcome is WAITING
    assert moved.observe_error(REFUSED, T0 + 7240).outcome is WAITING
    assert moved.observe_error(REFUSED, T0 + 7261).outcome is UNREACHABLE


def test_time_without_polls_is_not_a_long_failure() -> None:
    stable = wait("Running", stable_for=2)
    stable.observe(job(), T0)
    stable.observe_error(REFUSED, T0 + 2, sent_at=T0 + 1.9)
    assert move(stable, T0 + 300).observe(job(), T0 + 300).outcome is REACHED


def test_polls_at_intervals_longer_than_the_tolerance_are_still_retried() -> None:
    w = wait("Running", outage_tolerance=60)
    w.observe(job("Scheduling"), T0)
    assert not w.observe_error(REFUSED, T0 + 300, sent_at=T0 + 299).is_over
    assert not w.observe_error(REFUSED, T0 + 358, sent_at=T0 + 357).is_over
    assert w.observe_error(REFUSED, T0 + 359, sent_at=T0 + 358).outcome is Outcome.UNREACHABLE
