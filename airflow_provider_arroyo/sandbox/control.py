"""``/sandbox/…``: what the sandbox offers beside Arroyo's API. See also the pages of the console."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web

from . import orders, running
from .answers import render
from .clock import ManualClock
from .records import Pipeline

if TYPE_CHECKING:
    from .server import Server


_PAGE = Path(__file__).with_name("console.html")
_SHOWN_PIPELINES = 200
_SHOWN_REQUESTS = 12
_SHOWN_CHECKPOINTS = 20


class Control:
    """Answers requests below ``/sandbox``, and the pages at ``/``."""

    def __init__(self, server: Server, *, about: dict[str, Any], lock: threading.RLock) -> None:
        self._server = server
        self._about = about
        self._lock = lock
        self._page = _PAGE.read_text("utf-8")

    async def answer(self, request: web.Request, path: str) -> web.Response:
        """Answer a request below ``/sandbox``."""
        parts = [part for part in path.split("/") if part][1:]
        try:
            result = await self._result(request, request.method, parts)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        except LookupError as error:
            return _json({"error": str(error.args[0])}, 404)
        return _json(result)

    async def _result(self, request: web.Request, method: str, parts: list[str]) -> Any:
        server = self._server
        match method, parts:
            case "GET", []:
                return self._about
            case "GET", ["overview"]:
                return self._overview()
            case "GET", ["pipelines", pipeline_id]:
                return self._pipeline(unquote(pipeline_id))
            case "GET", ["requests"]:
                return self._requests(request)
            case "DELETE", ["requests"]:
                server.log.clear()
                return {"ok": True}
            case "GET", ["faults"]:
                return {"kinds": orders.choices(), "pending": server.faults.pending()}
            case "POST", ["faults"]:
                return {"id": self._order(await _fields(request))}
            case "DELETE", ["faults"]:
                server.faults.clear()
                return {"ok": True}
            case "DELETE", ["faults", number] if number.isdecimal():
                if not server.faults.take_back(int(number)):
                    raise LookupError(f"there is no fault with the id {number} that is not used up")
                return {"ok": True}
            case "POST", ["let_go"]:
                server.faults.let_go(str((await _fields(request)).get("pipeline", "*")))
                return {"ok": True}
            case "POST", ["advance"]:
                return self._advance(await _fields(request))
            case _:
                raise LookupError(
                    f"{method} /sandbox/{'/'.join(parts)}: there are GET /sandbox, GET /sandbox/overview, "
                    "GET /sandbox/pipelines/{id}, GET and DELETE /sandbox/requests, GET, POST and DELETE "
                    "/sandbox/faults, DELETE /sandbox/faults/{id}, POST /sandbox/let_go, POST /sandbox/advance"
                )

    def _order(self, fields: dict[str, Any]) -> int:
        order = orders.parse(fields)
        if isinstance(order, orders.ApiAway) and order.seconds is None:
            raise ValueError("seconds: over HTTP it must be given, or nothing could bring the API back")
        return self._server.faults.put(order)

    def _advance(self, fields: dict[str, Any]) -> dict[str, Any]:
        clock = self._server.engine.clock
        seconds = fields.get("seconds")
        if not isinstance(clock, ManualClock):
            raise ValueError("the clock of this sandbox moves by itself; start it with a manual clock")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise ValueError(f"seconds: must be a number, not below 0, not {seconds!r}")
        with self._lock:
            clock.advance(seconds)
            return {"now_micros": self._server.engine.advance()}

    def _requests(self, request: web.Request) -> dict[str, Any]:
        log = self._server.log
        found = log.find(request.query.get("method"), request.query.get("path"))
        return {
            "total": log.total,
            "count": len(found),
            "data": [
                {
                    "method": item.method,
                    "path": item.path,
                    "query": item.query,
                    "headers": dict(item.headers),
                    "body": item.body.decode("utf-8", "replace"),
                    "time": item.time_micros,
                    "status": item.status,
                }
                for item in found[-1000:]
            ],
        }

    def _overview(self) -> dict[str, Any]:
        server = self._server
        with self._lock:
            server.engine.advance()
            listed = server.store.listed()
            shown = [_summary(pipeline) for pipeline in listed[:_SHOWN_PIPELINES]]
        last = list(server.log)[-_SHOWN_REQUESTS:]
        return {
            "total": len(listed),
            "pipelines": shown,
            "requests": {
                "total": server.log.total,
                "last": [
                    {
                        "method": item.method,
                        "path": item.path,
                        "status": item.status,
                        "time": item.time_micros,
                    }
                    for item in reversed(last)
                ],
            },
        }

    def _pipeline(self, pipeline_id: str) -> dict[str, Any]:
        server = self._server
        with self._lock:
            now = server.engine.advance()
            pipeline = server.store.whole(pipeline_id)
            if pipeline is None or (job := pipeline.job) is None:
                raise LookupError(f"there is no pipeline with the id {pipeline_id}")
            running.catch_up(job, now, server.engine.rng)
            checkpoints = [
                {**dataclasses.asdict(item), "done": item.finish <= now}
                for item in reversed(job.checkpoints[-_SHOWN_CHECKPOINTS:])
            ]
            return {
                **_summary(pipeline),
                "query": pipeline.query,
                "parallelism": job.wanted.parallelism,
                "checkpoints": checkpoints,
                "errors": job.errors[::-1][:_SHOWN_CHECKPOINTS],
            }

    def page(self) -> web.Response:
        """Return the page of the console: the same for all paths, its script asks for what the path names."""
        return web.Response(
            text=self._page,
            content_type="text/html",
            headers={
                "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
                "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'"
            },
        )


def _summary(pipeline: Pipeline) -> dict[str, Any]:
    job = pipeline.job
    if job is None:
        raise LookupError(f"the record {pipeline.id!r} is half-made")
    return {
        "id": pipeline.id,
        "name": pipeline.name,
        "job": {
            "id": job.id,
            "state": job.state,
            "run_id": job.run_id,
            "running_desired": job.wanted.stop == "none",
            "since": job.entered or job.created_at,
            "failure": job.failure,
        },
    }


async def _fields(request: web.Request) -> dict[str, Any]:
    text = (await request.content.read(1_000_000)).decode("utf-8", "replace")
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"the body must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")
    return value


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=render(value), content_type="application/json")
