"""Creates a pipeline exactly once, whatever happens to requests and responses."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Job, Pipeline
from airflow_provider_arroyo.client.retry import may_have_taken_effect
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoQueryError,
    ArroyoUnreachableError,
    ArroyoUnsupportedError,
    Disposition,
)
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.pipelines.existing import SETTLE_SECONDS, Existing
from airflow_provider_arroyo.pipelines.owned import OwnedPipelines, create_seconds, may_belong_to
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.pipelines.sql_errors import check_query, moved_up, refused
from airflow_provider_arroyo.pipelines.tags import TAG_PREFIX
from airflow_provider_arroyo.text import duration, shorten

_TRIES = 5
_CHECK_SECONDS = 10.0
"""How long to check whether a create that failed inside the server took effect, in seconds."""

_KILLED_CREATE_SECONDS = 10.0
"""How long the create of a killed try may still take effect, in seconds: its connection is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The pipeline that a submit resulted in.

    :param pipeline: the pipeline.
    :param action: what was done to get it.
    :param before: its job before a request that begins a new run; None if it was created, or used as it ran.
    :param late_seconds: for how many seconds a duplicate may still appear, on a server that does not refuse it; None
        if none can.
    """

    pipeline: Pipeline
    action: Action
    before: Job | None = None
    late_seconds: float | None = None


def naming(error: ArroyoError, pipeline: Pipeline) -> ArroyoError:
    """Return an error that names the pipeline which exists although its submit failed."""
    if pipeline.id in str(error):
        return error
    # Airflow does not retry a fatal error.
    follow_up = (
        "Clear this task to continue with it."
        if error.is_fatal
        else "The next try of this task continues with it."
    )
    return error.adding(
        f"However, pipeline {shorten(pipeline.name, 80)!r} exists, id {pipeline.id}. {follow_up}"
    )


class PipelineCreator:
    """Creates the pipeline of one submit, or of one generation of a deployment.

    :param client: sends the requests; its log gets a line for each action.
    :param spec: the wanted pipeline.
    :param label: its owner.
    :param users_id: an id that the user chose for it, and that no server may ignore; default None: its label's.
    """

    def __init__(
        self,
        client: ArroyoClient,
        spec: PipelineSpec,
        label: OwnershipLabel,
        *,
        users_id: str | None = None,
    ) -> None:
        self._client = client
        self._spec = spec
        self._label = label.for_new_request()
        self._is_retry = label.try_number > 1
        self.owned = OwnedPipelines(client, label, spec=spec)
        self._existing = Existing(client)
        self._users_id = users_id
        self._pipeline_id = users_id or label.pipeline_id
        self._began = client.clock()
        self.request_ids = {self._label.request_id}
        """The ids of all requests so far, which distinguish this try's pipeline from those of other tries."""
        self._lines_above = 0
        self.created: Pipeline | None = None
        """The pipeline that the last request created, according to its response."""

    def create(self, *, finds_first: bool = False) -> Submitted:
        """Create the pipeline, unless it exists.

        :param finds_first: whether to look for the pipeline of an earlier try on a server that does not refuse a
            second one, default False.
        :returns: the created pipeline; if another task or try came first, its pipeline as adopted, and not touched.
        :raises ArroyoOwnershipError: if the id belongs to another owner, or a label that may be ours cannot be read.
        :raises ArroyoUnsupportedError: if the server is too old for the wanted pipeline.
        :raises ArroyoQueryError: if Arroyo refuses the SQL.
        """
        try:
            return self._create(finds_first)
        except ArroyoQueryError as err:
            raise self._refusal(err) from err.__cause__

    def _create(self, finds_first: bool) -> Submitted:
        if (created := self._put()) is not None:
            return created
        self.check_old_server()
        if finds_first:
            # The create of an earlier try may still be in progress.
            seconds = SETTLE_SECONDS if self._is_retry else 0.0
            if found := self._existing.retry_until(self.owned.find_one, seconds):
                return self._submitted(found, is_new=False)
        return self._post()

    def check_before_delete(self, pipeline_id: str) -> None:
        """Check what would make the create fail, before the pipeline is deleted that it is to replace.

        :param pipeline_id: id of that pipeline.
        :raises ArroyoOwnershipError: if the id of the new one belongs to another owner.
        :raises ArroyoQueryError: if Arroyo refuses the SQL.
        """
        if self._pipeline_id != pipeline_id and (taken := self._get_or_none()) is not None:
            self._label_of(taken)
        check_query(self._client, self._spec.query, self._spec.udfs)

    def check_old_server(self) -> None:
        """Check that no argument is set that Arroyo 0.15 would ignore.

        :raises ArroyoUnsupportedError: if there are such arguments; names them.
        """
        ignored = self._spec.only_on_0_16 + (("pipeline_id",) if self._users_id else ())
        if ignored:
            raise ArroyoUnsupportedError.of(ignored)

    def _submitted(self, pipeline: Pipeline, *, is_new: bool = True) -> Submitted:
        late: float | None = None
        # A server that stores tags has PUT, which creates no duplicates.
        if not any(name.startswith(TAG_PREFIX) for name in pipeline.tags):
            late = 0.0
            if self._is_retry:
                # An earlier try that was killed gave its create up before this one began.
                allowed = min(create_seconds(self._client, self._spec.udfs), _KILLED_CREATE_SECONDS)
                late = max(0.0, self._began + allowed - self._client.clock())
        action = Action.CREATED if is_new else Action.ADOPTED
        return Submitted(pipeline=pipeline, action=action, late_seconds=late)

    def _refusal(self, error: ArroyoQueryError) -> ArroyoError:
        """Return the error for a refused create, with the messages of a validation of the user's SQL alone.

        A create reports fewer positions, and on 0.15 they are shifted by the line of our label.
        """
        if not error.status:
            # It also closes the connection on a validation of this SQL.
            return error
        client = self._client.with_short_limit(_CHECK_SECONDS)
        try:
            found = client.validate_query(self._spec.query, udfs=self._spec.udfs).errors
        except ArroyoError:
            # The refusal is known; missing positions are no reason to fail differently.
            found = tuple(moved_up(one, self._lines_above) for one in error.diagnostics)
        else:
            if not found:
                return ArroyoApiError(
                    f"Pipeline {shorten(self._spec.name, 80)!r} was not created, although Arroyo accepts its SQL. "
                    f"{error.method} {error.path} got: {shorten(error.server_message)}\n"
                    "Check Arroyo's log, and any gateway in between.",
                    status=error.status,
                    server_message=error.server_message,
                    method=error.method,
                    path=error.path,
                )
        return refused(error, self._spec.query, found)

    # -- servers with PUT (0.16 and later) -------------------------------------------------------------------

    def _put(self) -> Submitted | None:
        """Return the created or existing pipeline; None if the server has no PUT."""
        body = self._spec.to_request(tags={**self._spec.tags, **self._label.to_tags()})
        for _ in range(_TRIES):
            try:
                self.created = self._client.put_pipeline(self._pipeline_id, **body)
                return self._submitted(self.created)
            except ArroyoConflictError:
                existing = self._existing.retry_until(self._get_or_none, SETTLE_SECONDS)
                if existing is not None:
                    is_new = self._label_of(existing).request_id in self.request_ids
                    return self._submitted(existing, is_new=is_new)
                self._delete_half_created()
            except ArroyoApiError as err:
                if err.status == 405 and err.disposition is Disposition.PERMANENT:
                    return None
                if not may_have_taken_effect(err) or (created := self._created_after_all()) is None:
                    raise
                self._client.log.warning("Created despite an error: %s", err)
                return self._submitted(created)
        raise ArroyoError(
            f"Arroyo says that pipeline id {self._pipeline_id!r} is taken, but no pipeline has it. "
            "Check Arroyo's database for a damaged record."
        )

    def _created_after_all(self) -> Pipeline | None:
        """Return the pipeline of a create that Arroyo reported as failed; None if it is missing or incomplete."""
        client = self._client.with_short_limit(_CHECK_SECONDS)
        with suppress(ArroyoError):
            found = client.get_pipeline(self._pipeline_id)
            is_ours = self._label_of(found).request_id in self.request_ids
            return found if is_ours and client.get_job(found.id) is not None else None
        return None

    def _get_or_none(self) -> Pipeline | None:
        try:
            return self._client.get_pipeline(self._pipeline_id)
        except ArroyoNotFoundError:
            # Creating is not one transaction: another try may be in the middle of it.
            return None

    def _delete_half_created(self) -> None:
        self._client.log.warning(
            "Pipeline id %s is taken by a half-created record, which is deleted", self._pipeline_id
        )
        try:
            with suppress(ArroyoNotFoundError):
                self._client.delete_pipeline(self._pipeline_id)
        except ArroyoApiError as err:
            if err.status not in (400, 409):
                raise
            # Another try has just completed it, and it runs.
            self._client.log.info("Pipeline %s is complete now: %s", self._pipeline_id, err)

    def _label_of(self, pipeline: Pipeline) -> OwnershipLabel:
        """Return the label of the pipeline that has our id.

        :raises ArroyoOwnershipError: if it belongs to another owner.
        """
        try:
            label = OwnershipLabel.of(pipeline)
        except UnreadableLabelError as err:
            raise may_belong_to(self._label.owner, pipeline, err) from err
        if label is not None and label.is_of_same_pipeline(self._label):
            return label
        why = f"belongs to {label.owner}" if label else "has no ownership label of this package"
        raise ArroyoOwnershipError(
            f"Pipeline id {pipeline.id!r} is taken by pipeline {shorten(pipeline.name, 80)!r}, which {why}; "
            f"this is {self._label.owner}. Nothing was changed. Choose another pipeline_id, or delete that pipeline.",
            owner=str(label.owner) if label else None,
        )

    # -- servers without PUT (0.15) --------------------------------------------------------------------------

    def _post(self) -> Submitted:
        if self._spec.tags:
            self._client.log.info(
                "This Arroyo stores no tags; they are written into the first line of the SQL"
            )
        created = self._post_until_known()
        # Another try may have created one at the same time, and a gateway may have sent the request twice.
        found = self.owned.find() if created is None else self.owned.find_beside(created)
        if not found:
            self.created = None
            raise ArroyoError(f"Pipeline {self._spec.name!r} was created, but deleted externally at once.")
        kept, label = self.owned.settle(found)
        is_new = label.request_id in self.request_ids
        self.created = kept if is_new else None
        return self._submitted(kept, is_new=is_new)

    def _post_until_known(self) -> Pipeline | None:
        """Create the pipeline and return it; None if the response was lost, but it was found by its label.

        A create whose response was lost may take effect for as long as the client allowed for it. Until then, the
        pipeline is looked for and not created again.
        """
        began, allowed = self._client.clock(), self._client.limits.max_elapsed_seconds
        while True:
            sent = self._client.clock()
            try:
                return self._post_once()
            except ArroyoError as err:
                if not may_have_taken_effect(err):
                    raise
                # A 500 is Arroyo's own and final: nothing is in progress any more, but the pipeline may exist.
                is_final = err.disposition is Disposition.PERMANENT
                error, now = err, self._client.clock()
            seconds = 0.0 if is_final else sent + create_seconds(self._client, self._spec.udfs) - now
            left = began + allowed - now
            self._client.log.warning(
                "The response to the create was lost (%s); checking whether it takes effect, for up to %s",
                shorten(str(error), 1000),
                duration(max(SETTLE_SECONDS, min(seconds, left))),
            )
            if self._existing.retry_until(self.owned.find, max(SETTLE_SECONDS, min(seconds, left))):
                return None
            if is_final:
                raise error
            if seconds >= left:
                break
        raise ArroyoUnreachableError(
            f"Pipeline {shorten(self._spec.name, 80)!r} was not created within "
            f"{duration(self._client.clock() - began)}: no request to create it got a response from Arroyo, and it "
            f"does not exist. Last error: {error}\nCheck the server, and any proxy in front of it. A create "
            "may still take effect; the next try of this task looks for it first."
        )

    def _post_once(self) -> Pipeline:
        label = self._label.for_new_request()
        self.request_ids.add(label.request_id)
        comment = label.to_comment(self._spec.tags)
        self._lines_above = comment.count("\n")
        self.created = self._client.create_pipeline(
            **self._spec.to_request(query=comment + self._spec.query, tags={})
        )
        return self.created
