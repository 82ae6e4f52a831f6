"""Submitting once: however often it is tried, and wherever a try was cut off, one pipeline comes of it.

A POST whose answer is lost may have made the pipeline; a worker can die before it wrote down the id. So the
pipeline itself carries whose it is (``identity.py``), and every try begins by looking for its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.details import SqlDiagnostic
from airflow_provider_arroyo.arroyo.diagnosis import refused
from airflow_provider_arroyo.arroyo.identity import DamagedMarkError, Mark, check_user_tags
from airflow_provider_arroyo.arroyo.listing import Caller, iter_pipelines, newest_job
from airflow_provider_arroyo.arroyo.models import TERMINAL_STATES, Job, JobState, Pipeline, StopMode
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnsupportedError,
    shorten,
)

_POLL_SECONDS = 0.25
_SETTLE_SECONDS = 2.0
"""How long a call whose answer was lost may still be at work on the server before it is looked for in vain."""
_REST_SECONDS = 60.0
"""How long a pipeline that is to be replaced or restarted may take to come to rest."""
_ATTEMPTS = 5


class OnExisting(StrEnum):
    """What to do with a pipeline that an earlier try of the same task made."""

    ADOPT = "adopt"
    """Running: take it; stopped: resume it; failed: restart it; finished: take it as it is."""
    REPLACE = "replace"
    """Stop and delete it, then make it anew. Its state is lost."""
    FAIL = "fail"
    """Raise an error that names it."""


class How(StrEnum):
    """How a submit came to its pipeline."""

    CREATED = "created"
    ADOPTED = "adopted"
    RESUMED = "resumed"
    RESTARTED = "restarted"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The pipeline that a submit came to.

    :param before: its job as it was before something was asked of it; None for one that was made, or taken
        as it ran.
    """

    pipeline: Pipeline
    how: How
    before: Job | None = None


class _LostAnswerError(Exception):
    """A create may have taken effect."""


