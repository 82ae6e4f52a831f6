"""The list of jobs: whether to poll it, and what it shows of the awaited pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.reading import iter_items_with_text
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
    :param deliveries: the targets to notify, each with its item, as JSON, and its job.
    :param missing: the targets that need a single poll.
    :param jobs: number of jobs on the server; None if nothing was parsed.
    """

    body: bytes
    deliveries: Sequence[tuple[Target, str, Job | None]]
    missing: Sequence[Target]
    jobs: int | None

    @classmethod
    def read(cls, response: HttpResponse, targets: list[Target], last_body: bytes | None) -> JobList:
        """Read a response; it is not parsed if it is identical to the last one, byte for byte."""
        if response.body == last_body:
            wanting = [(t, t.item, t.job) for t in targets if t.wants_next and t.item is not None]
            # Not the new body: megabytes that move with each poll fragment the memory of the thread.
            return cls(last_body, wanting, [], None)
        by_pipeline = {target.pipeline_id: target for target in targets}
        # Read once, since the event loop may change it meanwhile.
        by_job = {job.id: target for target in targets if (job := target.job) is not None}
        deliveries: dict[Target, tuple[str, Job]] = {}
        missing, seen, jobs = set(targets), set[Target](), 0
        for item, text in iter_items_with_text(response.body):
            jobs += 1
            if not isinstance(item, Mapping):
                continue  # it describes no job; the others still count
            pipeline_id = item.get("pipeline_id")
            # 0.15 does not name the pipeline.
            target = (
                by_job.get(str(item.get("id"))) if pipeline_id is None else by_pipeline.get(str(pipeline_id))
            )
            if target is None:
                continue
            if target in seen:
                # Of several jobs, a single poll shows which one is the newest.
                deliveries.pop(target, None)
                missing.add(target)
                continue
            seen.add(target)
            if text != target.item or target.wants_next:
                try:
                    deliveries[target] = text, Job.from_api(item)
                except (KeyError, TypeError, ValueError, AttributeError):
                    continue  # a single poll reports what is wrong with it
            missing.discard(target)
        delivered = [(target, text, job) for target, (text, job) in deliveries.items()]
        return cls(response.body, delivered, list(missing), jobs)
