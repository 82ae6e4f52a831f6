"""Stores what a task is about to change, for a later try, which finds the server with the new settings already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_arroyo.client.wire import JsonValue
from airflow_provider_arroyo.monitoring.plan import Baseline
from airflow_provider_arroyo.pipelines.compare import Difference, shown

_NOTE_KEY = "arroyo_change"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeNote(JsonValue):
    """What a task is about to request, for a later try: once the server has the settings, nothing else records it.

    :param pipeline_id: id of the pipeline.
    :param wanted: a hash of all the wanted settings.
    :param changes: the changed settings, without secrets.
    :param before: its job before the request, if a new run follows; None if none does.
    """

    pipeline_id: str
    wanted: str
    changes: tuple[Mapping[str, str], ...]
    before: Baseline | None = None

    @classmethod
    def of(
        cls,
        pipeline_id: str,
        settings: Mapping[str, Any],
        differences: Iterable[Difference] = (),
        before: Baseline | None = None,
    ) -> Self:
        """Return the note about a change.

        :param pipeline_id, before: see the class.
        :param settings: all the wanted settings, those of :meth:`.Change.update`.
        :param differences: those that differ.
        """
        wanted, changes = settings_hash(settings), shown(differences)
        return cls(pipeline_id=pipeline_id, wanted=wanted, changes=changes, before=before)


class ChangeNotes:
    """Stores the note about a task's change between its tries, until the task has succeeded.

    :param store: has ``get(key)`` and ``set(key, value)``, like a task's state store in Airflow 3.3; None if there is
        none, so that nothing is stored.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def write(self, note: ChangeNote) -> None:
        """Store what is about to be requested."""
        if self._store is not None:
            self._store.set(_NOTE_KEY, note.to_dict())

    def read(self, wanted: ChangeNote) -> ChangeNote | None:
        """Return the note of an earlier try that wanted the same for the same pipeline; None if there is none."""
        if self._store is None:
            return None
        with suppress(ValueError):
            note = ChangeNote.from_dict(self._store.get(_NOTE_KEY))
            if (note.pipeline_id, note.wanted) == (wanted.pipeline_id, wanted.wanted):
                return note
        return None

    def forget(self) -> None:
        """Delete the note."""
        if self._store is not None and self._store.get(_NOTE_KEY):
            self._store.set(_NOTE_KEY, {})


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return a hash that tells whether two tries want the same settings, those of :meth:`.Change.update`."""
    text = json.dumps(dict(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
