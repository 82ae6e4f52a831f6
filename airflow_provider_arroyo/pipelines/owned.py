"""Finds the pipelines of one owner by their labels, and decides which one to keep if there are several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.request import COMPILE_TIMEOUT_SECONDS
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNotFoundError, ArroyoOwnershipError
from airflow_provider_arroyo.pipelines.compare import compare
from airflow_provider_arroyo.pipelines.existing import SETTLE_SECONDS, Existing, is_down
from airflow_provider_arroyo.pipelines.ownership import (
    Deployment,
    Namespace,
    Owner,
    OwnershipLabel,
    UnreadableLabelError,
)
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.text import duration, shorten

_SKEW_MICROS = 60_000_000
"""By how many seconds a pipeline may be dated earlier than one that was created before it."""

_LISTED_SECONDS = 60.0
"""How long lists may lack a new pipeline, in seconds: longer than caches in front of an API keep a response."""

Labelled = tuple[Pipeline, OwnershipLabel]


def create_seconds(client: ArroyoClient, udfs: Sequence[Udf]) -> float:
    """Return how long a create may be under way: what the client allows for it. Later, none takes effect."""
    return max(client.settings.read_timeout_seconds, COMPILE_TIMEOUT_SECONDS if udfs else 0.0)


def may_belong_to(
    owner: Owner | Deployment, pipeline: Pipeline, error: UnreadableLabelError
) -> ArroyoOwnershipError:
    """Return the error about a pipeline that may belong to an owner, but whose label cannot be read."""
    return ArroyoOwnershipError(
        f"{pipeline.label} may belong to {owner}, but {error}. Nothing was changed or created. Use the version of "
        "this package that created it, or delete that pipeline.",
        owner=str(error.owner) if error.owner else None,
    )


def which_namespace_to_set(theirs: str) -> str:
    """Return what to do if a pipeline of the same owner is in another namespace than this Airflow.

    :param theirs: that namespace; empty for none, which cannot be set.
    """
    if theirs:
        return (
            f"If that is this Airflow, set the connection's extra namespace to {theirs!r}; if not, set it to a name "
            "of your own."
        )
    return (
        "If it is this Airflow's own, from before it had a namespace, stop and delete it; if not, set the "
        "connection's extra namespace to a name of your own."
    )


def _described(name: str) -> str:
    """Return a namespace as messages name it; an empty one is "no namespace"."""
    return f"namespace {name!r}" if name else "no namespace"


def from_before(pipeline: Pipeline, what: str, namespace: str) -> str:
    """Return a warning about a pipeline in the namespace that this Airflow may have had before one was set.

    :param pipeline: the pipeline.
    :param what: what else the pipeline belongs to: ``task`` or ``deployment``.
    :param namespace: the pipeline's namespace.
    """
    return (
        f"Pipeline {shorten(pipeline.name, 80)} (id {pipeline.id}) belongs to the same {what} in "
        f"{_described(namespace)}; it is left alone. If it is this Airflow's own, from before its namespace "
        "was set, stop it: both do the same work now"
    )


class OwnedPipelines:
    """Finds the pipelines of a submit's owner, or of one generation of a deployment.

    :param client: sends the requests; its log gets a warning for each pipeline that is ignored or removed.
    :param label: the owner.
    :param spec: the wanted pipeline, before anything is created; default None.
    """

    def __init__(
        self, client: ArroyoClient, label: OwnershipLabel, *, spec: PipelineSpec | None = None
    ) -> None:
        self._client = client
        self._spec = spec
        self._label = label
        self._existing = Existing(client)
        self._warned: set[str] = set()

    def find(self, *, since_micros: int | None = None) -> list[Labelled]:
        """Return the owner's pipelines, oldest first.

        :param since_micros: do not read pipelines older than this; default None reads all.
        :raises ArroyoOwnershipError: if a label that may be the owner's cannot be read.
        """
        found: list[Labelled] = []
        of_other_runs: dict[str, list[Labelled]] = defaultdict(list)
        # All generations of a deployment have its name; a task's pipelines need not have the same one.
        deployment = self._label.deployment
        for pipeline in self._client.iter_pipelines(name=deployment.name if deployment else None):
            # A pipeline without a date may be of any age.
            if since_micros is not None and 0 < pipeline.created_at_micros < since_micros - _SKEW_MICROS:
                break
            label = self._read_label(pipeline)
            if label is not None and label.is_of_same_pipeline(self._label):
                found.append((pipeline, label))
            elif (
                label is not None
                and label.deployment is None
                and label.task.is_of_same_task(self._label.task)
            ):
                of_other_runs[label.key].append((pipeline, label))
        for created in of_other_runs.values():
            self._warn_if_late(created)
        # A server on SQLite lists pipelines of the same second in the order of their creation.
        return sorted(found, key=lambda item: item[0].created_at_micros)

    def find_beside(self, created: Pipeline) -> list[Labelled]:
        """Return the owner's pipelines, oldest first; among them the created one, unless it was deleted.

        If the list lacks it, but its id leads to it, a cache or a server that lags sent an old list. It is read again
        until it is current, because the pipeline of another try may be missing, too.

        :param created: the pipeline that was just created.
        :raises ArroyoOwnershipError: if a label that may be the owner's cannot be read.
        """
        client, began = self._client, self._client.clock()
        found: list[Labelled] = []
        exists = True

        def is_settled() -> bool:
            nonlocal found, exists
            found = self.find(since_micros=created.created_at_micros)
            if any(pipeline.id == created.id for pipeline, _ in found):
                return True
            try:
                client.get_pipeline(created.id)
                exists = True
            except ArroyoNotFoundError:
                exists = False
            # A server that lags may at first not know the id either.
            return not exists and client.clock() - began >= SETTLE_SECONDS

        seconds = min(_LISTED_SECONDS, client.limits.max_elapsed_seconds, self._existing.seconds_left())
        label = OwnershipLabel.of(created)
        is_settled_in_time = self._existing.retry_until(is_settled, max(SETTLE_SECONDS, seconds))
        if is_settled_in_time or not exists or label is None:
            return found
        client.log.warning(
            "Arroyo's list of pipelines lacks %s, id %s, which was created %s ago and exists: the list is old, and a "
            "duplicate would not be noticed. Let no gateway cache Arroyo's API",
            shorten(created.name, 80),
            created.id,
            duration(client.clock() - began),
        )
        return [*found, (created, label)]

    def find_one(self) -> Pipeline | None:
        """Return the owner's pipeline, after removing its duplicates; None if there is none."""
        found = self.find()
        return self.settle(found)[0] if found else None

    def settle(self, found: Sequence[Labelled]) -> Labelled:
        """Return the oldest of the owner's pipelines, and remove the others that were created for it.

        A later one with another request id is from another try or came in late. One with the same id and date was
        created because a gateway sent the request twice; otherwise it is a copy made by hand, which is left alone.

        :param found: at least one, oldest first.
        """
        first_of_request = {found[0][1].request_id: found[0][0]}
        for pipeline, label in found[1:]:
            first = first_of_request.setdefault(label.request_id, pipeline)
            if first is not pipeline and not self._is_repeat(pipeline, first):
                text = "Pipeline %s is a copy of %s made externally; it is left alone"
                self._warn_once(pipeline.id, text, pipeline.id, first.id)
                continue
            self._client.log.warning(
                "Pipeline %s was created twice: %s is kept, %s is deleted",
                shorten(found[0][0].name, 80),
                found[0][0].id,
                pipeline.id,
            )
            self._existing.remove(pipeline.id)
            self._client.counts.duplicates_removed += 1
        return found[0]

    def remove_late(self, pipeline_id: str, created_at_micros: int, seconds: float = 0.0) -> None:
        """Remove duplicates of a pipeline, from a create that came in late or was sent twice.

        :param pipeline_id, created_at_micros: the pipeline.
        :param seconds: for how long a duplicate may still appear, default 0.
        :raises ArroyoError: if another one is older, so that this one was removed.
        """

        def remove() -> None:
            found = self.find(since_micros=created_at_micros)
            kept = self.settle(found)[0].id if found else pipeline_id
            if kept != pipeline_id:
                raise ArroyoError(
                    f"Pipeline {pipeline_id!r} was created beside {kept!r}, which is older and was kept. "
                    "The next try of this task adopts it."
                )

        self._existing.retry_until(remove, seconds)

    def check_other_namespaces(self, namespace: Namespace) -> None:
        """Check that a task without a pipeline has none in another namespace either.

        A namespace that is derived from Airflow's address changes with that address. If the namespace is set
        explicitly, it may have been set only recently: a pipeline of the same task in the earlier namespace causes a
        warning.

        :param namespace: of this Airflow.
        :raises ArroyoOwnershipError: if the namespace was not set explicitly; names that pipeline, and the namespace
            to set.
        """
        task = self._label.task
        for pipeline in self._client.iter_pipelines():
            label = self._read_label(pipeline)
            if label is None or label.deployment is not None:
                continue
            if replace(label.task, namespace=task.namespace) != task:
                continue
            if namespace.was_before(label.task.namespace):
                self._warn_once(pipeline.id, "%s", from_before(pipeline, "task", label.task.namespace))
            if namespace.is_explicit:
                continue
            here = _described(task.namespace)
            raise ArroyoOwnershipError(
                f"{pipeline.label} belongs to {label.owner}; this is the same "
                f"task in {here}, which was derived from Airflow's [api] base_url. Nothing was changed or created. "
                + which_namespace_to_set(label.task.namespace),
                owner=str(label.owner),
            )

    def _read_label(self, pipeline: Pipeline) -> OwnershipLabel | None:
        try:
            return OwnershipLabel.of(pipeline)
        except UnreadableLabelError as err:
            is_others = err.owner is not None and err.owner != self._label.owner
            has_key = self._label.key in pipeline.query.partition("\n")[0]
            has_key = has_key or self._label.key in pipeline.tags.values()
            is_same = self._spec is not None and not compare(self._spec, pipeline).definition
            if has_key or (is_same and not is_others):
                raise may_belong_to(self._label.owner, pipeline, err) from err
            if self._spec is not None:
                # Otherwise this was logged before the create.
                self._warn_once(pipeline.id, "Pipeline %s is ignored: %s", pipeline.id, err)
            return None

    def _warn_if_late(self, created: Sequence[Labelled]) -> None:
        """Warn if a create of another run came in after its task had ended, so that two pipelines do the same
        work.
        """
        if len({label.request_id for _, label in created}) < 2:
            return
        alive: list[Pipeline] = []
        for pipeline, _ in created:
            # It may just have been deleted, and does not concern this task.
            with suppress(ArroyoError):
                job = self._client.get_job(pipeline.id)
                alive += [pipeline] if job is not None and not is_down(job) else []
        if len(alive) > 1:
            first, *_, late = (one.id for one in sorted(alive, key=lambda one: one.created_at_micros))
            text = "Pipelines %s and %s run, and both were created for %s: stop the later one, %s, which came in late"
            self._warn_once(late, text, first, late, created[0][1].owner, late)

    def _is_repeat(self, pipeline: Pipeline, first: Pipeline) -> bool:
        age = abs(pipeline.created_at_micros - first.created_at_micros) / 1e6
        is_same = (pipeline.name, pipeline.query, pipeline.udfs) == (first.name, first.query, first.udfs)
        return is_same and age <= create_seconds(self._client, first.udfs)

    def _warn_once(self, pipeline_id: str, message: str, *args: object) -> None:
        if pipeline_id not in self._warned:
            self._warned.add(pipeline_id)
            self._client.log.warning(message, *args)
