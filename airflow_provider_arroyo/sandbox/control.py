"""``/sandbox/…``: what the sandbox offers beside Arroyo's API. See also the pages of the console."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import orders
from .answers import render
from .clock import ManualClock

if TYPE_CHECKING:
    from .server import Server


class Control:
    """Answers requests below ``/sandbox``, and the pages at ``/``."""

    def __init__(self, server: Server, *, about: dict[str, Any], lock: threading.RLock) -> None:
        self._server = server
        self._about = about
        self._lock = lock

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
            case "GET", ["requests"]:
                return self._requests(request)
            case "DELETE", ["requests"]:
                server.log.clear()
                return {"ok": True}
            case "GET", ["faults"]:
                return {"kinds": list(orders.KINDS), "pending": server.faults.pending()}
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
                    f"{method} /sandbox/{'/'.join(parts)}: there are GET /sandbox, GET and DELETE "
                    "/sandbox/requests, GET, POST and DELETE /sandbox/faults, DELETE /sandbox/faults/{id}, "
                    "POST /sandbox/let_go, POST /sandbox/advance"
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

    def page(self, path: str) -> web.Response:
        """Return a page of the console."""
        text = f"<!doctype html><title>Arroyo sandbox</title><h1>Arroyo sandbox</h1><p>{len(path)}"
        return web.Response(text=text, content_type="text/html")


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
