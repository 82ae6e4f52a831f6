"""Requests a stop so that its final checkpoint can be proven afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import Checkpoint
from airflow_provider_arroyo.client.models import Job, JobState, StopMode
from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.monitoring.checkpoints import StopRequest

LACKS_FINAL_CHECKPOINT = "%s has not finished its final checkpoint within %s; it is stopped without it"
"""The warning about a stop that waits for it in vain, with the pipeline's label and a duration."""

_CHECKPOINTS_SECONDS = 10.0


def for_checkpoints(client: ArroyoClient) -> ArroyoClient:
    """Return a client with a short limit: checkpoints only prove what a stop does, and must not delay it."""
    return client.with_limits(
        max_elapsed_seconds=min(_CHECKPOINTS_SECONDS, client.limits.max_elapsed_seconds)
    )


def request_stop(
    client: ArroyoClient,
    pipeline_id: str,
    job: Job | None,
    mode: StopMode,
    before: Sequence[Checkpoint] | None,
) -> StopRequest | None:
    """Request a stop; return what the proof of its checkpoint will need, or None if no checkpoint was requested.

    :param client: sends the requests.
    :param pipeline_id: id of the pipeline.
    :param job: its job before the stop; None if it has none.
    :param mode: how to stop.
    :param before: its checkpoints before the stop; only needed for mode ``checkpoint``. None if they could not be
        read, so that its checkpoint cannot be proven.
    """
    response = client.send(endpoints.patch_pipeline(pipeline_id, stop=mode))
    if mode is not StopMode.CHECKPOINT or before is None:
        return None
    accepted: tuple[Checkpoint, ...] | None = None
    if job is not None and all(one.checkpoint_type is None for one in before):
        # Without types, only the epoch tells which checkpoint began after the request.
        with suppress(ArroyoError):
            accepted = tuple(for_checkpoints(client).list_checkpoints(pipeline_id, job.id))
    date = response.server_date
    at_micros = int(date.timestamp() * 1_000_000) if date else None
    return StopRequest.after(before, at_micros, accepted=accepted, job=job)


def lacks_final_checkpoint(job: Job | None) -> bool:
    """Return whether a job waits for its final checkpoint before it stops.

    It waits for ever if a source or sink is stuck: in that state, Arroyo (0.15 and 0.16) notices no failure.
    """
    return job is not None and job.state == JobState.CHECKPOINT_STOPPING
