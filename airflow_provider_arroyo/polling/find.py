"""Looking for a pipeline by its name until there is one: in a worker, and the parts that a triggerer shares.

The wait decides, as for any poll. Lists of pipelines are large, so they are read less often than a job is polled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoError,
    ArroyoNoSuchNameError,
)
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.pipelines.names import resolve_name
from airflow_provider_arroyo.polling.clock import SteadyClock
from airflow_provider_arroyo.polling.poll import Polls, poll_by, poll_until, single_try

FIND_SECONDS = 2.0
"""Time between two look-ups of a name in seconds, if reading the list takes less than a tenth of that."""

Resolve = Callable[[ArroyoClient], PipelineRef]
"""Returns the pipeline that a name means; raises :class:`ArroyoNoSuchNameError` if there is none."""


def resolve_ref(client: ArroyoClient, *, name: str, rule: Mapping[str, Any]) -> PipelineRef:
    """Return the pipeline that a name means.

    :param client: sends the requests.
    :param name: the exact name.
    :param rule: further arguments of :func:`.resolve_name`.
    :raises ArroyoNoSuchNameError: if there is none.
    :raises ArroyoError: if the look-up fails, or several could be meant.
    """
    return PipelineRef.of(resolve_name(client, name, **rule).pipeline, client.settings)


def look_up_polls(wait: PipelineWait, clock: SteadyClock, interval_seconds: float, log: Any) -> Polls:
    """Return the polls of a wait that looks for its pipeline; they are rare, since the list of pipelines is large."""
    return Polls(wait, clock, max(interval_seconds, FIND_SECONDS), log, rest=10.0)


def observe_look_up(
    wait: PipelineWait, clock: SteadyClock, look_up: Callable[[], PipelineRef]
) -> WaitResult | None:
    """Let a wait observe a look-up of its pipeline; return its result, None once the pipeline is found.

    :param wait: the wait.
    :param clock: the clock of the wait.
    :param look_up: returns the pipeline.
    :raises ArroyoError: if it is unknown whether there is one.
    """
    try:
        wait.found(look_up())
    except ArroyoNoSuchNameError as err:
        return wait.observe_missing(clock(), err.elsewhere)
    return None


def find_until(
    client: ArroyoClient,
    wait: PipelineWait,
    resolve: Resolve,
    *,
    clock: SteadyClock,
    interval_seconds: float,
    log: Any,
    until: float | None = None,
    stop_when: Callable[[WaitResult], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> WaitResult | None:
    """Look up the pipeline of a wait at once, then repeatedly, until it exists.

    :param resolve: looks up the name once.
    :param interval_seconds: time between two look-ups, 2 seconds or more.
    :param client, wait, clock, log, until, stop_when, sleep: see :func:`.poll_until`.
    :returns: None once it is found; otherwise the result, ``WAITING`` only if ``until`` or ``stop_when`` ended it.
    """

    def observe(poll: ArroyoClient) -> WaitResult | None:
        return observe_look_up(wait, clock, lambda: resolve(poll))

    polls = look_up_polls(wait, clock, interval_seconds, log)
    return poll_by(observe, client, polls, until=until, stop_when=stop_when, sleep=sleep)


def poll_named_until(
    client: ArroyoClient,
    wait: PipelineWait,
    resolve: Resolve,
    *,
    clock: SteadyClock,
    until: float | None = None,
    stop_when: Callable[[WaitResult], bool] | None = None,
    **options: Any,
) -> WaitResult | None:
    """Poll a pipeline that was found by its name, until the wait is over.

    :param client, wait, resolve, clock, until, stop_when: see :func:`find_until`.
    :param options: further arguments of :func:`.poll_until`.
    :returns: the result; None once the name means another pipeline, which must be looked up: this one was stopped
        when it was found, and stayed stopped.
    """
    looks_at = clock() + FIND_SECONDS

    def is_enough(result: WaitResult) -> bool:
        return (until is not None and clock() >= until) or (stop_when is not None and stop_when(result))

    def is_due(result: WaitResult) -> bool:
        # In an outage, the look-up would fail too, and the next polls would start over with their retries.
        may_look = wait.may_be_replaced and wait.unreachable_since is None
        return is_enough(result) or (may_look and clock() >= looks_at)

    while True:
        result = poll_until(client, wait, clock=clock, until=until, stop_when=is_due, **options)
        if result.is_over or is_enough(result):
            return result
        began = clock()
        if means_another(client, wait, resolve, clock.to_monotonic(wait.plan.deadline)):
            wait.find_again()
            return None
        looks_at = max(began + FIND_SECONDS, clock() + 10 * (clock() - began))


def means_another(
    client: ArroyoClient, wait: PipelineWait, resolve: Resolve, deadline: float | None = None
) -> bool:
    """Return whether the name of a wait's pipeline now means another one, or several; False if unknown."""
    try:
        found = resolve(single_try(client, 0.0, deadline))
    except ArroyoAmbiguousNameError:
        return True  # the next look-up reports it
    except ArroyoError:
        return False
    return found.pipeline_id != wait.plan.pipeline.pipeline_id
