"""Reads the details of a job that a wait needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.reading import Listed, iter_items, read_items
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.checkpoints import WRITTEN
from airflow_provider_arroyo.monitoring.condition import Finding, Reading
from airflow_provider_arroyo.monitoring.metrics import UnknownNameError
from airflow_provider_arroyo.monitoring.plan import WaitPlan
from airflow_provider_arroyo.monitoring.result import WaitResult
from airflow_provider_arroyo.monitoring.wait import PipelineWait
from airflow_provider_arroyo.polling.clock import SteadyClock

Share = Callable[[Job, Callable[[], Reading]], Reading]


def read(
    client: ArroyoClient, plan: WaitPlan, finding: Finding, job: Job, share: Share | None = None
) -> Reading | ArroyoError:
    """Return the details of a job that a wait needs, or the error.

    May take a while even after the response has arrived, so do not call it on an event loop.

    :param client: sends each request once.
    :param plan, finding: of the wait.
    :param job: the job.
    :param share: gets the metrics of a job from a function, or from another wait; default None, from the function.
    """
    try:
        if plan.metric is None:
            request = endpoints.list_checkpoints(plan.pipeline.pipeline_id, job.id)
            checkpoints = _fetch(client, replace(request, read=_read_checkpoints))
            # A proof needs all of them, so one that cannot be read is an error here.
            return checkpoints._replace(value=tuple(checkpoints.value))

        def fetch() -> Reading:
            return _fetch(client, endpoints.list_metrics(plan.pipeline.pipeline_id, job.id))

        fetched = fetch() if share is None else share(job, fetch)
        measured = plan.metric.measured(
            fetched.value, lambda: client.get_pipeline(plan.pipeline.pipeline_id).graph, finding
        )
        return fetched._replace(value=measured)
    except ArroyoError as err:
        return err
    except UnknownNameError as err:
        return ArroyoError(f"{plan.pipeline.label}: {err}", is_fatal=True)


def _fetch(client: ArroyoClient, request: Request[Any]) -> Reading:
    response = client.send(request)
    date = response.server_date
    return Reading(response.value, None if date is None else date.timestamp())


def _read_checkpoints(response: HttpResponse) -> Listed[Checkpoint]:
    """Return checkpoints without the phases that no wait needs, which are most of the data."""
    # What is not an object describes no checkpoint.
    items = (item for item in iter_items(response.body) if isinstance(item, Mapping))
    return read_items(items, Checkpoint, lambda item: Checkpoint.from_api({**item, "events": _needed(item)}))


def _needed(item: Mapping[str, Any]) -> list[Any]:
    """Return the phases that tell whether an unfinished checkpoint was written."""
    phases = item.get("events")
    if item.get("finish_time") or not isinstance(phases, list):
        return []
    return [one for one in phases if isinstance(one, Mapping) and one.get("event") == WRITTEN]


def observe_now(client: ArroyoClient, wait: PipelineWait, clock: SteadyClock) -> WaitResult | None:
    """Read what the wait needs now, and pass it to the wait; None if it needs nothing.

    :param client: sends each request once.
    :param wait: the wait.
    :param clock: the clock of the wait.
    """
    job, due, sent_at = wait.job, wait.details_due(), clock()
    if job is None or due is None or due > sent_at:
        return None
    found = read(client, wait.plan, wait.finding, job)
    is_cut_short = isinstance(found, ArroyoError) and clock() >= wait.ends_at()
    if is_cut_short and wait.finding.seen is not None:
        return None  # the end of the wait interrupted it, so it says nothing about the job
    return wait.observe_details(job, found, clock(), sent_at=sent_at)
