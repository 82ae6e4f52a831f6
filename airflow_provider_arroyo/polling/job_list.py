"""The list of jobs: whether to poll it, and what it shows of the awaited pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.reading import iter_items
from airflow_provider_arroyo.client.request import HttpResponse
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConnectionError,
    Disposition,
)
from airflow_provider_arroyo.polling.waiters import Target

MAX_SINGLE_POLLS = 8
"""How many single polls are sent at the same time; for more pipelines, the list is polled."""

_JOBS_PER_SINGLE_POLL = 50
"""How many jobs make ``GET /jobs`` as expensive for the server as one additional single poll (measured)."""


def prefers_list(intervals: list[float], jobs: int | None) -> bool:
    """Return whether polling the list costs the server less than polling each pipeline.

    :param intervals: the poll interval of each pipeline, in seconds.
    :param jobs: number of jobs on the server; None if unknown, so that the list is polled once to find out.
    """
    if len(intervals) > MAX_SINGLE_POLLS:
        return True
    polls = sum(min(intervals) / interval for interval in intervals)
    return polls > 1 and (jobs is None or polls > 1 + jobs / _JOBS_PER_SINGLE_POLL)


def may_concern_list_alone(error: BaseException | None) -> bool:
    """Return whether single polls may succeed although the list failed with this error; None means no failure."""
    if isinstance(error, ArroyoApiError):
        return error.status not in (401, 429)
    # What could not be sent as a list poll could not be sent as a single poll either.
    return isinstance(error, ArroyoConnectionError) and error.disposition is not Disposition.RETRY


class JobList(NamedTuple):
    """What ``GET /jobs`` showed of the targets.

    :param body: the response's body, to compare the next one with.
    :param deliveries: the targets to notify, each with its item and job.
    :param missing: the targets that need a single poll.
    :param jobs: number of jobs on the server; None if nothing was parsed.
    """

    body: bytes
    deliveries: Sequence[tuple[Target, Mapping[str, Any], Job | None]]
    missing: Sequence[Target]
    jobs: int | None

    @classmethod
    def read(cls, response: HttpResponse, targets: list[Target], last_body: bytes | None) -> JobList:
        """Read a response; it is not parsed if it is identical to the last one, byte for byte."""
        if response.body == last_body:
            wanting = [(t, t.item, t.job) for t in targets if t.wants_next and t.item is not None]
            return cls(response.body, wanting, [], None)
        by_pipeline = {target.pipeline_id: target for target in targets}
        by_job = {target.job.id: target for target in targets if target.job is not None}
        items: dict[Target, Mapping[str, Any] | None] = {}
        jobs = 0
        for item in iter_items(response.body):
            jobs += 1
            if not isinstance(item, Mapping):
                continue  # it describes no job; the others still count
            pipeline_id = item.get("pipeline_id")
            # 0.15 does not name the pipeline.
            target = (
                by_job.get(str(item.get("id"))) if pipeline_id is None else by_pipeline.get(str(pipeline_id))
            )
            if target is not None:
                # Of several jobs, a single poll shows which one is the newest.
                items[target] = None if target in items else item
        deliveries, missing = [], []
        for target in targets:
            shown = items.get(target)
            if shown is None:
                missing.append(target)
            elif shown != target.item or target.wants_next:
                try:
                    deliveries.append((target, shown, Job.from_api(shown)))
                except (KeyError, TypeError, ValueError, AttributeError):
                    # A single poll reports what is wrong with it.
                    missing.append(target)
        return cls(response.body, deliveries, missing, jobs)
