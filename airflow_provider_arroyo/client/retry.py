"""How failed requests are retried: one rule for requests, one for polls."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenacity import RetryCallState

from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoUnreachableError,
    Disposition,
)
from airflow_provider_arroyo.text import duration, shorten, utc_time

Clock = Callable[[], float]
"""A monotonic clock in seconds, such as ``time.monotonic``."""

FIRST_CONTACT_SECONDS = 60.0
"""How long something other than Arroyo may respond, in seconds, if Arroyo itself never has."""

POLL_RETRIES = 10
"""How often a poll is retried before it counts as missed."""

_FIRST_WAIT_SECONDS = 0.1
_MAX_WAIT_SECONDS = 2.0
_SHORT_RETRY_AFTER_SECONDS = 5.0
"""How long to wait, in seconds, if a server asks a poll to wait for longer, or a request for longer than its limit;
otherwise the end of an outage would be noticed late.
"""

_TOO_MANY_REQUESTS = 429

_MIN_TRY_SECONDS = 0.1


def backoff_seconds(retry: int) -> float:
    """Return how long to wait before a retry: half of ``min(2, 0.1 * 2**retry)`` s, plus a random part of the other
    half.

    :param retry: 1 for the first.
    """
    # The exponent is bounded, since a float is.
    half = min(_MAX_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(retry, 64)) / 2
    return half + random.random() * half


def poll_retry_seconds(failures: int, interval_seconds: float, error: BaseException) -> float:
    """Return how long to wait before a failed poll is retried.

    :param failures: consecutive failed tries, 1 or more. After :data:`POLL_RETRIES` retries, the poll is missed and
        the next one follows at the interval.
    :param interval_seconds: time between polls.
    :param error: the error of the last try.
    """
    retry = failures % (POLL_RETRIES + 1)
    pause = backoff_seconds(retry) if retry else interval_seconds
    return max(pause, min(_retry_after(error), _SHORT_RETRY_AFTER_SECONDS))


def outage_ends_at(error: ArroyoError, ends_at: float, *, foreign_since: float | None) -> float:
    """Return until when an error may persist before it ends a wait or a request.

    :param error: the last failure.
    :param ends_at: until when an outage of Arroyo is tolerated.
    :param foreign_since: since when something else has responded; None if nothing has, or Arroyo itself has responded
        in this task.
    """
    if error.disposition is Disposition.OUTAGE and foreign_since is not None:
        return min(ends_at, foreign_since + FIRST_CONTACT_SECONDS)
    return ends_at


def may_have_taken_effect(error: BaseException) -> bool:
    """Return whether the server may have carried out the failed request."""
    if not isinstance(error, ArroyoError):
        return False
    if isinstance(error, ArroyoApiError) and error.status >= 500:
        return True
    return error.disposition in (Disposition.RETRY_IF_IDEMPOTENT, Disposition.OUTAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a request may take with all its tries.

    :param max_elapsed_seconds: how long a failing request is retried, default 15; 0 tries once.
    :param first_try_seconds: how long it may take in any case, since a slow response is not an outage; default None:
        as long as the timeouts of the settings allow for one try.
    :param deadline: a time of the client's clock after which nothing is tried; default None: no deadline.
    """

    max_elapsed_seconds: float = 15.0
    first_try_seconds: float | None = None
    deadline: float | None = None


