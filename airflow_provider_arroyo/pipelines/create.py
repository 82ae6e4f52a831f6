"""Creates a pipeline exactly once, whatever happens to requests and responses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.retry import may_have_taken_effect
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoConflictError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoUnreachableError,
    ArroyoUnsupportedError,
    Disposition,
)
from airflow_provider_arroyo.pipelines.existing import SETTLE_SECONDS, Existing
from airflow_provider_arroyo.pipelines.owned import (
    USE_ITS_VERSION,
    OwnedPipelines,
    create_seconds,
    is_same_key,
)
from airflow_provider_arroyo.pipelines.ownership import OwnershipLabel, UnreadableLabelError
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.text import duration, shorten

_TRIES = 5
_CHECK_SECONDS = 10.0
"""How long to check whether a create that failed inside the server took effect, in seconds."""

Created = tuple[Pipeline, bool]
"""The owner's pipeline, and whether a request of this creator created it; otherwise another try did."""


class PipelineCreator:
    """Creates the pipeline of one submit, or of one generation of a deployment.

    :param client: sends the requests.
    :param spec: the wanted pipeline.
    :param label: its owner.
    :param owned: finds the owner's pipelines.
    :param existing: waits for pipelines and removes them.
    :param pipeline_id: its id on servers that let the caller choose it.
    :param is_users_id: whether the user chose that id, so that it must not be ignored.
    :param log: gets a line for each action.
    :param monotonic: measures seconds.
    """

    def __init__(
        self,
        client: ArroyoClient,
        spec: PipelineSpec,
        label: OwnershipLabel,
        owned: OwnedPipelines,
        existing: Existing,
        *,
        pipeline_id: str,
        is_users_id: bool,
        log: Any,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._spec = spec
        self._label = label.for_new_request()
        self._owned = owned
        self._existing = existing
        self._pipeline_id = pipeline_id
        self._is_users_id = is_users_id
        self._log = log
        self._monotonic = monotonic
        self.request_ids = {self._label.request_id}
        """The ids of all requests so far, which distinguish this try's pipeline from those of other tries."""
        self.lines_above = 0
        """How many lines were added above the SQL."""
        self.created: Pipeline | None = None
        """The pipeline that the last request created, according to its response."""

    def create(self, *, find_first: Callable[[], Pipeline | None] = lambda: None) -> Created:
        """Create the pipeline, unless it exists.

        :param find_first: finds a pipeline of an earlier try, on a server that does not refuse a second one; default
            finds none.
        :raises ArroyoOwnershipError: if the id belongs to another owner, or a label that may be ours cannot be read.
        :raises ArroyoUnsupportedError: if the server is too old for the wanted pipeline.
        """
        made = self._put()
        if made is not None:
            return made
        self.check_old_server()
        found = find_first()
        return (found, False) if found is not None else self._post()

    def check_old_server(self) -> None:
        """Check that no argument is set that Arroyo 0.15 would ignore.

        :raises ArroyoUnsupportedError: if there are such arguments; names them.
        """
        ignored = self._spec.only_on_0_16 + (("pipeline_id",) if self._is_users_id else ())
        if ignored:
            raise ArroyoUnsupportedError.of(ignored)

    # -- servers with PUT (0.16 and later) -------------------------------------------------------------------

    def _put(self) -> Created | None:
        """Return the created or existing pipeline; None if the server has no PUT."""
        body = self._spec.to_request(tags={**self._spec.tags, **self._label.to_tags()})
        for _ in range(_TRIES):
            try:
                self.created = self._client.put_pipeline(self._pipeline_id, **body)
                return self.created, True
            except ArroyoConflictError:
                existing = self._existing.retry_until(self._get_or_none, SETTLE_SECONDS)
                if existing is not None:
                    return existing, self._label_of(existing).request_id in self.request_ids
                self._delete_half_created()
            except ArroyoApiError as err:
                if err.status == 405 and err.disposition is Disposition.PERMANENT:
                    return None
                if not may_have_taken_effect(err) or (created := self._created_after_all()) is None:
                    raise
                self._log.warning("Created despite an error: %s", err)
                return created, True
        raise ArroyoError(
            f"Arroyo says that pipeline id {self._pipeline_id!r} is taken, but no pipeline has it. "
            "Check Arroyo's database for a damaged record."
        )

    def _created_after_all(self) -> Pipeline | None:
        """Return the pipeline of a create that Arroyo reported as failed; None if it is missing or incomplete."""
        most = min(_CHECK_SECONDS, self._client.limits.max_elapsed_seconds)
        client = self._client.with_limits(max_elapsed_seconds=most)
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
        self._log.warning(
            "Pipeline id %s is taken by a half-created record, which is deleted", self._pipeline_id
        )
        try:
            with suppress(ArroyoNotFoundError):
                self._client.delete_pipeline(self._pipeline_id)
        except ArroyoApiError as err:
            if err.status not in (400, 409):
                raise
            # Another try has just completed it, and it runs.
            self._log.info("Pipeline %s is complete now: %s", self._pipeline_id, err)

    def _label_of(self, pipeline: Pipeline) -> OwnershipLabel:
        """Return the label of the pipeline that has our id.

        :raises ArroyoOwnershipError: if it belongs to another owner.
        """
        advice = "Choose another pipeline_id, or delete that pipeline."
        try:
            label = OwnershipLabel.of(pipeline)
        except UnreadableLabelError as err:
            owner, why = err.owner, f"and {err}"
            advice = USE_ITS_VERSION
        else:
            if label is not None and is_same_key(label, self._label):
                return label
            owner = label.owner if label else None
            why = f"which belongs to {owner}" if owner else "which has no ownership label of this package"
        raise ArroyoOwnershipError(
            f"Pipeline id {pipeline.id!r} is taken by pipeline {shorten(pipeline.name, 80)!r}, {why}; "
            f"this is {self._label.owner}. Nothing was changed. {advice}",
            owner=str(owner) if owner else None,
        )

    # -- servers without PUT (0.15) --------------------------------------------------------------------------

    def _post(self) -> Created:
        if self._spec.tags:
            self._log.info("This Arroyo stores no tags; they are written into the first line of the SQL")
        created = self._post_until_known()
        # Another try may have created one at the same time, and a gateway may have sent the request twice.
        found = self._owned.find(since_micros=None if created is None else created.created_at_micros)
        if not found:
            raise ArroyoError(f"Pipeline {self._spec.name!r} was created, but deleted externally at once.")
        kept, label = self._owned.settle(found)
        return kept, label.request_id in self.request_ids

    def _post_until_known(self) -> Pipeline | None:
        """Create the pipeline and return it; None if the response was lost, but it was found by its label.

        A create whose response was lost may take effect for as long as the client allowed for it. Until then, the
        pipeline is looked for and not created again.
        """
        began, allowed = self._monotonic(), self._client.limits.max_elapsed_seconds
        while True:
            sent = self._monotonic()
            try:
                return self._post_once()
            except ArroyoError as err:
                if not may_have_taken_effect(err):
                    raise
                # A 500 is Arroyo's own and final: nothing is in progress any more, but the pipeline may exist.
                is_final = err.disposition is Disposition.PERMANENT
                error, now = err, self._monotonic()
            seconds = 0.0 if is_final else sent + create_seconds(self._client, self._spec.udfs) - now
            left = began + allowed - now
            self._log.warning(
                "The response to the create was lost (%s); checking whether it takes effect, for up to %s",
                shorten(str(error), 1000),
                duration(max(SETTLE_SECONDS, min(seconds, left))),
            )
            if self._existing.retry_until(self._owned.find, max(SETTLE_SECONDS, min(seconds, left))):
                return None
            if is_final:
                raise error
            if seconds >= left:
                break
        raise ArroyoUnreachableError(
            f"Pipeline {shorten(self._spec.name, 80)!r} was not created within "
            f"{duration(self._monotonic() - began)}: no request to create it got a response from Arroyo, and it does "
            f"not exist. Last error: {error}\nCheck the server, and any proxy in front of it. A create "
            "may still take effect; the next try of this task looks for it first."
        )

    def _post_once(self) -> Pipeline:
        label = self._label.for_new_request()
        self.request_ids.add(label.request_id)
        comment = label.to_comment(self._spec.tags)
        self.lines_above = comment.count("\n")
        self.created = self._client.create_pipeline(
            **self._spec.to_request(query=comment + self._spec.query, tags={})
        )
        return self.created
