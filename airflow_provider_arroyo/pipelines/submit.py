"""Submitting once: however often it is tried, and wherever a try was cut off, it results in one pipeline.

A POST whose response is lost may have created the pipeline; a worker can die before it stores the id. So the pipeline
itself carries whose it is (``ownership.py``), and every try begins by looking for its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import QueryValidation
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.retry import may_have_taken_effect
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnsupportedError,
    Disposition,
)
from airflow_provider_arroyo.pipelines.compare import Difference, compare
from airflow_provider_arroyo.pipelines.existing import SETTLE_SECONDS, Action, Existing, is_down
from airflow_provider_arroyo.pipelines.ownership import (
    OwnershipLabel,
    UnreadableLabelError,
    check_user_tags,
)
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.sql_errors import moved_up, refused
from airflow_provider_arroyo.text import shorten

_SKEW_MICROS = 60_000_000
"""By how much a pipeline may be dated earlier than one that was created before it."""
_TRIES = 5
_USE_ITS_VERSION = "Use the version of this package that created it, or delete that pipeline."


class OnExisting(StrEnum):
    """What to do with a pipeline that an earlier try of the same task created."""

    ADOPT = "adopt"
    """Running: use it; stopped: resume it; failed: restart it; finished: use it as it is."""
    REPLACE = "replace"
    """Stop and delete it, then create it anew. Its state is lost."""
    FAIL = "fail"
    """Raise an error that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The pipeline that a submit resulted in.

    :param action: what was done to get it.
    :param before: its job before it was resumed or restarted; None for one that was created, or used as it ran.
    """

    pipeline: Pipeline
    action: Action
    before: Job | None = None


class _LostResponseError(Exception):
    """A create may have taken effect."""

    def __init__(self, error: ArroyoError, *, may_be_repeated: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_be_repeated = may_be_repeated


class Submission:
    """One submit, to be run by any try of its task.

    :param client: sends the requests.
    :param spec: what the pipeline should be.
    :param label: whose it is.
    :param pipeline_id: its id on servers that let the caller choose it.
    :param is_users_id: whether the user chose that id, so that it must not be ignored.
    :param on_existing: what to do with one that an earlier try created, default adopt.
    :param log: gets a line for whatever is done.
    :param sleep, monotonic: how to wait and to measure, in seconds.
    :raises ValueError: when the user's tags collide with ours.
    """

    def __init__(
        self,
        client: ArroyoClient,
        spec: PipelineSpec,
        label: OwnershipLabel,
        *,
        pipeline_id: str,
        is_users_id: bool = False,
        on_existing: OnExisting = OnExisting.ADOPT,
        log: Any = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        check_user_tags(spec.tags)
        self._client = client
        self._spec = spec
        self._label = label.for_new_request()
        self._requests = {self._label.request_id}
        self._warned: set[str] = set()
        self._lines_above = 0
        self._pipeline_id = pipeline_id
        self._is_users_id = is_users_id
        self._on_existing = on_existing
        self._log = log or logging.getLogger(__name__)
        self._sleep = sleep
        self._existing = Existing(client, sleep=sleep, monotonic=monotonic)

    def run(self) -> Submitted:
        """Find the pipeline or create it, and make sure that it is asked to run.

        :raises ArroyoOwnershipError: when the id is another owner's, when a label that may be ours cannot be read,
            or when ``on_existing`` forbids to continue.
        :raises ArroyoUnsupportedError: when the server is too old for what is wanted.
        :raises ArroyoQueryError: when Arroyo refuses the SQL.
        """
        try:
            found: Submitted | Pipeline | None = None
            # On any server: an earlier try may have created it before the server was upgraded to one with PUT.
            is_retry = self._label.try_number > 1
            if is_retry:
                found = self._find_labelled()
            if found is None:
                found = self._put()
            if found is None:
                self._check_old_server()
                # The create of the previous try may still be on its way, and nobody looks for it later.
                seconds = SETTLE_SECONDS if is_retry else 0.0
                found = self._existing.retry_until(self._find_labelled, seconds) or self._post()
            return found if isinstance(found, Submitted) else self._take(found)
        except ArroyoQueryError as err:
            raise self._refusal(err) from err

    def create(self) -> Submitted:
        """Create the pipeline, and look for no other one first.

        :returns: what was created; where another task or try came first, its pipeline as adopted, and not touched.
        :raises ArroyoError: as :meth:`run` does.
        """
        try:
            made = self._put()
            if made is None:
                self._check_old_server()
                made = self._post()
            return made if isinstance(made, Submitted) else Submitted(pipeline=made, action=Action.ADOPTED)
        except ArroyoQueryError as err:
            raise self._refusal(err) from err

    def _refusal(self, error: ArroyoQueryError) -> ArroyoError:
        """Return the error for a refused create, with what a validation says about the user's SQL alone.

        A create gives fewer places, and on 0.15 they are off by the line of our label.
        """
        client = self._client.with_limits(max_elapsed_seconds=10.0)
        try:
            validation = client.validate_query(self._spec.query, udfs=self._spec.udfs)
        except ArroyoError:
            # The refusal is known; missing places are no reason to fail otherwise.
            validation = QueryValidation(graph=None, errors=error.diagnostics)
        if validation.is_valid:
            return ArroyoApiError(
                f"Pipeline {shorten(self._spec.name, 80)!r} was not created, though Arroyo accepts its SQL. "
                f"{error.method} {error.path} got: {shorten(error.server_message)}\n"
                "Check Arroyo's log, and any gateway in between.",
                status=error.status,
                server_message=error.server_message,
                method=error.method,
                path=error.path,
            )
        found = validation.errors
        if found is error.diagnostics:
            found = tuple(moved_up(one, self._lines_above) for one in found)
        return refused(error, self._spec.query, found)

    # -- servers with PUT (0.16 and later) -------------------------------------------------------------------

    def _put(self) -> Submitted | Pipeline | None:
        """Return what was created, what existed already, or None from a server that has no PUT."""
        body = self._spec.to_request(tags={**self._spec.tags, **self._label.to_tags()})
        for _ in range(_TRIES):
            try:
                created = self._client.put_pipeline(self._pipeline_id, **body)
            except ArroyoConflictError:
                existing = self._existing.retry_until(self._get_or_none, SETTLE_SECONDS)
                if existing is not None:
                    return self._ours(existing)
                self._delete_half_created()
            except ArroyoApiError as err:
                if err.status == 405:
                    return None
                raise
            else:
                return Submitted(pipeline=created, action=Action.CREATED)
        raise ArroyoError(
            f"Arroyo says that pipeline id {self._pipeline_id!r} is taken, and that no pipeline has it. "
            "Check Arroyo's database for a damaged record."
        )

    def _get_or_none(self) -> Pipeline | None:
        try:
            return self._client.get_pipeline(self._pipeline_id)
        except ArroyoNotFoundError:
            # Creating is not one transaction: another try may be in the middle of it.
            return None

    def _delete_half_created(self) -> None:
        self._log.warning(
            "Pipeline id %s is taken by a half-created record, which is deleted", self._pipeline_id
        )
        try:
            with suppress(ArroyoNotFoundError):
                self._client.delete_pipeline(self._pipeline_id)
        except ArroyoApiError as err:
            if err.status not in (400, 409):
                raise
            # Another try completed it just now, and it runs.
            self._log.info("Pipeline %s is complete now: %s", self._pipeline_id, err)

    def _ours(self, pipeline: Pipeline) -> Submitted | Pipeline:
        """Return the pipeline if it is ours.

        :raises ArroyoOwnershipError: if it is not.
        """
        advice = "Choose another pipeline_id, or delete that pipeline."
        try:
            label = OwnershipLabel.of(pipeline)
        except UnreadableLabelError as err:
            owner, why = err.owner, f"and {err}"
            advice = _USE_ITS_VERSION
        else:
            if label is None:
                owner, why = None, "which has no ownership label of this package"
            elif not self._is_same(label):
                owner, why = label.owner, f"which belongs to {label.owner}"
            elif label.request_id in self._requests:
                # The response to our own request was lost, and the client repeated it.
                return Submitted(pipeline=pipeline, action=Action.CREATED)
            else:
                return pipeline
        raise ArroyoOwnershipError(
            f"Pipeline id {pipeline.id!r} is taken by pipeline {shorten(pipeline.name, 80)!r}, {why}; "
            f"this is {self._label.owner}. Nothing was changed. {advice}",
            owner=str(owner) if owner else None,
        )

    # -- servers without PUT (0.15) --------------------------------------------------------------------------

    def _check_old_server(self) -> None:
        unsupported = [
            name for name in ("env_vars", "scheduler_config", "state_url") if getattr(self._spec, name)
        ]
        if self._is_users_id:
            unsupported.append("pipeline_id")
        if unsupported:
            raise ArroyoUnsupportedError(
                f"This Arroyo is older than 0.16 and would ignore {', '.join(unsupported)}. "
                "Leave that out, or use a newer server."
            )

    def _labelled(self, created: Pipeline | None = None) -> list[tuple[Pipeline, OwnershipLabel]]:
        """Return the pipelines with our key in their SQL, oldest first.

        :param created: go back no further than this one; None goes through all.
        :raises ArroyoOwnershipError: where a label that may be ours cannot be read.
        """
        found: list[tuple[Pipeline, OwnershipLabel]] = []
        for pipeline in self._client.iter_pipelines():
            if created is not None and pipeline.created_at_micros < created.created_at_micros - _SKEW_MICROS:
                break
            if (label := self._read_label(pipeline)) is not None:
                found.append((pipeline, label))
        # A server on SQLite lists those of one second in the order in which they were created.
        return sorted(found, key=lambda item: item[0].created_at_micros)

    def _read_label(self, pipeline: Pipeline) -> OwnershipLabel | None:
        try:
            label = OwnershipLabel.of(pipeline)
        except UnreadableLabelError as err:
            is_others = err.owner is not None and err.owner != self._label.owner
            has_key = self._label.key in pipeline.query.partition("\n")[0]
            has_key = has_key or self._label.key in pipeline.tags.values()
            if has_key or (not is_others and not compare(self._spec, pipeline).definition):
                raise ArroyoOwnershipError(
                    f"Pipeline {shorten(pipeline.name, 80)!r} ({pipeline.id}) may belong to "
                    f"{self._label.owner}, but {err}. Nothing was changed or created. {_USE_ITS_VERSION}",
                    owner=str(err.owner) if err.owner else None,
                ) from err
            self._warn_once(pipeline.id, "Pipeline %s is ignored: %s", pipeline.id, err)
            return None
        return label if label is not None and self._is_same(label) else None

    def _is_same(self, label: OwnershipLabel) -> bool:
        return (label.key, label.generation) == (self._label.key, self._label.generation)

    def _warn_once(self, pipeline_id: str, message: str, *args: object) -> None:
        if pipeline_id not in self._warned:
            self._warned.add(pipeline_id)
            self._log.warning(message, *args)

    def _find_labelled(self) -> Pipeline | None:
        """Return what an earlier try created; of several, the one that is kept."""
        found = self._labelled()
        return self._keep_oldest(found)[0] if found else None

    def _post(self) -> Submitted:
        if self._spec.tags:
            self._log.info("This Arroyo stores no tags; they are written into the first line of the SQL")
        created = self._create()
        if created is None:
            # A create whose response was lost may still take effect.
            self._sleep(SETTLE_SECONDS)
        # Another try may have created one at the same moment.
        found = self._labelled(created)
        if not found:
            raise ArroyoError(f"Pipeline {self._spec.name!r} was created, and deleted externally at once.")
        kept, label = self._keep_oldest(found)
        action = Action.CREATED if label.request_id in self._requests else Action.ADOPTED
        return Submitted(pipeline=kept, action=action)

    def _create(self) -> Pipeline | None:
        """Create the pipeline and return it; None if a response was lost on the way."""
        is_lost = False
        for _ in range(_TRIES):
            try:
                created = self._create_once()
            except _LostResponseError as err:
                self._log.warning(
                    "The response to the create was lost (%s); checking whether it took effect", err
                )
                is_lost = True
                if self._existing.retry_until(self._labelled, SETTLE_SECONDS):
                    return None
                if not err.may_be_repeated:
                    raise err.error from err
            else:
                return None if is_lost else created
        raise ArroyoError(
            f"Arroyo did not respond to {_TRIES} requests to create pipeline {self._spec.name!r}, "
            "and the pipeline does not exist. Check the server, and any proxy in front of it."
        )

    def _create_once(self) -> Pipeline:
        label = self._label.for_new_request()
        self._requests.add(label.request_id)
        comment = label.to_comment(self._spec.tags)
        self._lines_above = comment.count("\n")
        try:
            return self._client.create_pipeline(
                **self._spec.to_request(query=comment + self._spec.query, tags={})
            )
        except ArroyoError as err:
            if not may_have_taken_effect(err):
                raise
            # A 500 is the server's own refusal, so it is not repeated; but the pipeline may exist.
            may_be_repeated = err.disposition is not Disposition.PERMANENT
            raise _LostResponseError(err, may_be_repeated=may_be_repeated) from err

    def _keep_oldest(
        self, found: Sequence[tuple[Pipeline, OwnershipLabel]]
    ) -> tuple[Pipeline, OwnershipLabel]:
        """Return the oldest of the pipelines with our key, and delete the others that we created."""
        (oldest, label), *later = found
        requests = {label.request_id}
        for extra, extra_label in later:
            if extra_label.request_id in requests:
                # No two requests of ours have the same id.
                self._warn_once(
                    extra.id,
                    "Pipeline %s is a copy of %s made externally; it is left alone",
                    extra.id,
                    oldest.id,
                )
                continue
            requests.add(extra_label.request_id)
            self._log.warning(
                "Pipeline %s was created twice: %s is kept, %s is deleted",
                shorten(oldest.name, 80),
                oldest.id,
                extra.id,
            )
            self._existing.remove(extra.id)
        return oldest, label

    # -- a pipeline that exists already ----------------------------------------------------------------------

    def _take(self, pipeline: Pipeline) -> Submitted:
        job = self._client.get_job(pipeline.id)
        state = job.state if job else "without a job"
        if self._on_existing is OnExisting.FAIL:
            raise ArroyoOwnershipError(
                f"Pipeline {shorten(pipeline.name, 80)!r} ({pipeline.id}) was created by an earlier try of this "
                f"task and is {state}; on_existing='fail' forbids to continue with it. It was not touched.",
                owner=str(self._label.owner),
            )
        if self._on_existing is OnExisting.REPLACE:
            return self._replace(pipeline)
        differences = compare(self._spec, pipeline).definition
        if self._pipeline_id != pipeline.id and self._is_users_id:
            wanted = Difference(argument="pipeline_id", found=pipeline.id, wanted=self._pipeline_id)
            differences = (wanted, *differences)
        if differences:
            return self._replace_if_down(pipeline, job, differences)
        action, before = self._existing.adopt(pipeline.id, job)
        self._log.info("%s, created by an earlier try: %s", state, shorten(pipeline.name, 80))
        return Submitted(pipeline=pipeline, action=action, before=before)

    def _replace_if_down(
        self, pipeline: Pipeline, job: Job | None, differences: Sequence[Difference]
    ) -> Submitted:
        listed = "\n".join(str(one) for one in differences)
        job = self._existing.wait_while_going_down(pipeline.id, job)
        if job is None or is_down(job):
            self._log.warning(
                "Pipeline %s of an earlier try (id %s) is %s and not what is wanted now:\n%s",
                shorten(pipeline.name, 80),
                pipeline.id,
                job.state if job else "without a job",
                listed,
            )
            return self._replace(pipeline)
        raise ArroyoOwnershipError(
            f"Pipeline {shorten(pipeline.name, 80)!r} ({pipeline.id}), which an earlier try of this task created, is "
            f"{job.state}; this try wants another one in its place, {shorten(self._spec.name, 80)!r}. What differs, "
            f"from there to here:\n{listed}\nIt was not touched, and nothing was created. Use "
            "on_existing='replace' to replace it (its state is lost), or stop it and clear this task, or undo the "
            "change. What usually causes this: an edited file, a Variable, or {{ ti.try_number }} in a template.",
            owner=str(self._label.owner),
        )

    def _replace(self, pipeline: Pipeline) -> Submitted:
        self._log.warning(
            "Replacing pipeline %s of an earlier try (id %s); its state is lost",
            shorten(pipeline.name, 80),
            pipeline.id,
        )
        self._existing.remove(pipeline.id)
        created: Submitted | Pipeline = self._put() or self._post()
        if isinstance(created, Submitted):
            return replace(created, action=Action.REPLACED)
        raise ArroyoError(f"Pipeline {pipeline.id!r} was deleted and exists again: another try is running.")
