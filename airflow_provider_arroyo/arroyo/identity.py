"""Whose a pipeline is, written on the pipeline itself, so that a later try finds its own.

On 0.16 the mark is a set of tags and the pipeline's id is derived from the key; on 0.15, which keeps neither
tags nor ids of the caller's, it is a comment in the first line of the SQL, which Arroyo keeps as it was sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_provider_arroyo.arroyo.pipeline import Pipeline

MARK_VERSION = 1
"""Version of the mark's form. A reader that meets a higher one adopts nothing."""

TAG_PREFIX = "airflow."
_COMMENT = "-- airflow: "
_KEY_DIGITS = 20


class DamagedMarkError(ValueError):
    """A mark that cannot be read: damaged, or written by a newer version of this package.

    :param key, owner: what it says all the same; None where it does not.
    """

    def __init__(self, message: str, *, key: str | None = None, owner: Owner | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.owner = owner


_as_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _digest(*parts: object) -> str:
    text = _as_json(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def _slug(text: str, length: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The task that a pipeline was made for.

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
        """Return the id of the pipeline with that key: readable in a console, fit for a URL as it is."""
        parts = ["af", _slug(self.dag_id, 24), _slug(self.task_id, 24), key]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What this package writes on the pipelines that it makes.

    :param key: what it was made for.
    :param owner: by which task.
    :param try_number: in which try.
    :param package_version: by which version of this package.
    :param call: by which call, a text that no other call has; empty where it is not told. It tells a pipeline
        whose creation was not answered from one of an earlier try, and from a copy that somebody made.
    """

    key: str
    owner: Owner
    try_number: int
    package_version: str
    call: str = ""

    def for_new_call(self) -> Self:
        """Return the mark for one more call."""
        return replace(self, call=secrets.token_hex(8))

    def _fields(self) -> dict[str, str]:
        return {
            "mark": str(MARK_VERSION),
            "key": self.key,
            "dag": self.owner.dag_id,
            "task": self.owner.task_id,
            "run": self.owner.run_id,
            "map_index": str(self.owner.map_index),
            "try": str(self.try_number),
            "package": self.package_version,
            "call": self.call,
        }

    def to_tags(self) -> dict[str, str]:
        """Return the mark as tags."""
        return {TAG_PREFIX + name: value for name, value in self._fields().items()}

    def to_comment(self, user_tags: Mapping[str, str]) -> str:
        """Return the mark as one line of SQL comment, with its line end.

        :param user_tags: the user's own tags, which 0.15 has no other place for.
        """
        fields: dict[str, object] = dict(self._fields())
        if user_tags:
            fields["tags"] = dict(user_tags)
        return _COMMENT + json.dumps(fields, ensure_ascii=True) + "\n"

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Self:
        key, owner = _text_or_none(fields, "key"), _owner_or_none(fields)
        try:
            version = int(fields["mark"])
            if version > MARK_VERSION:
                raise DamagedMarkError(
                    f"its mark has version {version}, this package reads up to {MARK_VERSION}: "
                    "a newer airflow-provider-arroyo made it",
                    key=key,
                    owner=owner,
                )
            if version < 1 or not key or owner is None:
                raise ValueError("it does not say whose it is")
            return cls(
                key=key,
                owner=owner,
                try_number=int(fields["try"]),
                package_version=str(fields["package"]),
                call=str(fields.get("call", "")),
            )
        except (KeyError, OverflowError, TypeError, ValueError) as err:
            if isinstance(err, DamagedMarkError):
                raise
            raise DamagedMarkError(f"its mark is damaged ({err!r})", key=key, owner=owner) from err

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self | None:
        """Return the mark on a pipeline; None where it has none.

        :raises DamagedMarkError: where it has one that cannot be read.
        """
        tags = {
            name.removeprefix(TAG_PREFIX): value
            for name, value in pipeline.tags.items()
            if name.startswith(TAG_PREFIX)
        }
        return cls._read(tags) if tags else cls.in_comment(pipeline.query)

    @classmethod
    def in_comment(cls, query: str) -> Self | None:
        """Return the mark in the first line of some SQL; None where it has none.

        :raises DamagedMarkError: where it has one that cannot be read.
        """
        if not query.startswith(_COMMENT):
            return None
        text = query.split("\n", 1)[0].removeprefix(_COMMENT)
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise DamagedMarkError(f"its mark is damaged ({err})") from err
        if not isinstance(fields, dict):
            raise DamagedMarkError("its mark is damaged (not an object)")
        return cls._read(fields)


def without_comment(query: str) -> str:
    """Return SQL without the line that carries a mark, where it has one."""
    return query.partition("\n")[2] if query.startswith(_COMMENT) else query


def _text_or_none(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _owner_or_none(fields: Mapping[str, Any]) -> Owner | None:
    dag_id, task_id, run_id = (_text_or_none(fields, name) for name in ("dag", "task", "run"))
    try:
        map_index = int(fields["map_index"])
    except (KeyError, OverflowError, TypeError, ValueError):
        return None
    if dag_id is None or task_id is None or run_id is None:
        return None
    return Owner(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)


def check_user_tags(tags: Mapping[str, str]) -> None:
    """Check that the user's tags leave ours alone.

    :raises ValueError: names the tags that do not.
    """
    ours = sorted(name for name in tags if name.startswith(TAG_PREFIX))
    if ours:
        raise ValueError(f"tags: names that begin with {TAG_PREFIX!r} belong to this package, got {ours}")
