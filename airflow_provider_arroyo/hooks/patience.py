"""Calls that outlast an outage: what a task asks of Arroyo before and after its wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_arroyo.arroyo.api import Call, Exchange, Repeat
from airflow_provider_arroyo.arroyo.retry import LEAST_ATTEMPT_SECONDS
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoUnreachableError,
)
from airflow_provider_arroyo.hooks.clock import SteadyClock
from airflow_provider_arroyo.monitoring.notes import duration, moment

if TYPE_CHECKING:
    from airflow_provider_arroyo.arroyo.client import ArroyoClient

T = TypeVar("T")

_BETWEEN_SECONDS = 1.0
_LAST_SECONDS = 1.0
"""What is kept of the time that is tolerated for a last attempt, however long the server asks to wait."""
_LEAST_SECONDS = 5.0
"""What the first attempt may take even where less of an outage is tolerated."""


class PatientClient:
    """A client that goes on with calls that are safe to repeat while an outage is tolerated.

    The client's own retries bound one attempt (about 15 seconds); this bounds how long attempts go on.

    :param client: makes the calls.
    :param clock: tells the time.
    :param tolerance: for how long no call may succeed.
    :param log: gets a warning when an outage begins, and a line when it ends.
    :param has_answered: whether Arroyo has answered at this address before, so that what is not its answer is
        an outage, and no wrong address.
    :param deadline: a moment of the clock after which nothing goes on, however much is tolerated; default none.
    :param sleep: how to wait between attempts, in seconds.
    """

    def __init__(
        self,
        client: ArroyoClient,
        *,
        clock: SteadyClock,
        tolerance: timedelta,
        log: Any,
        has_answered: bool = False,
        deadline: float = float("inf"),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self._clock = clock
        self._tolerance_seconds = tolerance.total_seconds()
        self._log = log
        self._has_answered = has_answered
        self._deadline = deadline
        self._sleep = sleep

    def call(self, call: Call[T]) -> T:
        """Make a call and return what it answers.

        :raises ArroyoUnreachableError: if no attempt succeeded for as long as is tolerated.
        :raises ArroyoError: at once for what no waiting mends, and for a call that may have taken effect and
            is not safe to repeat.
        """
        return self.exchange(call).value

    def exchange(self, call: Call[T]) -> Exchange[T]:
        """Make a call and return what it answers, with the server's clock. Raises as :meth:`call` does."""
        since = self._clock()
        limit = min(since + self._tolerance_seconds, self._deadline)
        # An answer that is merely slow is no outage, so the first attempt has its time in any case.
        deadline = self._clock.monotonic(
            max(limit, since + max(_LEAST_SECONDS, call.min_read_timeout_seconds))
        )
        warned = False
        while True:
            try:
                answer = self.client.exchange(call, deadline=deadline)
            except ArroyoError as err:
                if not err.may_pass(has_answered=self._has_answered) or not _is_safe(call, err):
                    raise
                self._endure(err, since, limit, warned=warned)
                warned = True
            else:
                self._has_answered = True
                if warned:
                    self._log.info("Arroyo can be reached again after %s", duration(self._clock() - since))
                return answer

    def _endure(self, error: ArroyoError, since: float, limit: float, *, warned: bool) -> None:
        """Wait for the next attempt.

        :raises ArroyoUnreachableError: if the outage has lasted for as long as is tolerated, or would by then.
        """
        wait = _BETWEEN_SECONDS
        if isinstance(error, ArroyoApiError):
            wait = max(wait, error.retry_after_seconds or 0.0)
        left = limit - self._clock()
        if left > 0 and not warned:
            self._log.warning(
                "Arroyo cannot be reached, which is tolerated for %s: %s",
                duration(limit - since),
                error,
            )
        if left > 0:
            self._sleep(min(wait, max(left - _LAST_SECONDS, min(left, _BETWEEN_SECONDS))))
        now = self._clock()
        # An attempt with no time to end in would only hide the reason that the last one told.
        if now < limit - LEAST_ATTEMPT_SECONDS:
            return
        is_out_of_time = limit >= self._deadline
        why = "until the time was up" if is_out_of_time else "longer than api_outage_tolerance allows"
        raise ArroyoUnreachableError(
            f"Arroyo has been unreachable for {duration(now - since)} since {moment(since)}, {why}. "
            f"The last call failed: {error}\n"
            "Nothing is known of the pipeline meanwhile, and nothing was done to it. "
            "Check the server and the connection, then clear this task.",
            since=since,
            is_out_of_time=is_out_of_time,
        ) from error


def _is_safe(call: Call[Any], error: ArroyoError) -> bool:
    if call.repeat is Repeat.ALWAYS:
        return True
    if isinstance(error, ArroyoConnectionError):
        return not error.was_sent
    return isinstance(error, ArroyoApiError) and error.status == 429
