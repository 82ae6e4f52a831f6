"""What one Arroyo has shown since this process began to watch it. Limited memory, no I/O.

Every change gets the next version, so a page that has seen version n asks only for later changes.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.monitoring.rules import OLD_SECONDS
from airflow_provider_arroyo.plugin.facts import Facts, seconds
from airflow_provider_arroyo.plugin.readings import Readings

MAX_PIPELINES = 5000
MAX_CHANGES = 50
"""How many state changes of a pipeline are kept."""

MAX_GONE = 2000
_MAX_DETAILS = 500
_MAX_WORD = 100


@dataclass(slots=True)
class Row:
    """One pipeline.

    :param facts: the pipeline's facts.
    :param job: its job; None if none is known.
    :param failure: why it failed, without secrets.
    :param described_job: its job when it was last described; another job may belong to another pipeline with the same
        id.
    :param due_at: when Arroyo may be asked again for its job, on 0.15, or its description, by the monotonic clock.
    :param old_since: since when all responses have been about an earlier run or job, seconds since the epoch;
        otherwise None.
    :param restarts: how many of its restarts were seen.
    :param since: when it entered its state, seconds since the epoch; None if unknown.
    :param changes: state changes that were seen: time, state, run.
    :param readings: what was read about it for its viewers; None if nothing was, or long ago.
    :param details: the part of the readings that the list shows.
    :param version: the version of its last change.
    :param details_version: the version of the last change of its details.
    """

    facts: Facts
    job: Job | None = None
    failure: dict[str, Any] | None = None
    described_job: str | None = None
    due_at: float = float("-inf")
    old_since: float | None = None
    restarts: int = 0
    since: float | None = None
    changes: deque[tuple[float, str, int]] = field(default_factory=lambda: deque(maxlen=MAX_CHANGES))
    readings: Readings | None = None
    details: dict[str, Any] | None = None
    version: int = 0
    details_version: int = 0

    @property
    def pipeline_id(self) -> str:
        """The pipeline's id."""
        return self.facts.pipeline_id

    @property
    def is_described(self) -> bool:
        """Whether its facts belong to the same pipeline as its job."""
        return self.job is None or self.job.id == self.described_job

    def readings_of(self, job: Job) -> Readings:
        """Return the readings of one of its jobs; empty if it is a new job."""
        if self.readings is None or self.readings.job_id != job.id:
            self.readings = Readings(job_id=job.id)
        return self.readings

    def to_json(self) -> dict[str, Any]:
        """Return what the list shows of it, without its details."""
        facts, job = self.facts, self.job
        return {
            "id": facts.pipeline_id,
            "name": facts.name,
            "created": facts.created,
            "owner": facts.owner,
            "parallelism": facts.parallelism,
            "interval": facts.interval_seconds,
            "job": job.id if job else None,
            "state": job.state if job else None,
            "wanted": job.running_desired if job else True,
            "run": job.run_id if job else 0,
            "restarts": self.restarts,
            "since": self.since,
            "failure": self.failure,
        }


