"""``--data``: what the sandbox holds, kept on disk in SQLite, so that a demo can be stopped and go on.

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

from . import running
from .engine import Engine
from .records import Checkpoint, Job, Pipeline, Source, Wanted
from .store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (kind TEXT, id TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, id));
"""
_FORMAT = "1"
_PAUSE_SECONDS = 0.5


class Keeper:
    """Writes what changed, from a thread of its own: nobody waits for the disk.

    :param folder: where the file ``sandbox.sqlite`` lies; made where it is missing.
    :param version: whose records they are; another version's are not read.
    :raises ValueError: where the folder cannot be used, or holds something else.
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
            self._database.executescript(_SCHEMA)
            about = dict(self._database.execute("SELECT name, value FROM about"))
            if about and (about.get("format"), about.get("version")) != (_FORMAT, version):
                raise ValueError(
                    f"data: {folder} holds what a sandbox of Arroyo {about.get('version')} kept; "
                    "start that version, or name another folder"
                )
            self._database.executemany(
                "INSERT OR REPLACE INTO about VALUES (?, ?)", [("format", _FORMAT), ("version", version)]
            )
            self._database.commit()
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"data: {folder} cannot be used: {error}") from error

    def load(self) -> None:
        """Take in what was kept, and let the controller find it.

        :raises ValueError: where a record cannot be read.
        """
        rows = list(self._database.execute("SELECT kind, id, value FROM kept ORDER BY rowid"))
        about = dict(self._database.execute("SELECT name, value FROM about"))
        saved_at = int(about.get("saved_at", 0))
        try:
            for kind, record_id, text in rows:
                self._keys.add((kind, record_id))
                value = json.loads(text)
                if kind == "pipeline":
                    self._store.add(_pipeline(value))
                else:
                    getattr(self._store, kind)[record_id] = value
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"data: a kept {kind} cannot be read: {error!r}") from error
        jobs = list(self._store.jobs())
        for job in jobs:
            # What it did while the sandbox was off, it did not do.
            running.end(job, min(saved_at, self._engine.now), self._engine.rng)
        sequences = [job.sequence for job in jobs]
        self._store.number_on_from(max(sequences, default=0))
        self._engine.controller_goes(jobs)
        self._engine.controller_comes(jobs)

    def start(self) -> None:
        """Begin to write."""
        self._engine.on_touch = self._touch
        self._touched |= set(self._store.pipelines)
        self._thread = threading.Thread(target=self._run, name="arroyo-sandbox-keeper", daemon=True)
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
            touched, self._touched = self._touched, set()
            there = {("pipeline", pipeline_id) for pipeline_id in self._store.pipelines}
            new = {key[1] for key in there - self._keys} | touched
            texts = {
                ("pipeline", pipeline_id): json.dumps(_kept(self._store.pipelines[pipeline_id]))
                for pipeline_id in new
                if pipeline_id in self._store.pipelines
            }
            for kind in ("tables", "profiles", "udfs"):
                records = getattr(self._store, kind)
                there |= {(kind, record_id) for record_id in records}
                texts |= {
                    (kind, record_id): json.dumps(value)
                    for record_id, value in records.items()
                    if (kind, record_id) not in self._keys
                }
        gone = self._keys - there
        if not texts and not gone and not self._ended.is_set():
            return
        try:
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)",
                    [(*key, text) for key, text in texts.items()],
                )
                self._database.executemany("DELETE FROM kept WHERE kind = ? AND id = ?", list(gone))
                self._database.execute("INSERT OR REPLACE INTO about VALUES ('saved_at', ?)", (str(now),))
        except sqlite3.Error:
            with self._lock:
                self._touched |= touched
            raise
        self._keys = there

    def _touch(self, pipeline_id: str) -> None:
        self._touched.add(pipeline_id)


_NOT_KEPT = frozenset({"rendered", "job", "pipeline", "held", "state_before_hold", "flap", "never_starts"})


def _kept(pipeline: Pipeline) -> dict[str, Any]:
    kept = _fields(pipeline)
    kept["tables"] = sorted(pipeline.tables)
    kept["job"] = None if pipeline.job is None else _fields(pipeline.job)
    return kept


def _fields(record: Any) -> dict[str, Any]:
    values = {}
    for item in dataclasses.fields(record):
        if item.name in _NOT_KEPT:
            continue
        value = getattr(record, item.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        elif isinstance(value, list | tuple):
            value = [dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part for part in value]  # type: ignore[arg-type]  # a list holds no classes
        values[item.name] = value
    return values


def _pipeline(value: Mapping[str, Any]) -> Pipeline:
    kept = dict(value)
    job = kept.pop("job")
    kept["sources"] = tuple(Source(**source) for source in kept["sources"])
    kept["sinks"] = tuple(kept["sinks"])
    kept["columns"] = tuple(kept["columns"])
    kept["tables"] = frozenset(kept["tables"])
    pipeline = Pipeline(**kept)
    if job is not None:
        job["wanted"] = Wanted(**job["wanted"])
        job["checkpoints"] = [Checkpoint(**item) for item in job["checkpoints"]]
        job["seen_env"] = tuple(job["seen_env"])
        job["failure"] = job["failure"] and tuple(job["failure"])
        pipeline.job = Job(pipeline=pipeline, **job)
    return pipeline
