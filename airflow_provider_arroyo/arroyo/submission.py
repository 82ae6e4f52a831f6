"""Submitting once: however often it is tried, and wherever a try was cut off, one pipeline comes of it.

A POST whose answer is lost may have made the pipeline; a worker can die before it wrote down the id. So the
pipeline itself carries whose it is (``identity.py``), and every try begins by looking for its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.details import SqlDiagnostic
from airflow_provider_arroyo.arroyo.diagnosis import moved_up, refused
from airflow_provider_arroyo.arroyo.existing import SETTLE_SECONDS, Existing, How
from airflow_provider_arroyo.arroyo.identity import DamagedMarkError, Mark, check_user_tags, without_comment
from airflow_provider_arroyo.arroyo.listing import Caller, iter_pipelines
from airflow_provider_arroyo.arroyo.models import Job
from airflow_provider_arroyo.arroyo.pipeline import Pipeline
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

_SKEW_MICROS = 60_000_000
"""By how much a pipeline may be dated earlier than one that was there before it."""
_ATTEMPTS = 5


class OnExisting(StrEnum):
    """What to do with a pipeline that an earlier try of the same task made."""

    ADOPT = "adopt"
    """Running: take it; stopped: resume it; failed: restart it; finished: take it as it is."""
    REPLACE = "replace"
    """Stop and delete it, then make it anew. Its state is lost."""
    FAIL = "fail"
    """Raise an error that names it."""


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

    def __init__(self, error: ArroyoError, *, may_be_repeated: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_be_repeated = may_be_repeated


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
        self._mark = mark.for_new_call()
        self._calls = {self._mark.call}
        self._warned: set[str] = set()
        self._lines_above = 0
        self._pipeline_id = pipeline_id
        self._id_is_users = pipeline_id_is_users
        self._on_existing = on_existing
        self._log = log or logging.getLogger(__name__)
        self._sleep = sleep
        self._existing = Existing(caller, sleep=sleep, monotonic=monotonic)

    def run(self) -> Submitted:
        """Find the pipeline or make it, and see that it is asked to run.

        :raises ArroyoOwnershipError: when the id is another's, when a mark that may be ours cannot be read, or
            when ``on_existing`` forbids to go on.
        :raises ArroyoUnsupportedError: when the server is too old for what is asked.
        :raises ArroyoQueryError: when Arroyo refuses the SQL.
        """
        try:
            found: Submitted | Pipeline | None = None
            # On any server: an earlier try may have made it before the server learned PUT.
            looked = self._mark.try_number > 1
            if looked:
                found = self._find_marked()
            if found is None:
                found = self._put()
            if found is None:
                self._check_old_server()
                # What the try before asked for may still be on its way, and no later look is taken.
                within = SETTLE_SECONDS if looked else 0.0
                found = self._existing.until(self._find_marked, within) or self._post()
            return found if isinstance(found, Submitted) else self._take(found)
        except ArroyoQueryError as err:
            raise refused(err, self._spec.query, self._diagnose(err)) from err

    def _diagnose(self, error: ArroyoQueryError) -> tuple[SqlDiagnostic, ...]:
        """Return what a validation says of the user's SQL alone.

        A create tells fewer places, and on 0.15 they are off by the line that carries our mark.
        """
        found: tuple[SqlDiagnostic, ...] = ()
        # The refusal is known; that its places are not is no reason to fail otherwise.
        with suppress(ArroyoError):
            found = self._caller.call(api.validate_query(self._spec.query, udfs=self._spec.udfs)).errors
        return found or tuple(moved_up(one, self._lines_above) for one in error.diagnostics)

    # -- servers with PUT (0.16 and later) -------------------------------------------------------------------

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
                self._repair()
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

        def look() -> Pipeline | None:
            try:
                return self._caller.call(api.get_pipeline(self._pipeline_id))
            except ArroyoNotFoundError:
                # Creating is not one transaction: another try may be in the middle of it.
                return None

        return self._existing.until(look, SETTLE_SECONDS)

    def _repair(self) -> None:
        self._log.warning(
            "Pipeline id %s is held by a half-made record, which is deleted and made anew", self._pipeline_id
        )
        try:
            self._existing.delete(self._pipeline_id)
        except ArroyoApiError as err:
            if err.status not in (400, 409):
                raise
            # It was completed by another try in this moment, and runs.
            self._log.info("Pipeline %s is complete now: %s", self._pipeline_id, err)

    def _ours(self, pipeline: Pipeline) -> Submitted | Pipeline:
        """Return the pipeline if it is ours to take."""
        where = f"Pipeline id {pipeline.id!r} is taken by pipeline {shorten(pipeline.name, 80)!r}"
        try:
            mark = Mark.of(pipeline)
        except DamagedMarkError as err:
            raise ArroyoOwnershipError(
                f"{where}, and {err}; this is {self._mark.owner}. Nothing was changed. "
                "Use the version of this package that made it, or delete that pipeline.",
                owner=str(err.owner) if err.owner else None,
            ) from err
        if mark is None:
            raise ArroyoOwnershipError(
                f"{where}, which does not carry the mark of this package; this is {self._mark.owner}. "
                "Nothing was changed. Choose another pipeline_id, or delete that pipeline."
            )
        if mark.key == self._mark.key:
            if mark.call in self._calls:
                # The answer to our own call was lost, and the client asked again.
                return Submitted(pipeline=pipeline, how=How.CREATED)
            return pipeline
        if mark.owner != self._mark.owner:
            whose, advice = str(mark.owner), "Choose another pipeline_id, or delete that pipeline."
        elif self._on_existing is OnExisting.REPLACE:
            return pipeline
        else:
            whose = "this very task, for another name, SQL or UDFs"
            advice = "Use on_existing='replace', choose another pipeline_id, or delete that pipeline."
        raise ArroyoOwnershipError(
            f"{where}, which belongs to {whose}; this is {self._mark.owner}. Nothing was changed. {advice}",
            owner=str(mark.owner),
        )

    # -- servers without PUT (0.15) --------------------------------------------------------------------------

    def _check_old_server(self) -> None:
        lacking = [name for name in ("env_vars", "scheduler_config") if getattr(self._spec, name)]
        if self._id_is_users:
            lacking.append("pipeline_id")
        if lacking:
            raise ArroyoUnsupportedError(
                f"This Arroyo is older than 0.16 and would ignore {', '.join(lacking)}. "
                "Leave it out, or use a newer server."
            )

    def _marked(self, made: Pipeline | None = None) -> list[tuple[Pipeline, Mark]]:
        """Return the pipelines that carry our key in their SQL, oldest first.

        :param made: look no further back than this one; None looks at all.
        :raises ArroyoOwnershipError: where a mark that may be ours cannot be read.
        """
        found: list[tuple[Pipeline, Mark]] = []
        for pipeline in iter_pipelines(self._caller):
            if made is not None and pipeline.created_at_micros < made.created_at_micros - _SKEW_MICROS:
                break
            if (mark := self._read_mark(pipeline)) is not None:
                found.append((pipeline, mark))
        # A server on SQLite lists those of one second in the order in which they were made.
        return sorted(found, key=lambda item: item[0].created_at_micros)

    def _read_mark(self, pipeline: Pipeline) -> Mark | None:
        same_text = pipeline.name == self._spec.name and without_comment(pipeline.query) == self._spec.query
        try:
            mark = Mark.in_comment(pipeline.query)
        except DamagedMarkError as err:
            first_line = pipeline.query.partition("\n")[0]
            others = err.owner is not None and err.owner != self._mark.owner
            if self._mark.key in first_line or (same_text and not others):
                raise ArroyoOwnershipError(
                    f"Pipeline {shorten(pipeline.name, 80)!r} ({pipeline.id}) may be that of "
                    f"{self._mark.owner}, but {err}. Nothing was changed, and nothing made beside it. "
                    "Use the version of this package that made it, or delete that pipeline.",
                    owner=str(err.owner) if err.owner else None,
                ) from err
            self._warn_once(pipeline.id, "Pipeline %s is passed over: %s", pipeline.id, err)
            return None
        if mark is None or mark.key != self._mark.key:
            return None
        if not same_text:
            self._warn_once(
                pipeline.id,
                "Pipeline %s carries the mark of this task, but another name or SQL: a copy, passed over",
                pipeline.id,
            )
            return None
        return mark

    def _warn_once(self, pipeline_id: str, message: str, *args: object) -> None:
        if pipeline_id not in self._warned:
            self._warned.add(pipeline_id)
            self._log.warning(message, *args)

    def _find_marked(self) -> Pipeline | None:
        """Return what an earlier try made; if several are there, the one that is kept."""
        found = self._marked()
        return self._keep_oldest(found)[0] if found else None

    def _post(self) -> Submitted:
        if self._spec.tags:
            self._log.info("This Arroyo keeps no tags; they are written into the SQL's first line")
        made = self._create()
        if made is None:
            # A create that was lost on its way may still come in.
            self._sleep(SETTLE_SECONDS)
        # Another try may have made one in the same moment.
        found = self._marked(made)
        if not found:
            raise ArroyoError(f"Pipeline {self._spec.name!r} was made, and deleted by somebody at once.")
        kept, mark = self._keep_oldest(found)
        return Submitted(pipeline=kept, how=How.CREATED if mark.call in self._calls else How.ADOPTED)

    def _create(self) -> Pipeline | None:
        """Create the pipeline, and return it; None if an answer was lost on the way to it."""
        lost = False
        for _ in range(_ATTEMPTS):
            try:
                made = self._create_once()
            except _LostAnswerError as err:
                self._log.warning(
                    "The answer to the create was lost (%s); looking whether it took effect", err
                )
                lost = True
                if self._existing.until(self._marked, SETTLE_SECONDS):
                    return None
                if not err.may_be_repeated:
                    raise err.error from err
            else:
                return None if lost else made
        raise ArroyoError(
            f"Arroyo did not answer {_ATTEMPTS} requests to create pipeline {self._spec.name!r}, "
            "and it was not found afterwards. Look at the server, and at proxies before it."
        )

    def _create_once(self) -> Pipeline:
        mark = self._mark.for_new_call()
        self._calls.add(mark.call)
        comment = mark.to_comment(self._spec.tags)
        self._lines_above = comment.count("\n")
        spec = replace(self._spec, query=comment + self._spec.query, tags={})
        try:
            return self._caller.call(api.create_pipeline(spec))
        except ArroyoConnectionError as err:
            if not err.was_sent or not err.is_transient:
                raise
            raise _LostAnswerError(err, may_be_repeated=True) from err
        except ArroyoApiError as err:
            if err.status not in (500, 502, 503, 504):
                raise
            # 500 is the server's own last word, so it is not asked again; but it may have come too late.
            raise _LostAnswerError(err, may_be_repeated=err.status != 500) from err

    def _keep_oldest(self, found: Sequence[tuple[Pipeline, Mark]]) -> tuple[Pipeline, Mark]:
        """Return the oldest of the pipelines with our key, and remove those that were made besides."""
        (oldest, mark), *later = found
        calls = {mark.call}
        for extra, extra_mark in later:
            if extra_mark.call in calls:
                # No two calls of ours are alike.
                self._warn_once(
                    extra.id,
                    "Pipeline %s is a copy that somebody made of %s; it is left alone",
                    extra.id,
                    oldest.id,
                )
                continue
            calls.add(extra_mark.call)
            self._log.warning(
                "Pipeline %s was made twice; %s is kept, %s removed",
                shorten(oldest.name, 80),
                oldest.id,
                extra.id,
            )
            self._existing.remove(extra.id)
        return oldest, mark

    # -- one that is there already ---------------------------------------------------------------------------

    def _take(self, pipeline: Pipeline) -> Submitted:
        job = self._existing.job(pipeline.id)
        state = job.state if job else "without a job"
        if self._on_existing is OnExisting.FAIL:
            raise ArroyoOwnershipError(
                f"Pipeline {shorten(pipeline.name, 80)!r} ({pipeline.id}) was made by an earlier try of this task "
                f"and is {state}; on_existing='fail' forbids to go on with it. It was not touched.",
                owner=str(self._mark.owner),
            )
        if self._on_existing is OnExisting.REPLACE:
            return self._replace(pipeline)
        how, before = self._existing.adopt(pipeline.id, job)
        self._log.info(
            "Pipeline %s (%s) of an earlier try is %s: %s",
            shorten(pipeline.name, 80),
            pipeline.id,
            state,
            how,
        )
        return Submitted(pipeline=pipeline, how=how, before=before)

    def _replace(self, pipeline: Pipeline) -> Submitted:
        self._log.warning(
            "Pipeline %s (%s) of an earlier try is replaced; its state is lost",
            shorten(pipeline.name, 80),
            pipeline.id,
        )
        self._existing.remove(pipeline.id)
        made: Submitted | Pipeline = self._put() or self._post()
        if isinstance(made, Submitted):
            return replace(made, how=How.REPLACED)
        raise ArroyoError(f"Pipeline {pipeline.id!r} was deleted and is there again: another try is at work.")