class Snapshot:
    """The pipelines of one Arroyo, as last seen.

    :param began: when watching began, seconds since the epoch.
    """

    def __init__(self, *, began: float) -> None:
        self.epoch = secrets.token_hex(8)
        """Another value tells a page that its versions are from another process or another server."""
        self.began = began
        self.rows: dict[str, Row] = {}
        self.totals: dict[str, int] = {}
        self.pipeline_of_job: dict[str, str] = {}
        self.version = 0
        """The version of the last change."""
        self._gone: dict[str, int] = {}
        self._gone_before = 0
        self._has_all_jobs = True
        self._unlisted: set[str | None] = set()
        """The ids of pipelines that have a job but are not known; None if such an id is unknown."""

    def _next(self) -> int:
        self.version += 1
        return self.version

    def take_jobs(self, jobs: Sequence[Job], now: float, *, is_complete: bool = True) -> list[Job]:
        """Process the list of all jobs of the server.

        :param jobs: all jobs that can be read.
        :param now: seconds since the epoch.
        :param is_complete: whether these are all jobs, default True; otherwise, no pipeline counts as deleted.
        :returns: the jobs that belong to no known pipeline.
        """
        self.totals = dict(Counter(job.state for job in jobs))
        unknown = []
        seen: set[str] = set()
        for job in jobs:
            pipeline_id = job.pipeline_id or self.pipeline_of_job.get(job.id)
            row = self.rows.get(pipeline_id) if pipeline_id else None
            if row is None:
                unknown.append(job)
            elif pipeline_id not in seen or row.job is None or row.job.id == job.id:
                self._take_job(row, job, now)
                seen.add(row.pipeline_id)
        self._has_all_jobs, self._unlisted = is_complete, {job.pipeline_id for job in unknown}
        # A pipeline without a job is just being created or, on 0.15, not yet matched to its job.
        gone = [row for row in self.rows.values() if row.job and row.pipeline_id not in seen]
        for row in gone if is_complete else ():
            self.drop(row.pipeline_id)
        return unknown

    def _take_job(self, row: Row, job: Job, now: float) -> None:
        old = row.job
        if old is not None and _is_earlier(job, old):
            # A stale response. If that lasts, the server's database was restored.
            row.old_since = now if row.old_since is None else row.old_since
            if now < row.old_since + OLD_SECONDS:
                return
        row.old_since = None
        if old == job:
            return
        if old is None:
            row.described_job = job.id
            row.since = _since_of(job)
            row.changes.append((row.since if row.since is not None else now, job.state, job.run_id))
        elif (old.state, old.run_id, old.id) != (job.state, job.run_id, job.id):
            if job.id != old.id:
                # Before it is described, no text of the server about it can be shown.
                row.facts = replace(row.facts, secrets=None)
            # The first run is no restart.
            if job.id != old.id or job.run_id > old.run_id >= 1:
                row.restarts += 1
            row.since = now
            row.changes.append((now, job.state, job.run_id))
        row.job = job
        row.failure = _shown_failure(row)
        self.pipeline_of_job[job.id] = row.pipeline_id
        row.version = self._next()

    def take_pipelines(self, pipelines: Iterable[Facts]) -> None:
        """Process pipelines as the server describes them.

        :param pipelines: their facts.
        """
        for facts in pipelines:
            row = self.rows.get(facts.pipeline_id)
            if row is not None:
                self.take_facts(row, facts)
            elif len(self.rows) < MAX_PIPELINES:
                self.rows[facts.pipeline_id] = Row(facts, version=self._next())
                self._gone.pop(facts.pipeline_id, None)

    def take_facts(self, row: Row, facts: Facts) -> None:
        """Process a new description of a known pipeline; does nothing if it was deleted meanwhile."""
        if self.rows.get(row.pipeline_id) is not row:
            return
        job, is_other = row.job, row.facts.created != facts.created
        if job is not None:
            row.described_job = job.id
        if row.facts != facts:
            row.facts, row.version = facts, self._next()
            if job is not None and is_other:
                # What was seen of the previous pipeline does not apply to this one.
                row.restarts = 0
                while len(row.changes) > 1:
                    row.changes.popleft()
            row.failure = _shown_failure(row)

    def take_details(self, row: Row, details: dict[str, Any]) -> None:
        """Store the details of a pipeline; the least recently requested ones are dropped."""
        if self.rows.get(row.pipeline_id) is not row or row.details == details:
            return
        row.details = details
        row.details_version = self._next()
        known = [row for row in self.rows.values() if row.details is not None]
        if len(known) > _MAX_DETAILS:
            oldest = min(known, key=lambda row: row.details_version)
            oldest.details = oldest.readings = None

    def redactor(self) -> Callable[[str], str]:
        """Return a function that removes the secrets of every pipeline from a server's text; run it in a thread."""
        known = [row.facts.secrets for row in self.rows.values() if row.facts.secrets]
        return lambda text: redact_values(text, frozenset().union(*known))

    def is_gone(self, pipeline_id: str) -> bool:
        """Return whether a pipeline was deleted. One that is not known may also be one of too many, or unreadable."""
        if pipeline_id in self.rows or pipeline_id in self._gone:
            return pipeline_id not in self.rows
        return self._has_all_jobs and self._unlisted.isdisjoint((pipeline_id, None))

    def drop(self, pipeline_id: str) -> None:
        """Forget a pipeline that was deleted."""
        row = self.rows.pop(pipeline_id, None)
        if row is None:
            return
        if row.job:
            self.pipeline_of_job.pop(row.job.id, None)
        self._gone[pipeline_id] = self._next()
        while len(self._gone) > MAX_GONE:
            first = next(iter(self._gone))
            self._gone_before = self._gone.pop(first)

    def changes_since(
        self, epoch: str, version: int, *, shown: Iterable[str] = (), new: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return what a page lacks.

        :param epoch: of the versions that the page knows; empty for a new page.
        :param version: the last version that it has seen.
        :param shown: the pipelines that it shows; it gets their details if they have changed.
        :param new: those of them whose details it has never had; it gets them in any case.
        """
        is_complete = epoch != self.epoch or version < self._gone_before
        known = 0 if is_complete else version
        rows = [row.to_json() for row in self.rows.values() if row.version > known]
        gone = [] if is_complete else [name for name, at in self._gone.items() if at > known]
        details = {}
        for names, least in ((shown, known), (new, 0)):
            for name in names:
                row = self.rows.get(name)
                if row is not None and row.details is not None and row.details_version > least:
                    details[name] = row.details
        return {
            "epoch": self.epoch,
            "version": self.version,
            "complete": is_complete,
            "rows": rows,
            "gone": gone,
            "details": details,
            "totals": self.totals,
            "limit": MAX_PIPELINES if len(self.rows) >= MAX_PIPELINES else None,
            "began": self.began,
        }


def _shown_failure(row: Row) -> dict[str, Any] | None:
    failure = row.job and row.job.failure
    if not failure:
        return None
    return {"text": row.facts.shown(failure.error), "domain": failure.domain and failure.domain[:_MAX_WORD]}


def _is_earlier(job: Job, seen: Job) -> bool:
    """Return whether a job is in an earlier run than it was seen in, or is an earlier job than the one seen."""
    if job.id == seen.id:
        return job.run_id < seen.run_id
    return 0 < job.created_at_micros < seen.created_at_micros


def _since_of(job: Job) -> float | None:
    """Return since when a job has been in its state, if its first response tells."""
    if job.is_terminal:
        return seconds(job.finish_time_micros) if job.finish_time_micros else None
    # A restart does not renew the start time.
    if job.run_id <= 1 and job.state == "Running" and job.start_time_micros:
        return seconds(job.start_time_micros)
    return seconds(job.created_at_micros) if job.run_id == 0 and job.created_at_micros else None
