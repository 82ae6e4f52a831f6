"""Which failures pass, how often and how long to wait for that. The same for both clients."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

from tenacity import RetryCallState, retry_if_exception

from airflow_provider_arroyo.arroyo.call import Call, Repeat
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    shorten,
)

log = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Seconds that only grow, as from ``time.monotonic``."""

LEAST_ATTEMPT_SECONDS = 0.1
"""No further attempt begins with less than this left until its deadline."""


def is_retryable(error: BaseException, call: Call[Any]) -> bool:
    """Return whether making the call again is safe, and may mend the error.

    :param error: how the call failed.
    :param call: a call that changes something is repeated only where that does no harm.
    """
    if not isinstance(error, ArroyoError):
        return False
    always = call.repeat is Repeat.ALWAYS
    if isinstance(error, ArroyoConnectionError):
        return error.is_transient and (always or not error.was_sent)
    if isinstance(error, ArroyoApiError):
        if error.status == 429:
            return True
        if error.status in (502, 503, 504):
            return always
        if error.status == 500:
            return not call.changes
    return error.is_transient and always


def may_have_taken_effect(error: BaseException) -> bool:
    """Return whether the server may have done what the failed call asked for."""
    if isinstance(error, ArroyoConnectionError):
        return error.was_sent
    return isinstance(error, ArroyoApiError) and error.status >= 500


class RetryOptions(TypedDict):
    """What tenacity's ``Retrying`` and ``AsyncRetrying`` are made with."""

    retry: retry_if_exception
    wait: Callable[[RetryCallState], float]
    stop: Callable[[RetryCallState], bool]
    before_sleep: Callable[[RetryCallState], None]
    reraise: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a failed call is tried again.

    :param retries: attempts after the first, default 10.
    :param first_wait_seconds: before retry r it waits half of this times 2^r, plus a random part of the other
        half; default 0.1.
    :param max_wait_seconds: the most that this grows to, default 2.
    :param max_retry_after_seconds: the longest Retry-After of a server that is waited for; on a longer one the
        call fails at once, default 120.
    """

    retries: int = 10
    first_wait_seconds: float = 0.1
    max_wait_seconds: float = 2.0
    max_retry_after_seconds: float = 120.0

    def wait_seconds(self, retry: int, retry_after_seconds: float | None = None) -> float:
        """Return how long to wait before a retry.

        :param retry: 1 for the first.
        :param retry_after_seconds: what the server asked for, which is the least.
        """
        # The exponent is bounded, since a float is.
        half = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** min(retry, 64)) / 2
        return max(half + random.random() * half, retry_after_seconds or 0.0)


class Attempts:
    """The attempts of one call.

    :param call: what is tried.
    :param policy: how often, and how far apart.
    :param deadline: no attempt begins, and no wait lasts, past this moment of ``clock``; None sets none.
    :param clock: tells the time, in seconds.
    """

    def __init__(
        self,
        call: Call[Any],
        policy: RetryPolicy,
        *,
        deadline: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._call = call
        self._policy = policy
        self._deadline = deadline
        self._clock = clock
        self._took_effect = False
        self.retries = 0
        """How often it was tried again so far."""

    @property
    def options(self) -> RetryOptions:
        """What tenacity needs to know."""
        return RetryOptions(
            retry=retry_if_exception(self._is_retryable),
            wait=self._wait,
            stop=self._stop,
            before_sleep=self._warn,
            reraise=True,
        )

    def left(self) -> float | None:
        """Return how many seconds are left for an attempt that begins now; None without a deadline.

        :raises ArroyoConnectionError: where the deadline has passed.
        """
        if self._deadline is None:
            return None
        left = self._deadline - self._clock()
        if left <= 0:
            raise ArroyoConnectionError(
                f"{self._call} was not made, or not to its end: its deadline had passed.",
                method=self._call.method,
                path=self._call.path,
                was_sent=False,
            )
        return left

    def limit(self, seconds: float) -> float:
        """Return how much of ``seconds`` an attempt may take that begins now.

        :raises ArroyoConnectionError: where the deadline has passed.
        """
        left = self.left()
        return seconds if left is None else min(seconds, left)

    def rest(self, seconds: float) -> float:
        """Return how much of ``seconds`` is left before the deadline; 0 where it has passed."""
        return seconds if self._deadline is None else max(0.0, min(seconds, self._deadline - self._clock()))

    def is_done_already(self, error: ArroyoNotFoundError) -> bool:
        """Return whether what a DELETE does not find was deleted by an attempt whose answer was lost."""
        return self._call.method == "DELETE" and self._took_effect

    def _is_retryable(self, error: BaseException) -> bool:
        self._took_effect = self._took_effect or may_have_taken_effect(error)
        return is_retryable(error, self._call)

    def _wait(self, state: RetryCallState) -> float:
        return self._policy.wait_seconds(state.attempt_number, _retry_after(state))

    def _stop(self, state: RetryCallState) -> bool:
        if state.attempt_number > self._policy.retries:
            return True
        if (_retry_after(state) or 0.0) > self._policy.max_retry_after_seconds:
            return True
        if self._deadline is None:
            return False
        # An attempt with no time to end in would only hide the reason that the last one told.
        return self._clock() + state.upcoming_sleep >= self._deadline - LEAST_ATTEMPT_SECONDS

    def _warn(self, state: RetryCallState) -> None:
        self.retries = state.attempt_number
        log.warning(
            "%s %s: %s; retry %d of %d in %.1f s",
            self._call.method,
            self._call.path,
            shorten(str(_error(state))),
            state.attempt_number,
            self._policy.retries,
            state.upcoming_sleep,
        )


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _retry_after(state: RetryCallState) -> float | None:
    error = _error(state)
    return error.retry_after_seconds if isinstance(error, ArroyoApiError) else None