class Tries:
    """The tries of one request. Provides tenacity's callbacks and the time limit of each try.

    :param request: the request.
    :param limits: its time limits.
    :param try_seconds: how long one try may take by the timeouts of the settings.
    :param clock: a monotonic clock in seconds.
    :param log: gets a WARNING when an outage begins, and a line when it ends.
    """

    def __init__(
        self, request: Request[Any], limits: Limits, *, try_seconds: float, clock: Clock, log: Any
    ) -> None:
        self._request = request
        self._clock = clock
        self._log = log
        self._deadline = float("inf") if limits.deadline is None else limits.deadline
        self._began = clock()
        self._began_at = time.time()
        self._may_repeat_until = min(self._began + limits.max_elapsed_seconds, self._deadline)
        first = try_seconds if limits.first_try_seconds is None else limits.first_try_seconds
        least = self._began + max(first, request.min_read_timeout_seconds)
        self._ends_at = min(max(self._may_repeat_until, least), self._deadline)
        self._foreign_since: float | None = None
        self._took_effect = False
        self._has_warned = False
        self.retries = 0
        self.has_responded = False
        """Whether Arroyo itself has responded; updated by the client."""

    def seconds_left(self, at_most: float) -> float:
        """Return how long a try that begins now may take, at most ``at_most``.

        :raises ArroyoConnectionError: if the time for all tries is over.
        """
        return self._left_until(self._ends_at, at_most)

    def deadline_seconds_left(self, at_most: float) -> float:
        """Return the time until the client's deadline, at most ``at_most``.

        :raises ArroyoConnectionError: if it has passed.
        """
        return self._left_until(self._deadline, at_most)

    def _left_until(self, end: float, at_most: float) -> float:
        left = end - self._clock()
        if left <= 0:
            raise ArroyoConnectionError(
                f"{self._request} was not completed before its deadline. Allow more time (timeout), or find out "
                "what was slow: Arroyo or the network.",
                disposition=Disposition.RETRY,
                **self._request.where,
            )
        return min(at_most, left)

    def note_effect(self) -> None:
        """Take note that the server said that it carried the request out."""
        self._took_effect = True

    def is_done_already(self) -> bool:
        """Return whether an earlier DELETE, whose response was lost, has deleted what this one does not find."""
        return self._request.method == "DELETE" and self._took_effect

    # -- callbacks of tenacity ---------------------------------------------------------------------------------

    def is_retryable(self, error: BaseException) -> bool:
        """Return whether repeating the request is safe and may succeed."""
        self._took_effect = self._took_effect or may_have_taken_effect(error)
        if not isinstance(error, ArroyoError) or error.disposition is Disposition.PERMANENT:
            return False
        if error.disposition is Disposition.OUTAGE and self._foreign_since is None:
            self._foreign_since = self._clock()
        return error.disposition is Disposition.RETRY or self._request.is_idempotent

    def wait_seconds(self, state: RetryCallState) -> float:
        """Return how long to wait before the next try, so that the next try can still end in time.

        A server that asks for a longer wait than that, and for fewer requests (429), gets no further try.
        """
        error = _error_of(state)
        left = self._repeat_until(error) - self._clock()
        asked, most = _retry_after(error), left - _MIN_TRY_SECONDS
        if asked >= most and isinstance(error, ArroyoApiError) and error.status == _TOO_MANY_REQUESTS:
            return asked
        # What does not fit is only a guess of when an outage ends.
        asked = asked if asked < most else _SHORT_RETRY_AFTER_SECONDS
        wanted = max(backoff_seconds(state.attempt_number), asked)
        return wanted if wanted < most else max(_FIRST_WAIT_SECONDS, left - 1.0)

    def is_exhausted(self, state: RetryCallState) -> bool:
        """Return whether no further try is due."""
        # A try that has no time to complete would only hide the error of the last one.
        ends_at = self._repeat_until(_error_of(state)) - _MIN_TRY_SECONDS
        return self._clock() + state.upcoming_sleep >= ends_at

    def _repeat_until(self, error: BaseException | None) -> float:
        if not isinstance(error, ArroyoError):
            return self._may_repeat_until
        foreign_since = None if self.has_responded else self._foreign_since
        return outage_ends_at(error, self._may_repeat_until, foreign_since=foreign_since)

    def before_sleep(self, state: RetryCallState) -> None:
        """Log the failed try: the first as a warning, the others at DEBUG level."""
        level, error = logging.DEBUG if self._has_warned else logging.WARNING, _error_of(state)
        self._has_warned = True
        self.retries += 1
        self._log.log(
            level,
            "%s failed, retrying for up to %s: %s",
            self._request,
            duration(self._repeat_until(error) - self._began),
            shorten(str(error), 1000),
        )

    def log_success(self) -> None:
        """Log that an outage is over, if one was logged."""
        if self._has_warned:
            self._log.info("Arroyo responds again after %s", duration(self._clock() - self._began))

    def final_error(self, error: ArroyoError) -> ArroyoError:
        """Return the error to raise after the last try: the last error, or one that says how long they lasted."""
        elapsed = self._clock() - self._began
        allowed = self._repeat_until(error) - self._began
        was_tried_once = not self._has_warned and (
            allowed <= _MIN_TRY_SECONDS or elapsed < allowed - _MIN_TRY_SECONDS - _FIRST_WAIT_SECONDS
        )
        if was_tried_once or not self.is_retryable(error):
            return error
        if error.disposition is Disposition.OUTAGE and not self.has_responded:
            return ArroyoUnreachableError(
                f"This address does not look like Arroyo: for {duration(elapsed)}, {self._request} got no "
                f"response from Arroyo. Last error: {error}",
                since=self._began_at,
            )
        effect = "It may have taken effect. " if self._took_effect and self._request.changes else ""
        if error.is_own_failure:
            return ArroyoUnreachableError(
                f"{self._request} failed for {duration(elapsed)}, since {utc_time(self._began_at)}, although Arroyo "
                f"responds. Last error: {error}\n{effect}Check the server's log.",
                since=self._began_at,
            )
        return ArroyoUnreachableError(
            f"Arroyo has been unreachable for {duration(elapsed)}, since {utc_time(self._began_at)}. "
            f"Last error of {self._request}: {error}\n{effect}Check the server and the connection.",
            since=self._began_at,
        )


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _retry_after(error: BaseException | None) -> float:
    return (error.retry_after_seconds or 0.0) if isinstance(error, ArroyoApiError) else 0.0
