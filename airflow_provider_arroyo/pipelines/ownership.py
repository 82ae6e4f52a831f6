"""The ownership label: whose a pipeline is, written on the pipeline itself, so that a later try finds its own.

On 0.16 the label is a set of tags, and the pipeline's id is derived from the key. 0.15 stores neither tags nor ids
of the caller's; there it is a comment in the first line of the SQL, which Arroyo stores as it was sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_provider_arroyo.client.models import Pipeline

LABEL_VERSION = 1
"""Version of the label's format. A reader that meets a higher one adopts nothing."""

TAG_PREFIX = "airflow."
_COMMENT = "-- airflow: "
_KEY_DIGITS = 20


class UnreadableLabelError(ValueError):
    """A label that cannot be read: damaged, or written by a newer version of this package.

    :param owner: whose it is, where that could be read all the same.
    """

    def __init__(self, message: str, *, owner: Owner | None = None) -> None:
        super().__init__(message)
        self.owner = owner


_as_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _digest(*parts: object) -> str:
    text = _as_json(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _slug(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The task that a pipeline was created for.

    :param map_index: -1 where the task is not mapped.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"task {self.dag_id}.{self.task_id}{mapped} of run {self.run_id}"

    def submit_key(self, fingerprint: str) -> str:
        """Return the key of a submit: the same for every try of this task that wants the same pipeline."""
        return _digest("submit", self.dag_id, self.task_id, self.run_id, self.map_index, fingerprint)

    def pipeline_id(self, key: str) -> str:
        """Return the id of the pipeline with that key: readable in a console, valid in a URL as it is."""
        parts = ["af", _slug(self.dag_id, 24), _slug(self.task_id, 24), key]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipLabel:
    """What this package writes on the pipelines that it creates.

    :param key: identifies what it was created for.
    :param owner: the task that created it.
    :param try_number: the try of that task.
    :param package_version: the version of this package.
    :param request_id: unique to each create request; empty where it is not known. It distinguishes a pipeline
        whose response was lost from one of an earlier try, and from a copy made by hand.
    """

    key: str
    owner: Owner
    try_number: int
    package_version: str
    request_id: str = ""

    def for_new_request(self) -> Self:
        """Return the label for one more create request."""
        return replace(self, request_id=secrets.token_hex(8))

    def _fields(self) -> dict[str, str]:
        return {
            "label": str(LABEL_VERSION),
            "key": self.key,
            "dag": self.owner.dag_id,
            "task": self.owner.task_id,
            "run": self.owner.run_id,
            "map_index": str(self.owner.map_index),
            "try": str(self.try_number),
            "package": self.package_version,
            "request": self.request_id,
        }

    def to_tags(self) -> dict[str, str]:
        """Return the label as tags."""
        return {TAG_PREFIX + name: value for name, value in self._fields().items()}

    def to_comment(self, user_tags: Mapping[str, str]) -> str:
        """Return the label as one line of SQL comment, with its line end.

        :param user_tags: the user's own tags, which 0.15 cannot store anywhere else.
        """
        fields: dict[str, object] = dict(self._fields())
        if user_tags:
            fields["tags"] = dict(user_tags)
        return _COMMENT + json.dumps(fields, ensure_ascii=True) + "\n"

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Self:
        key, owner = _text_or_none(fields, "key"), _owner_or_none(fields)
        try:
            version = int(fields["label"])
            if version > LABEL_VERSION:
                raise UnreadableLabelError(
                    f"its ownership label has version {version}, this package reads up to {LABEL_VERSION}: "
                    "a newer airflow-provider-arroyo wrote it",
                    owner=owner,
                )
            if version < 1 or not key or owner is None:
                raise ValueError("it names no owner")
            return cls(
                key=key,
                owner=owner,
                try_number=int(fields["try"]),
                package_version=str(fields["package"]),
                request_id=str(fields.get("request", "")),
            )
        except (KeyError, OverflowError, TypeError, ValueError) as err:
            if isinstance(err, UnreadableLabelError):
                raise
            raise UnreadableLabelError(f"its ownership label is damaged ({err!r})", owner=owner) from err

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        """Return the label on a pipeline; None where it has none.

        :raises UnreadableLabelError: where it has one that cannot be read.
        """
        tags = {
            name.removeprefix(TAG_PREFIX): value
            for name, value in pipeline.tags.items()
            if name.startswith(TAG_PREFIX)
        }
        return cls._read(tags) if tags else cls.in_comment(pipeline.query)

    @classmethod
    def in_comment(cls, query: str) -> Self | None:
        """Return the label in the first line of some SQL; None where it has none.

        :raises UnreadableLabelError: where it has one that cannot be read.
        """
        if not query.startswith(_COMMENT):
            return None
        text = query.split("\n", 1)[0].removeprefix(_COMMENT)
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise UnreadableLabelError(f"its ownership label is damaged ({err})") from err
        if not isinstance(fields, dict):
            raise UnreadableLabelError("its ownership label is damaged (not an object)")
        return cls._read(fields)


def without_label(query: str) -> str:
    """Return SQL without the line of its ownership label, where it has one."""
    return query.partition("\n")[2] if query.startswith(_COMMENT) else query


def _text_or_none(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _owner_or_none(fields: Mapping[str, Any]) -> Owner | None:
    dag_id, task_id, run_id = (_text_or_none(fields, name) for name in ("dag", "task", "run"))
    if dag_id is None or task_id is None or run_id is None:
        return None
    with suppress(KeyError, OverflowError, TypeError, ValueError):
        return Owner(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=int(fields["map_index"]))
    return None


def check_user_tags(tags: Mapping[str, str]) -> None:
    """Check that the user's tags do not collide with ours.

    :raises ValueError: names the tags that do.
    """
    reserved = sorted(name for name in tags if name.startswith(TAG_PREFIX))
    if reserved:
        raise ValueError(
            f"tags: names that begin with {TAG_PREFIX!r} are reserved for this package, got {reserved}"
        )
