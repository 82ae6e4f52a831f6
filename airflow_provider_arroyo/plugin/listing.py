"""Finds the pipelines that belong to the jobs in the server's list, and describes them.

The list of jobs is fetched every two seconds; that of pipelines, which is long, only if a job's pipeline is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_arroyo.client import endpoints
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, ArroyoUnreadableItemError
from airflow_provider_arroyo.plugin.facts import Facts, facts_of
from airflow_provider_arroyo.plugin.snapshot import MAX_PIPELINES, Row

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.client import ArroyoClient
    from airflow_provider_arroyo.plugin.watch import Watch

_MAX_ASKED = 20
"""How many single pipelines are asked for after a fetch of the list: one second's worth of requests."""

_ASK_SECONDS = 2.0
"""How long that may take, in seconds, before the list is fetched again."""

_PAGE_SECONDS = 15.0
"""How long a page of the list of pipelines may take, in seconds: it may contain thousands."""

_PART = 100
"""How many pipelines are listed before they are shown: to find the secrets of thousands can take a minute."""

_REST_SECONDS = 10.0
"""How long what could not be read is left alone, in seconds: it would delay the rest."""

_NOT_LISTED_SECONDS = 300.0
"""How long a job whose pipeline is not in the list causes no further list, in seconds."""

log = logging.getLogger(__name__)


class Listing:
    """Fills the snapshot of a watch with the pipelines of one Arroyo.

    :param watch: sends the requests, and has the snapshot.
    :param is_shown: whether anyone is viewing the pipeline with this id.
    """

    def __init__(self, watch: Watch, is_shown: Callable[[str], bool]) -> None:
        self._watch = watch
        self._is_shown = is_shown
        self._not_listed: dict[tuple[str | None, str], float] = {}
        """Until when these jobs, each with the id of its pipeline, cause no further list, by the monotonic clock."""
        self._is_complete = False
        """Whether the last list of pipelines was complete, so that all older ones than a known one are known."""
        self._error: ArroyoError | None = None
        self._due_at = float("-inf")
        """When the list may be fetched again after it failed, by the monotonic clock."""

    async def find(self, unknown: list[Job], take: Callable[[], object]) -> ArroyoError | None:
        """List pipelines, newest first, until all are known that have a job.

        :param unknown: the jobs that belong to no known pipeline.
        :param take: gives the listed pipelines their jobs.
        :returns: why new pipelines are missing; None if the list could be read.
        :raises ArroyoError: if the list could never be read; what was read before that is kept.
        """
        now, jobs = self._watch.clock(), {(job.pipeline_id, job.id) for job in unknown}
        due = {job for job in jobs if self._not_listed.get(job, now) <= now}
        if not due:
            return None
        if now < self._due_at:
            return self._error
        try:
            await self._list({pipeline_id for pipeline_id, _ in due}, take)
        except ArroyoError as error:
            if self._watch.seen_at is None:
                raise
            # What is known of the others is up to date.
            self._error = error.adding("Until the list of pipelines can be read, new ones are not shown.")
            self._due_at = self._watch.clock() + _REST_SECONDS
            return self._error
        left = [job for job in due if job[0] not in self._watch.snapshot.rows]
        waiting = {job: self._not_listed[job] for job in jobs - due}
        self._not_listed = waiting | dict.fromkeys(left, now + _NOT_LISTED_SECONDS)
        return None

    async def _list(self, wanted: set[str | None], take: Callable[[], object]) -> None:
        """List pipelines until the wanted ones are listed; None is one whose id is unknown.

        0.15 does not tell which pipeline a job belongs to. So there, all new ones are listed.
        """
        client, snapshot = await self._watch.next_slot(), self._watch.snapshot
        until_known, self._is_complete = self._is_complete and None in wanted, False
        parts = _read(client, wanted, snapshot.rows, until_known=until_known)
        while (part := await self._watch.run(partial(next, parts, None))) is not None:
            snapshot.take_pipelines(part)
            take()
        self._is_complete = len(snapshot.rows) < MAX_PIPELINES

    async def match_jobs(self) -> bool:
        """Ask for the jobs of pipelines without one, those of shown pipelines first; return whether there are any.

        On 0.15, the list of jobs does not tell. On 0.16, it was fetched before the pipeline was created.
        """
        rows = [row for row in self._watch.snapshot.rows.values() if row.job is None]
        rows.sort(key=lambda row: (not self._is_shown(row.pipeline_id), -row.facts.created))
        await self._ask(rows, self._match_job)
        return bool(rows)

    async def _match_job(self, row: Row) -> bool:
        """Ask for a pipeline's job; return whether there is one."""
        snapshot = self._watch.snapshot
        try:
            job = await self._watch.send(endpoints.get_job(row.pipeline_id))
        except ArroyoNotFoundError:
            snapshot.drop(row.pipeline_id)
            return True
        except (ArroyoError, ValueError) as error:
            log.debug("No job of pipeline %s: %s", row.pipeline_id, error)
            return False
        if job is not None:
            snapshot.pipeline_of_job[job.id] = row.pipeline_id
            self._not_listed.pop((None, job.id), None)
        return job is not None

    async def describe_replaced(self) -> None:
        """Describe the pipelines that have another job than before: each may be another one with the same id."""
        rows = [row for row in self._watch.snapshot.rows.values() if not row.is_described]
        await self._ask(rows, self._watch.describe)

    async def _ask(self, rows: list[Row], ask: Callable[[Row], Awaitable[bool]]) -> None:
        """Ask about single pipelines, but not for long, and not at once about those that could not be read.

        :param rows: the pipelines.
        :param ask: asks about one, and returns whether it could be read. A failure concerns one pipeline; an outage
            shows at the next fetch of the list.
        """
        clock = self._watch.clock
        began = clock()
        for row in [row for row in rows if row.due_at <= began][:_MAX_ASKED]:
            if not await ask(row):
                row.due_at = clock() + _REST_SECONDS
            if clock() > began + _ASK_SECONDS:
                return


def _read(
    client: ArroyoClient, wanted: set[str | None], known: Mapping[str, Row], *, until_known: bool
) -> Iterator[list[Facts]]:
    """Read the list of pipelines, newest first, until all wanted ones were listed.

    :param client: sends the requests.
    :param wanted: the ids; those that are listed are removed.
    :param known: the pipelines that are known already.
    :param until_known: whether all older pipelines than a known one are known, too.
    :returns: their facts, in parts.
    """
    room, newest_known = MAX_PIPELINES - len(known), 0
    pipelines = client.with_limits(first_try_seconds=_PAGE_SECONDS).iter_pipelines()
    part: list[Facts] = []
    try:
        for pipeline in pipelines if room > 0 else ():
            row = known.get(pipeline.id)
            part.append(row.facts.updated(pipeline) if row else facts_of(pipeline))
            wanted.discard(pipeline.id)
            room -= row is None
            # Those of the same second are in any order.
            is_older = row is not None and 0 < pipeline.created_at_micros < newest_known
            if not wanted or not room or (until_known and is_older):
                break
            if row is not None:
                newest_known = newest_known or pipeline.created_at_micros
            if len(part) == _PART:
                yield part
                part = []
    except ArroyoUnreadableItemError as error:
        log.warning("%s", error)
    except ArroyoError:
        # A failure hides only what was not listed before it.
        yield part
        raise
    yield part
