"""``data``: what the sandbox holds, kept in a file, so that a demo can be stopped and go on.

A sandbox that starts on kept data is a server that was started again: what was running is scheduled anew.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import runs
from .engine import Engine
from .records import Checkpoint, Job, Pipeline, Source, Wanted
from .store import Store

_FORMAT = 2
_PAUSE_SECONDS = 0.5
_OTHERS = ("tables", "profiles", "udfs")
# Caches, what refers back, and faults.
_NOT_KEPT = {"rendered", "job", "pipeline", "held", "state_before_hold", "flap"} | {
    "never_starts",
    "kafka_away",
    "picked_up_at",
}


class Persistence:
    """Writes what changed, from a thread of its own: nobody waits for the disk.

    :param folder: where the file ``sandbox.json`` lies; made where it is missing.
    :param version: of Arroyo, whose records they are; another version's are not read.
    :raises ValueError: where the folder cannot be used, is damaged, or holds something else.
    """

    def __init__(self, folder: Path, *, version: str, engine: Engine, store: Store) -> None:
        self._file = folder / "sandbox.json"
        self._about = {"format": _FORMAT, "arroyo_version": version}
        self._engine = engine
        self._store = store
        self._written = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._file.exists():
                self._load(json.loads(self._file.read_text("utf-8")))
            self._write()
        except OSError as error:
            raise ValueError(f"data: {folder} cannot be used: {error}") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            if str(error).startswith("data: "):
                raise
            raise ValueError(
                f"data: {self._file} is damaged ({error!r}); name another folder, or delete the file"
            ) from error

    def _load(self, kept: Mapping[str, Any]) -> None:
        if {name: kept[name] for name in self._about} != self._about:
            raise ValueError(
                f"data: {self._file} holds what a sandbox of Arroyo {kept['arroyo_version']} kept (format "
                f"{kept['format']}, this one reads {_FORMAT}); name another folder, or that version"
            )
        for value in kept["pipelines"]:
            self._store.add(_pipeline(value))
        for kind in _OTHERS:
            getattr(self._store, kind).update({value["id"]: value for value in kept[kind]})
        jobs = list(self._store.jobs())
        for job in jobs:
            # What it did while the sandbox was off, it did not do.
            runs.end(job, min(int(kept["saved_at"]), self._engine.now), self._engine.rng)
        self._store.continue_sequence(max((job.sequence for job in jobs), default=0))
        self._engine.stop_controller(jobs)
        self._engine.start_controller(jobs)

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="arroyo-sandbox-persistence", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)
        self._write()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            # A full disk must not end the sandbox; what could not be written is tried again.
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        with self._store.lock:
            records = {kind: list(getattr(self._store, kind).values()) for kind in _OTHERS}
            records["pipelines"] = [_kept(pipeline) for pipeline in self._store.pipelines.values()]
            text = json.dumps(records)
        if text != self._written:
            now = {"saved_at": self._engine.now}
            unfinished = self._file.with_suffix(".new")
            unfinished.write_text(json.dumps(self._about | now)[:-1] + ", " + text[1:], "utf-8")
            unfinished.replace(self._file)
            self._written = text


def _kept(pipeline: Pipeline) -> dict[str, Any]:
    job = pipeline.job
    return _fields(pipeline) | {"job": None if job is None else _fields(job)}


def _fields(record: Pipeline | Job) -> dict[str, Any]:
    names = (item.name for item in dataclasses.fields(record))
    return {name: _plain(getattr(record, name)) for name in names if name not in _NOT_KEPT}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _pipeline(value: Mapping[str, Any]) -> Pipeline:
    kept = dict(value)
    job = kept.pop("job")
    kept["sources"] = tuple(Source(**source) for source in kept["sources"])
    kept["sinks"], kept["columns"] = tuple(kept["sinks"]), tuple(kept["columns"])
    kept["tables"] = frozenset(kept["tables"])
    pipeline = Pipeline(**kept)
    if job is not None:
        job["wanted"] = Wanted(**job["wanted"])
        job["checkpoints"] = [Checkpoint(**item) for item in job["checkpoints"]]
        job["seen"] = Wanted(**job["seen"])
        job["failure"] = job["failure"] and tuple(job["failure"])
        pipeline.job = Job(pipeline=pipeline, **job)
    for text in (pipeline.id, pipeline.name, pipeline.query):
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
    return pipeline
