"""``data``: what the sandbox holds, kept on disk in SQLite, so that a demo can be stopped and go on.

A sandbox that starts on kept data is a server that was started again: what was running is scheduled anew.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from . import runs
from .engine import Engine
from .records import Checkpoint, Job, Pipeline, Source, Wanted
from .store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (kind TEXT, id TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, id));
"""
_FORMAT = "2"
_PAUSE_SECONDS = 0.5
_OTHERS = ("tables", "profiles", "udfs")
# Caches, what refers back, and faults.
_NOT_KEPT = {"rendered", "job", "pipeline"} | {
    "held",
    "state_before_hold",
    "flap",
    "never_starts",
    "kafka_away",
    "picked_up_at",
}


class Persistence:
    """Writes what changed, from a thread of its own: nobody waits for the disk.

    :param folder: where the file ``sandbox.sqlite`` lies; made where it is missing.
    :param version: of Arroyo, whose records they are; another version's are not read.
    :raises ValueError: where the folder cannot be used, is damaged, or holds something else.
    """

    def __init__(
        self, folder: Path, *, version: str, engine: Engine, store: Store, lock: AbstractContextManager[Any]
    ) -> None:
        self._engine = engine
        self._store = store
        self._lock = lock
        self._keys: set[tuple[str, str]] = set()
        self._touched: set[str] = set()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / "sandbox.sqlite", check_same_thread=False, timeout=1)
            self._load(folder, version)
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"data: {folder} cannot be used: {error}") from error

    def _load(self, folder: Path, version: str) -> None:
        self._database.executescript(_SCHEMA)
        about = dict(self._database.execute("SELECT name, value FROM about"))
        if about and (about.get("format"), about.get("version")) != (_FORMAT, version):
            raise ValueError(
                f"data: {folder} holds what a sandbox of Arroyo {about.get('version')} kept "
                f"(format {about.get('format')}, this one reads {_FORMAT}); name another folder, or that version"
            )
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO about VALUES (?, ?)", [("format", _FORMAT), ("version", version)]
            )
        for kind, record_id, text in self._database.execute(
            "SELECT kind, id, value FROM kept ORDER BY rowid"
        ):
            self._keys.add((kind, record_id))
            try:
                value = json.loads(text)
                if kind == "pipeline":
                    self._store.add(_pipeline(value))
                elif kind in _OTHERS:
                    getattr(self._store, kind)[record_id] = dict(value)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"data: {folder} is damaged, the {kind} {record_id} cannot be read ({error!r}); "
                    "name another folder, or delete this one"
                ) from error
        jobs = list(self._store.jobs())
        saved_text = about.get("saved_at", "0")
        saved_at = min(int(saved_text) if saved_text.isdecimal() else 0, self._engine.now)
        for job in jobs:
            # What it did while the sandbox was off, it did not do.
            runs.end(job, saved_at, self._engine.rng)
        self._store.continue_sequence(max((job.sequence for job in jobs), default=0))
        self._engine.stop_controller(jobs)
        self._engine.start_controller(jobs)

    def start(self) -> None:
        """Begin to write."""
        self._engine.on_touch = self._touched.add
        self._touched |= set(self._store.pipelines)
        self._thread = threading.Thread(target=self._run, name="arroyo-sandbox-persistence", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)
        self._write()
        self._database.close()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            # A full disk must not end the sandbox; what could not be written is tried again.
            with suppress(sqlite3.Error):
                self._write()

    def _write(self) -> None:
        with self._lock:
            now = self._engine.now
            pipelines = self._store.pipelines
            keys = {("pipeline", pipeline_id) for pipeline_id in pipelines}
            touched = {key[1] for key in keys - self._keys} | self._touched
            self._touched.clear()
            rows = [
                ("pipeline", pipeline_id, json.dumps(_kept(pipelines[pipeline_id])))
                for pipeline_id in touched & set(pipelines)
            ]
            for kind in _OTHERS:
                for record_id, value in getattr(self._store, kind).items():
                    keys.add((kind, record_id))
                    if (kind, record_id) not in self._keys:
                        rows.append((kind, record_id, json.dumps(value)))
        gone = self._keys - keys
        if not rows and not gone and not self._ended.is_set():
            return
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
                self._database.executemany("DELETE FROM kept WHERE kind = ? AND id = ?", list(gone))
                self._database.execute("INSERT OR REPLACE INTO about VALUES ('saved_at', ?)", (str(now),))
        except sqlite3.Error:
            with self._lock:
                self._touched |= touched
            raise
        self._keys = keys


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
        job["seen_env"] = tuple(job["seen_env"])
        job["failure"] = job["failure"] and tuple(job["failure"])
        pipeline.job = Job(pipeline=pipeline, **job)
    for text in (pipeline.id, pipeline.name, pipeline.query):
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
    return pipeline
