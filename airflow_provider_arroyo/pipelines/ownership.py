"""The ownership label of a pipeline, stored on the pipeline itself, so that a later try finds its own pipeline.

A submit's pipeline belongs to one task instance (:class:`Owner`), a deployment's to the deployment
(:class:`Deployment`), in the namespace of one Airflow.

On 0.16, the label is a set of tags, and the pipeline's id is derived from the key. 0.15 supports neither tags nor ids
from the caller; there, the label is a comment in the first line of the SQL, which Arroyo stores unchanged.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.pipelines.tags import TAG_PREFIX

LABEL_VERSION = 1
"""Version of the label's format. A reader that sees a higher one adopts nothing."""

_COMMENT = "-- airflow: "
_KEY_DIGITS = 20


class UnreadableLabelError(ValueError):
    """A label cannot be read: it is damaged, or a newer version of this package wrote it.

    :param message: what is wrong with the label.
    :param owner: the owner, if it could still be read; default None.
    """

    def __init__(self, message: str, *, owner: Owner | Deployment | None = None) -> None:
        super().__init__(message)
        self.owner = owner


_as_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _digest(*parts: object) -> str:
    return hashlib.sha256(_as_json(parts).encode()).hexdigest()[:_KEY_DIGITS]


def _slug(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """Separates one Airflow from the others that use the same Arroyo.

    :param name: part of every owner and key; empty if there is none.
    :param is_explicit: whether the connection sets it. Otherwise it is derived from Airflow's address and changes
        with it, so a missing pipeline may exist under another namespace.
    :param derived: the namespace that would be derived from Airflow's address if the connection did not set one;
        default empty.
    """

    name: str = ""
    is_explicit: bool = False
    derived: str = field(default="", compare=False)

    def was_before(self, other: str) -> bool:
        """Return whether this Airflow may have had another namespace until this one was set."""
        return self.is_explicit and other != self.name and other in ("", self.derived)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The task instance that a submit belongs to. Its key alone identifies the submit's pipeline.

    :param dag_id: its DAG.
    :param task_id: its task.
    :param run_id: its DAG run.
    :param namespace: name of the :class:`Namespace` of its Airflow.
    :param map_index: -1 if the task is not mapped.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    namespace: str = ""

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"task {self.dag_id}.{self.task_id}{mapped} of run {self.run_id}{_in(self.namespace)}"

    def is_of_same_task(self, other: Owner) -> bool:
        """Return whether both are instances of one task, in whichever runs."""
        return replace(self, run_id=other.run_id, map_index=other.map_index) == other

    @property
    def key(self) -> str:
        """The key of its submit, the same for every try, whatever its arguments are."""
        return _digest("submit", self.namespace, self.dag_id, self.task_id, self.run_id, self.map_index)

    @property
    def pipeline_id(self) -> str:
        """The id of its pipeline: readable in a console, and valid in a URL without escaping."""
        return _readable_id(self.dag_id, self.task_id, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The owner of a deployment's pipelines, whichever task, run and try created them.

    Its key is the same for all generations; id and label of a pipeline contain the generation.

    :param namespace: name of the :class:`Namespace` of the Airflow that deploys it.
    :param group: the group of pipelines that are deployed and pruned together.
    :param name: the name of its pipelines.
    """

    group: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"deployment {self.name!r} of group {self.group!r}{_in(self.namespace)}"

    @property
    def key(self) -> str:
        """The key of every generation."""
        return _digest("deployment", self.namespace, self.group, self.name)

    def pipeline_id(self, generation: int) -> str:
        """Return the id of one generation's pipeline: readable in a console, and valid in a URL without escaping."""
        return f"{_readable_id(self.group, self.name, self.key)}-g{generation}"


def _in(namespace: str) -> str:
    return f" in namespace {namespace!r}" if namespace else ""


def _readable_id(first: str, second: str, key: str) -> str:
    return "-".join(part for part in ("af", _slug(first, 24), _slug(second, 24), key) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipLabel:
    """What this package stores on the pipelines that it creates. It cannot be changed later.

    :param task: the task that created it: the owner of a submit's pipeline; for a deployment's, only information.
    :param try_number: the try of that task.
    :param package_version: the version of this package.
    :param deployment: the deployment that it belongs to; None for a submit's pipeline.
    :param generation: the deployment's generation, 1 or more; 0 for a submit's pipeline.
    :param request_id: unique to each create request; empty if unknown. It distinguishes a pipeline whose response was
        lost from one of an earlier try, and from a copy made by hand.
    """

    task: Owner
    try_number: int
    package_version: str
    deployment: Deployment | None = None
    generation: int = 0
    request_id: str = ""

    def __post_init__(self) -> None:
        if self.deployment is not None and self.deployment.namespace != self.task.namespace:
            raise ValueError("a deployment and the task that deploys it must be in the same namespace")

    @property
    def owner(self) -> Owner | Deployment:
        """The owner of the pipeline."""
        return self.deployment or self.task

    @property
    def key(self) -> str:
        """The key of the owner."""
        return self.owner.key

    @property
    def pipeline_id(self) -> str:
        """The id of the pipeline, where the caller chooses it."""
        return self.deployment.pipeline_id(self.generation) if self.deployment else self.task.pipeline_id

    def is_of_same_pipeline(self, other: OwnershipLabel) -> bool:
        """Return whether both are of the same submit, or of the same generation of a deployment."""
        return (self.key, self.generation) == (other.key, other.generation)

    def for_new_request(self) -> Self:
        """Return the label for another create request."""
        return replace(self, request_id=secrets.token_hex(8))

    def _fields(self) -> dict[str, str]:
        fields = {
            "label": str(LABEL_VERSION),
            "key": self.key,
            "namespace": self.task.namespace,
            "dag": self.task.dag_id,
            "task": self.task.task_id,
            "run": self.task.run_id,
            "map_index": str(self.task.map_index),
            "try": str(self.try_number),
            "package": self.package_version,
            "request": self.request_id,
        }
        if self.deployment is not None:
            fields |= {
                "group": self.deployment.group,
                "name": self.deployment.name,
                "generation": str(self.generation),
            }
        return fields

    def to_tags(self) -> dict[str, str]:
        """Return the label as tags."""
        return {TAG_PREFIX + name: value for name, value in self._fields().items()}

    def to_comment(self, user_tags: Mapping[str, str]) -> str:
        """Return the label as one line of SQL comment, with its line end.

        :param user_tags: the user's own tags, which 0.15 cannot store elsewhere.
        """
        fields: dict[str, object] = dict(self._fields())
        if user_tags:
            fields["tags"] = dict(user_tags)
        return _COMMENT + json.dumps(fields, ensure_ascii=True) + "\n"

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Self:
        owner = _owner_or_none(fields)
        try:
            version = int(fields["label"])
            if version > LABEL_VERSION:
                raise UnreadableLabelError(
                    f"its ownership label has version {version}, but this package reads up to {LABEL_VERSION}: "
                    "a newer airflow-provider-arroyo wrote it",
                    owner=owner,
                )
            task = _task_or_none(fields)
            if version < 1 or owner is None or task is None:
                raise ValueError("it names no owner")
            label = cls(
                task=task,
                try_number=int(fields["try"]),
                package_version=str(fields["package"]),
                deployment=owner if isinstance(owner, Deployment) else None,
                generation=int(fields.get("generation", 0)),
                request_id=str(fields.get("request", "")),
            )
            if fields["key"] != label.key or (label.generation < 1) == (label.deployment is not None):
                raise ValueError("its parts contradict each other")
            return label
        except (KeyError, OverflowError, TypeError, ValueError) as err:
            if isinstance(err, UnreadableLabelError):
                raise
            raise UnreadableLabelError(f"its ownership label is damaged ({err!r})", owner=owner) from err

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        """Return the label on a pipeline; None if it has none.

        :raises UnreadableLabelError: if it has one that cannot be read.
        """
        fields = _fields_in_tags(pipeline) or _fields_in_comment(pipeline.query)
        return None if fields is None else cls._read(fields)


def _fields_in_tags(pipeline: Pipeline) -> dict[str, str]:
    items = pipeline.tags.items()
    return {name.removeprefix(TAG_PREFIX): value for name, value in items if name.startswith(TAG_PREFIX)}


def _fields_in_comment(query: str) -> dict[str, Any] | None:
    if not query.startswith(_COMMENT):
        return None
    text = query.split("\n", 1)[0].removeprefix(_COMMENT)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise UnreadableLabelError(f"its ownership label is damaged ({err})") from err
    if not isinstance(fields, dict):
        raise UnreadableLabelError("its ownership label is damaged (not an object)")
    return fields


def label_fields(pipeline: Pipeline) -> dict[str, str] | None:
    """Return the fields of a pipeline's ownership label by name; None if it has none.

    A damaged label is also returned: its readable fields, or its whole text as ``label``.
    """
    fields: Mapping[str, Any] | None = _fields_in_tags(pipeline)
    if not fields:
        try:
            fields = _fields_in_comment(pipeline.query)
        except UnreadableLabelError:
            fields = {"label": pipeline.query.split("\n", 1)[0].removeprefix(_COMMENT)}
    return None if fields is None else {name: str(value) for name, value in fields.items() if name != "tags"}


def without_label(query: str) -> str:
    """Return SQL without the line of its ownership label, if it has one."""
    return query.partition("\n")[2] if query.startswith(_COMMENT) else query


def _task_or_none(fields: Mapping[str, Any]) -> Owner | None:
    match fields:
        case {
            "dag": str(dag),
            "task": str(task),
            "run": str(run),
            "namespace": str(namespace),
            "map_index": index,
        }:
            with suppress(OverflowError, TypeError, ValueError):
                return Owner(dag_id=dag, task_id=task, run_id=run, map_index=int(index), namespace=namespace)
    return None


def _owner_or_none(fields: Mapping[str, Any]) -> Owner | Deployment | None:
    match fields:
        case {"group": str(group), "name": str(name), "namespace": str(namespace)}:
            return Deployment(group=group, name=name, namespace=namespace)
    return None if {"group", "name", "generation"} & set(fields) else _task_or_none(fields)


def user_tags_of(pipeline: Pipeline) -> dict[str, str]:
    """Return the user's own tags on a pipeline, without those of the ownership label."""
    if pipeline.tags:
        return {name: value for name, value in pipeline.tags.items() if not name.startswith(TAG_PREFIX)}
    with suppress(UnreadableLabelError):
        tags = (_fields_in_comment(pipeline.query) or {}).get("tags")
        if isinstance(tags, dict):
            return {str(name): str(value) for name, value in tags.items()}
    return {}
