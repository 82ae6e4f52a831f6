"""``data``: what the sandbox holds, kept in a file, so that a demo can be stopped and go on.

A sandbox that starts on kept data is a server that was started again: what was running is scheduled anew.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import json
import os
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from airflow_provider_arroyo.client.models import JobState, StopMode

from . import responses, runs
from .engine import Engine
from .planning import plan
from .records import INTERVAL_RANGE_MICROS, Job, Pipeline

_FORMAT = 3
_PAUSE_SECONDS = 0.5
# Of the time, at most this part goes into writing.
_SHARE = 0.1
_DATED: Mapping[str, type] = {"id": str, "created_at": int}
_OTHERS: Mapping[str, Mapping[str, type]] = {
    "tables": {**_DATED, "name": str},
    "profiles": {"id": str, "name": str},
    "udfs": {**_DATED, "name": str, "definition": str},
}
# Caches, what refers back, and faults.
_NOT_KEPT = {"rendered", "job", "pipeline", "state_before_hold"} | {
    *("flap", "never_starts", "kafka_away", "picked_up_at", "traffic"),
}


class Persistence:
    """Writes what changed, from a thread of its own: nobody waits for the disk.

    :param folder: where the file ``sandbox.json`` lies; made where it is missing. No other sandbox may use it.
    :param engine: what it keeps; the records of another version of Arroyo are not read.
    :raises ValueError: where the folder cannot be used, is damaged, or holds something else.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._file = folder / "sandbox.json"
        self._about = {"format": _FORMAT, "arroyo_version": engine.version}
        self._engine = engine
        self._store = engine.store
        self._written: object = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._unlock: Any = lambda: None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            self._unlock = weakref.finalize(self, os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._file.exists():
                self._load(json.loads(self._file.read_text("utf-8")))
                self._file.with_suffix(".new").touch()  # can it be written?
            else:
                self._write()
        except BlockingIOError as error:
            self._unlock()
            raise ValueError(
                f"data: {folder} is in use by another sandbox; end that one, or name another folder"
            ) from error
        except OSError as error:
            self._unlock()
            raise ValueError(f"data: {folder} cannot be used: {error}") from error
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            self._unlock()
            if str(error).startswith("data: "):
                raise
            raise ValueError(
                f"data: {self._file} is damaged ({error!r}); name another folder, or delete the file"
            ) from error

    def _load(self, kept: Mapping[str, Any]) -> None:
        store = self._store
        if {name: kept[name] for name in self._about} != self._about:
            raise ValueError(
                f"data: {self._file} holds what a sandbox of Arroyo {kept['arroyo_version']} kept (format "
                f"{kept['format']}, this one reads {_FORMAT}); name another folder, or that version"
            )
        for value in kept["pipelines"]:
            store.add(_pipeline(value))
        for kind, shape in _OTHERS.items():
            _check_shapes(kept[kind], shape)
            getattr(store, kind).update({value["id"]: value for value in kept[kind]})
        if any(len(getattr(store, kind)) != len(kept[kind]) for kind in (*_OTHERS, "pipelines")):
            raise ValueError("it holds an id twice")
        for job in store.jobs():
            # What it did while the sandbox was off, it did not do.
            runs.end(job, min(int(kept["saved_at"]), self._engine.now), self._engine.rng)
            # All that was read is used once: what cannot be used would break every response later.
            responses.pipeline(job, self._engine.version)
        plan(self._engine, "SELECT 1")
        self._engine.stop_controller()
        self._engine.start_controller()

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="arroyo-sandbox-persistence", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, and unlock the folder."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        # Checkpoints come with time, without a change.
        self._written = None
        try:
            self._write()
        finally:
            self._unlock()

    def _run(self) -> None:
        pause = _PAUSE_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            # A full disk must not end the sandbox; what could not be written is tried again.
            with suppress(OSError):
                self._write()
            pause = max(_PAUSE_SECONDS, (time.monotonic() - began) / _SHARE)

    def _write(self) -> None:
        with self._store.lock:
            others = json.dumps({kind: list(getattr(self._store, kind).values()) for kind in _OTHERS})
            pipelines = list(self._store.pipelines.values())
            state = (self._engine.changes, len(pipelines), others)
        if state == self._written:
            return
        unfinished = self._file.with_suffix(".new")
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(f'{json.dumps(self._about)[:-1]}, {others[1:-1]}, "pipelines": [')
            for number, pipeline in enumerate(pipelines):
                # One by one: a request waits for none but this.
                with self._store.lock:
                    text = json.dumps(_kept(pipeline), default=_plain)
                file.write(f", {text}" if number else text)
            file.write(f'], "saved_at": {self._engine.now}}}')
        unfinished.replace(self._file)
        self._written = state


def _kept(pipeline: Pipeline) -> dict[str, Any]:
    job = pipeline.job
    if job is None:
        return _fields(pipeline) | {"job": None}
    return _fields(pipeline) | {"job": _fields(job) | {"state": job.state_before_hold or job.state}}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__ if name not in _NOT_KEPT}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else _fields(value)


def _pipeline(value: Mapping[str, Any]) -> Pipeline:
    kept = dict(value)
    fields = kept.pop("job")
    pipeline: Pipeline = _record(Pipeline, kept)
    if fields is None:
        return pipeline
    job: Job = _record(Job, fields, pipeline=pipeline)
    JobState(job.state)
    StopMode(job.wanted.stop)
    low, high = INTERVAL_RANGE_MICROS
    if any(
        item and not low <= item <= high for item in (job.wanted.interval_micros, job.seen.interval_micros)
    ):
        raise ValueError("a checkpoint interval is out of range")
    _check_shapes(job.errors, _DATED)
    _check_shapes(pipeline.graph["nodes"], {"node_id": int, "operator": str, "description": str})
    _check_shapes(pipeline.graph["edges"], {"src_id": int, "dest_id": int})
    pipeline.job = job
    return pipeline


def _check_shapes(records: list[dict[str, Any]], shape: Mapping[str, type]) -> None:
    for value in records:
        for name, kind in shape.items():
            _read(kind, value[name])


def _record(kind: Any, value: Mapping[str, Any], **given: Any) -> Any:
    hints = _hints(kind)
    return kind(**{name: _read(hints[name], part) for name, part in value.items()}, **given)


_hints = functools.cache(get_type_hints)


def _read(hint: Any, value: Any) -> Any:
    """Return what was read from JSON as what an annotation says.

    :raises TypeError: it is something else.
    """
    if type(value) is hint:
        return value
    made, parts = _parts(hint)
    if hint is Any or (value is None and NoneType in parts):
        return value
    if NoneType in parts:
        return _read(parts[0], value)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _record(hint, value)
    if made in (list, tuple, frozenset) and isinstance(value, list):
        kinds = parts if made is tuple and ... not in parts else parts[:1] * len(value)
        return made(_read(kind, part) for kind, part in zip(kinds, value, strict=True))
    if made is not None and issubclass(made, Mapping) and isinstance(value, dict):
        return {name: _read(parts[1], part) for name, part in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    raise TypeError(f"{value!r:.80} is not {hint}")


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)