class Submission:
    """One submit, to be run by any try of its task.

    :param caller: makes the calls.
    :param spec: what the pipeline should be.
    :param mark: whose it is; its key tells it from every other.
    :param pipeline_id: its id on servers that let the caller choose it.
    :param on_existing: what to do with one that an earlier try made, default adopt.
    :param log: gets a line for whatever is done.
    :param sleep, monotonic: how to wait and to measure, in seconds.
    :raises ValueError: when the user's tags collide with ours.
    """

    def __init__(
        self,
        caller: Caller,
        spec: PipelineSpec,
        mark: Mark,
        *,
        pipeline_id: str,
        pipeline_id_is_users: bool = False,
        on_existing: OnExisting = OnExisting.ADOPT,
        log: Any = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        check_user_tags(spec.tags)
        self._caller = caller
        self._spec = spec
        self._mark = mark
        self._pipeline_id = pipeline_id
        self._id_is_users = pipeline_id_is_users
        self._on_existing = on_existing
        self._log = log or logging.getLogger(__name__)
        self._sleep = sleep
        self._monotonic = monotonic

    def run(self) -> Submitted:
        """Find the pipeline or make it, and see that it is asked to run.

        :raises ArroyoOwnershipError: when the id is another's, or ``on_existing`` forbids to go on.
        :raises ArroyoUnsupportedError: when the server is too old for what is asked.
        :raises ArroyoQueryError: when Arroyo refuses the SQL.
        """
        try:
            found = self._put()
            if found is None:
                self._check_old_server()
                found = self._find_marked() or self._post()
            return found if isinstance(found, Submitted) else self._take(found)
        except ArroyoQueryError as err:
            raise refused(err, self._spec.query, self._diagnose()) from err

    def _diagnose(self) -> tuple[SqlDiagnostic, ...]:
        """Return what a validation says of the user's SQL alone.

        A create tells fewer places, and on 0.15 they are off by the line that carries our mark.
        """
        try:
            return self._caller.call(api.validate_query(self._spec.query, udfs=self._spec.udfs)).errors
        except ArroyoError:
            return ()

    # -- servers with PUT (0.16 and later) -----------------------------------------------------------------------

    def _put(self) -> Submitted | Pipeline | None:
        """Return what was made, what was there already, or None from a server that has no PUT."""
        spec = replace(self._spec, tags={**self._spec.tags, **self._mark.to_tags()})
        for _ in range(_ATTEMPTS):
            try:
                made = self._caller.call(api.put_pipeline(self._pipeline_id, spec))
            except ArroyoConflictError:
                existing = self._get_settled()
                if existing is not None:
                    return self._ours(existing)
                self._log.warning(
                    "Pipeline id %s is held by a half-made record, which is deleted and made anew",
                    self._pipeline_id,
                )
                self._delete(self._pipeline_id)
            except ArroyoApiError as err:
                if err.status == 405:
                    return None
                raise
            else:
                return Submitted(pipeline=made, how=How.CREATED)
        raise ArroyoError(
            f"Arroyo says that pipeline {self._pipeline_id!r} exists, and that there is none, again and again. "
            "Look at its database."
        )

    def _get_settled(self) -> Pipeline | None:
        """Return the pipeline that holds the id; None once it is sure that only half of one does."""
        until = self._monotonic() + _SETTLE_SECONDS
        while True:
            try:
                return self._caller.call(api.get_pipeline(self._pipeline_id))
            except ArroyoNotFoundError:
                # Creating is not one transaction: another try may be in the middle of it.
                if self._monotonic() >= until:
                    return None
            self._sleep(_POLL_SECONDS)

    def _ours(self, pipeline: Pipeline) -> Submitted | Pipeline:
        """Return the pipeline if it is ours to take."""
        where = f"Pipeline id {pipeline.id!r} is taken by pipeline {shorten(pipeline.name, 80)!r}"
        try:
            mark = Mark.of(pipeline)
        except DamagedMarkError as err:
            raise ArroyoOwnershipError(f"{where}, and {err}. Nothing was changed.") from err
        if mark is None:
            raise ArroyoOwnershipError(
                f"{where}, which does not carry the mark of this package; this is {self._mark.owner}. "
                "Choose another pipeline_id, or delete that pipeline."
            )
        if mark.key != self._mark.key:
            same = mark.owner == self._mark.owner
            whose = "this very task, for another name, SQL or UDFs" if same else str(mark.owner)
            raise ArroyoOwnershipError(
                f"{where}, which belongs to {whose}; this is {self._mark.owner}. Nothing was changed. "
                "Choose another pipeline_id, or delete that pipeline.",
                owner=str(mark.owner),
            )
        if mark.try_number == self._mark.try_number:
            # The answer to our own call was lost, and the client asked again.
            return Submitted(pipeline=pipeline, how=How.CREATED)
        return pipeline

    # -- servers without PUT (0.15) ------------------------------------------------------------------------------

    def _check_old_server(self) -> None:
        lacking = [name for name in ("env_vars", "scheduler_config") if getattr(self._spec, name)]
        if self._id_is_users:
            lacking.append("pipeline_id")
        if lacking:
            raise ArroyoUnsupportedError(
                f"This Arroyo is older than 0.16 and would ignore {', '.join(lacking)}. "
                "Leave it out, or use a newer server."
            )

    def _marked(self) -> Iterator[Pipeline]:
        """Yield the pipelines with our key, newest first."""
        for pipeline in iter_pipelines(self._caller):
            try:
                mark = Mark.of(pipeline)
            except DamagedMarkError as err:
                self._log.warning("Pipeline %s is passed over: %s", pipeline.id, err)
                continue
            if mark is not None and mark.key == self._mark.key:
                yield pipeline

    def _find_marked(self) -> Pipeline | None:
        return next(self._marked(), None)

    def _post(self) -> Submitted:
        if self._spec.tags:
            self._log.warning("This Arroyo keeps no tags; they are written into the SQL's first line")
        spec = replace(self._spec, query=self._mark.to_comment(self._spec.tags) + self._spec.query, tags={})
        lost = False
        for _ in range(_ATTEMPTS):
            try:
                made = self._create(spec)
            except _LostAnswerError as err:
                self._log.warning(
                    "The answer to the create was lost (%s); looking whether it took effect", err
                )
                lost = True
                if (found := self._find_settled()) is not None:
                    made = found
                    break
            else:
                break
        else:
            raise ArroyoError(
                f"Arroyo did not answer {_ATTEMPTS} requests to create pipeline {self._spec.name!r}, "
                "and it was not found afterwards."
            )
        return Submitted(pipeline=self._only_one(made) if lost else made, how=How.CREATED)

    def _create(self, spec: PipelineSpec) -> Pipeline:
        try:
            return self._caller.call(api.create_pipeline(spec))
        except ArroyoConnectionError as err:
            if not err.was_sent or not err.is_transient:
                raise
            raise _LostAnswerError(str(err)) from err
        except ArroyoApiError as err:
            if err.status not in (500, 502, 503, 504):
                raise
            raise _LostAnswerError(str(err)) from err

    def _find_settled(self) -> Pipeline | None:
        until = self._monotonic() + _SETTLE_SECONDS
        while True:
            if (found := self._find_marked()) is not None:
                return found
            if self._monotonic() >= until:
                return None
            self._sleep(_POLL_SECONDS)

    def _only_one(self, made: Pipeline) -> Pipeline:
        """Return the oldest pipeline with our key, and remove later ones: a lost create came in late."""
        *later, oldest = list(self._marked()) or [made]
        for extra in later:
            self._log.warning(
                "Pipeline %s was made twice; %s is kept, %s removed", oldest.name, oldest.id, extra.id
            )
            self._remove(extra.id)
        return oldest

    # -- one that is there already ---------------------------------------------------------------------------------

    def _job(self, pipeline_id: str) -> Job | None:
        return newest_job(self._caller.call(api.pipeline_jobs(pipeline_id)))

    def _take(self, pipeline: Pipeline) -> Submitted:
        job = self._job(pipeline.id)
        state = job.state if job else "without a job"
        if self._on_existing is OnExisting.FAIL:
            raise ArroyoOwnershipError(
                f"Pipeline {shorten(pipeline.name, 80)!r} ({pipeline.id}) was made by an earlier try of this task "
                f"and is {state}; on_existing='fail' forbids to go on with it. It was not touched.",
                owner=str(self._mark.owner),
            )
        if self._on_existing is OnExisting.REPLACE:
            return self._replace(pipeline)
        how, before = self._adopt(pipeline, job)
        self._log.info(
            "Pipeline %s (%s) of an earlier try is %s: %s",
            shorten(pipeline.name, 80),
            pipeline.id,
            state,
            how,
        )
        return Submitted(pipeline=pipeline, how=how, before=before)

    def _adopt(self, pipeline: Pipeline, job: Job | None) -> tuple[How, Job | None]:
        if job is not None and job.state == JobState.FAILING:
            job = self._at_rest(pipeline.id)
        if job is None or job.state == JobState.FINISHED:
            return How.ADOPTED, None
        if job.state == JobState.FAILED:
            self._restart(pipeline.id, job)
            return How.RESTARTED, job
        if not job.running_desired:
            self._caller.call(api.patch_pipeline(pipeline.id, stop=StopMode.NONE))
            return How.RESUMED, job
        return How.ADOPTED, job if job.state == JobState.STOPPED else None

    def _restart(self, pipeline_id: str, before: Job) -> None:
        """Ask a failed pipeline to restart; a lost answer is settled by looking at its run."""
        for attempt in range(_ATTEMPTS):
            try:
                self._caller.call(api.restart_pipeline(pipeline_id))
            except ArroyoError as err:
                if not err.is_transient or attempt == _ATTEMPTS - 1:
                    raise
                self._sleep(_POLL_SECONDS)
                job = self._job(pipeline_id)
                if job is not None and (job.id, job.run_id, job.state) != (
                    before.id,
                    before.run_id,
                    before.state,
                ):
                    return
            else:
                return

    def _replace(self, pipeline: Pipeline) -> Submitted:
        self._log.warning(
            "Pipeline %s (%s) of an earlier try is replaced; its state is lost",
            shorten(pipeline.name, 80),
            pipeline.id,
        )
        self._remove(pipeline.id)
        made: Submitted | Pipeline = self._put() or self._post()
        if isinstance(made, Submitted):
            return replace(made, how=How.REPLACED)
        raise ArroyoError(f"Pipeline {pipeline.id!r} was deleted and is there again: another try is at work.")

    def _remove(self, pipeline_id: str) -> None:
        job = self._job(pipeline_id)
        if job is not None and job.state not in TERMINAL_STATES:
            self._caller.call(api.patch_pipeline(pipeline_id, stop=StopMode.IMMEDIATE))
            self._at_rest(pipeline_id)
        self._delete(pipeline_id)

    def _delete(self, pipeline_id: str) -> None:
        try:
            self._caller.call(api.delete_pipeline(pipeline_id))
        except ArroyoNotFoundError:
            return

    def _at_rest(self, pipeline_id: str) -> Job | None:
        until = self._monotonic() + _REST_SECONDS
        while True:
            job = self._job(pipeline_id)
            if job is None or job.state in TERMINAL_STATES:
                return job
            if self._monotonic() >= until:
                raise ArroyoError(
                    f"Pipeline {pipeline_id!r} has not come to rest in {_REST_SECONDS:.0f} s; it is {job.state}. "
                    "Look at Arroyo's controller."
                )
            self._sleep(_POLL_SECONDS)
