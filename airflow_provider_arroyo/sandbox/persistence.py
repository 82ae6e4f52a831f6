"""``data``: keeps what the sandbox holds in a file, so that a demo can be stopped and continued.

A sandbox that starts with kept data is like a server that was restarted: it schedules what was running again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import runs
from .engine import Engine
from .records import Checkpoint, Job, Pipeline, Wanted
from .sql import Sink, Source

_log = logging.getLogger(__name__)
_FORMAT = 5
_PAUSE_SECONDS = 0.5
_MAX_SHARE_OF_TIME = 0.1
_OTHERS = ("tables", "profiles", "udfs")
# Caches, back references and faults.
_NOT_KEPT = {"rendered", "job", "pipeline", "state_before_hold"} | {
    *("flap", "never_starts", "kafka_away", "picked_up_at", "traffic"),
}


class Persistence:
    """Writes changes in a thread, so that no request waits for the disk.

    The file has a line of JSON about what wrote it, one with everything but the pipelines, one for each pipeline,
    and a checksum of all these.

    :param folder: the folder of the file ``sandbox.json``; it is created if it is missing, and locked.
    :param engine: the engine whose records are kept, and loaded now.
    :raises ValueError: if the folder cannot be used, or the file is damaged or of another version.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._file = folder / "sandbox.json"
        self._about = {"format": _FORMAT, "arroyo_version": engine.version}
        self._engine = engine
        self._store = engine.store
        self._written: object = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="arroyo-sandbox-persistence", daemon=True)
        self._unlock: Any = lambda: None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            self._unlock = weakref.finalize(self, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._file.exists():
                if not self._file.is_file():
                    raise OSError(f"{self._file} is not a file")
                self._load(self._file.read_bytes())
                self._file.with_suffix(".new").touch()  # fails if the folder is read-only
            else:
                self._write()
        except OSError as error:
            self._unlock()
            problem = f"cannot be used: {error}"
            if isinstance(error, BlockingIOError):
                problem = "is in use by another sandbox; end that one, or name another folder"
            raise ValueError(f"data: {folder} {problem}") from error
        except ValueError:
            self._unlock()
            raise

    def _load(self, kept: bytes) -> None:
        content, newline, checksum = kept.rpartition(b"\n")
        if hashlib.sha256(content + newline).hexdigest().encode() != checksum:
            raise self._refused("is damaged (its checksum is wrong); name another folder, or delete the file")
        try:
            about, others, *pipelines = map(json.loads, content.split(b"\n"))
            number, version = about["format"], about["arroyo_version"]
            if about == self._about:
                self._restore(others, pipelines)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise self._refused(f"is damaged ({reason}); name another folder, or delete the file") from error
        if number != _FORMAT:
            found = f"has the format {number}, and this version of the sandbox reads {_FORMAT}"
            raise self._refused(f"{found}; name another folder, or use the version that wrote it")
        if version != self._engine.version:
            found = f"holds what a sandbox of Arroyo {version} kept"
            raise self._refused(f"{found}; name another folder, or arroyo_version {version}")

    def _refused(self, problem: str) -> ValueError:
        return ValueError(f"data: {self._file} {problem}")

    def _restore(self, others: Mapping[str, Any], pipelines: list[Mapping[str, Any]]) -> None:
        self._store.pipelines.update({value["id"]: _pipeline(value) for value in pipelines})
        for kind in _OTHERS:
            getattr(self._store, kind).update({value["id"]: value for value in others[kind]})
        for job in self._store.jobs():
            # Nothing happened while the sandbox was not running.
            runs.end(job, min(others["saved_at"], self._engine.now), self._engine.rng)
        self._engine.stop_controller()
        self._engine.start_controller()

    def start(self) -> None:
        """Start the thread that writes changes."""
        self._thread.start()

    def close(self) -> None:
        """Write the last changes, and unlock the folder.

        :raises OSError: if they cannot be written.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        # New checkpoints do not count as changes.
        self._written = None
        try:
            self._write()
        finally:
            self._unlock()

    def _run(self) -> None:
        pause, is_failing = _PAUSE_SECONDS, False
        while not self._ended.wait(pause):
            began = time.monotonic()
            # A full disk must not end the sandbox; the next write includes what this one could not.
            try:
                self._write()
                is_failing = False
            except OSError as error:
                if not is_failing:
                    _log.warning("Changes cannot be kept, and are tried again: %s", error)
                is_failing = True
            pause = max(_PAUSE_SECONDS, (time.monotonic() - began) / _MAX_SHARE_OF_TIME)

    def _write(self) -> None:
        with self._store.lock:
            others = {kind: list(getattr(self._store, kind).values()) for kind in _OTHERS}
            pipelines = list(self._store.pipelines.values())
            state = (self._engine.changes, len(pipelines), json.dumps(others))
        if state == self._written:
            return
        lines = [json.dumps(self._about), json.dumps(others | {"saved_at": self._engine.now})]
        for pipeline in pipelines:
            # The lock is held for one pipeline at a time, so that requests can come in between.
            with self._store.lock:
                lines.append(json.dumps(_fields(pipeline) | {"job": _kept(pipeline.job)}, default=_fields))
        content = ("\n".join(lines) + "\n").encode()
        unfinished = self._file.with_suffix(".new")
        unfinished.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
        unfinished.replace(self._file)
        self._written = state


def _kept(job: Job | None) -> dict[str, Any] | None:
    return None if job is None else _fields(job) | {"state": job.state_before_hold or job.state}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__ if name not in _NOT_KEPT}


def _pipeline(value: Mapping[str, Any]) -> Pipeline:
    pipeline = Pipeline(**{**value, "job": None})
    pipeline.sources = tuple(Source(**one) for one in value["sources"])
    pipeline.sinks = tuple(Sink(**{**one, "columns": tuple(one["columns"])}) for one in value["sinks"])
    if (fields := value["job"]) is not None:
        job = pipeline.job = Job(**fields, pipeline=pipeline)
        job.wanted, job.seen = Wanted(**fields["wanted"]), Wanted(**fields["seen"])
        job.checkpoints = [Checkpoint(**one) for one in fields["checkpoints"]]
        job.failure = fields["failure"] and tuple(fields["failure"])
    return pipeline
