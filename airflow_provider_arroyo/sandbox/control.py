"""``/sandbox/…``: what the sandbox offers besides Arroyo's API, and its page."""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from . import fault_types
from .api import Api
from .faults import Faults
from .http_server import HttpRequest
from .messages import RefusedError, Response, json_response
from .records import Job
from .request_log import RequestLog

_PAGE = Path(__file__).with_name("page.html")
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'",
    "referrer-policy": "no-referrer",
}
_THERE_ARE = (
    "there are GET /sandbox, GET /sandbox/overview, GET /sandbox/pipelines/{id}, GET /sandbox/not_judged, "
    "GET and DELETE /sandbox/requests, GET, POST and DELETE /sandbox/faults, DELETE /sandbox/faults/{id}, "
    "POST /sandbox/release, POST /sandbox/advance"
)
_SHOWN_PIPELINES = 200
_SHOWN = 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Responds to requests below ``/sandbox``, and for the page.

    A page of another origin can neither read nor change anything here: the ``Host`` must be local, and a body
    must be declared as JSON, which such a page cannot do.

    :param about: what the sandbox is.
    :param secrets: requests must have one of them; empty: none is needed.
    :param host: the address on which the sandbox listens.
    """

    about: Mapping[str, str]
    secrets: Sequence[str]
    host: str
    api: Api
    faults: Faults
    log: RequestLog

    def respond(self, request: HttpRequest) -> Response:
        """Respond to a request below ``/sandbox``."""
        parts = [unquote(part) for part in request.path.split("/") if part][1:]
        try:
            if not self._is_local(request.headers.get("host", "")):
                words = "use localhost, 127.0.0.1 or the machine's address"
                raise RefusedError(403, f"the Host of this request is not local: {words}")
            if not self._may_ask(request.headers.get("authorization", "").removeprefix("Bearer ")):
                words = "send it, or the token of its page, as Authorization: Bearer …"
                raise RefusedError(401, f"this sandbox has an API key: {words}")
            return json_response(self._result(request, parts))
        except RefusedError as refused:
            return refused.response
        except ValueError as error:
            return json_response({"error": str(error)}, 400)

    def page(self, request: HttpRequest) -> Response:
        """Return the page, which is the same for all paths: its script requests what the path names."""
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"", None, {"allow": "GET,HEAD"})
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not self._may_ask(given or parse_qs(request.query).get("token", [""])[0]):
            return Response(401, b"", None)
        return Response(200, _PAGE.read_bytes(), "text/html; charset=utf-8", _PAGE_HEADERS)

    def _may_ask(self, given: str) -> bool:
        matches = [hmac.compare_digest(given.encode(), secret.encode()) for secret in self.secrets]
        return any(matches) or not matches

    def _is_local(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            # The Host of a request from another site's page is that site's name, not an address.
            return name in ("localhost", self.host) or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _result(self, request: HttpRequest, parts: list[str]) -> Any:
        faults = self.faults
        match request.method, parts:
            case "GET", []:
                return self.about
            case "GET", ["overview"]:
                return self._overview(parse_qs(request.query).get("from", ["0"])[0])
            case "GET", ["pipelines", pipeline_id]:
                return self._pipeline(pipeline_id)
            case "GET", ["not_judged"]:
                return {"data": [dataclasses.asdict(item) for item in list(self.api.not_judged)]}
            case "GET", ["requests"]:
                return self._requests(parse_qs(request.query))
            case "DELETE", ["requests"]:
                self.log.clear()
            case "GET", ["faults"]:
                return {"kinds": _kinds(), "pending": faults.pending()}
            case "POST", ["faults"]:
                return {"id": faults.add(fault_types.parse(_fields(request), from_outside=True))}
            case "DELETE", ["faults"]:
                faults.clear()
            case "DELETE", ["faults", number] if number.isdecimal():
                if not faults.remove(int(number)):
                    raise RefusedError(404, f"there is no fault with the id {number} that is not used up")
            case "POST", ["release"]:
                faults.release(str(_fields(request).get("pipeline", "*")))
            case "POST", ["advance"]:
                return self._advance(_fields(request).get("seconds"))
            case _:
                raise RefusedError(404, f"{request.method} /sandbox/{'/'.join(parts)}: {_THERE_ARE}")
        return {"ok": True}

    def _advance(self, seconds: Any) -> dict[str, Any]:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
            raise ValueError(f"seconds: must be a number, not below 0, not {seconds!r}")
        self.api.engine.clock.advance(seconds)
        with self.api.store.lock:
            return {"now_micros": self.api.engine.advance()}

    def _requests(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        method, path = (query.get(name, [None])[0] for name in ("method", "path"))
        found = self.log.find(method, path)
        shown = [dataclasses.asdict(item) for item in found[-1000:]]
        for item in shown:
            item["body"] = self.log.masked(item["body"].decode("utf-8", "replace"))
        return {"total": self.log.total, "count": len(found), "data": shown}

    def _overview(self, first: str) -> dict[str, Any]:
        if not (first.isascii() and first.isdecimal() and len(first) < 10):
            raise ValueError(f"from: must be how many pipelines to leave out, not {first!r}")
        with self.api.store.lock:
            self.api.engine.advance()
            listed = self.api.store.listed()
            shown = [_summary(job) for job in listed[int(first) : int(first) + _SHOWN_PIPELINES]]
        last = list(self.log)[: -_SHOWN - 1 : -1]
        requests = [
            {"method": item.method, "path": item.path, "status": item.status, "time": item.time_micros}
            for item in last
        ]
        not_judged = list(self.api.not_judged)[: -_SHOWN - 1 : -1]
        return {
            "total": len(listed),
            "pipelines": shown,
            "not_judged": [dataclasses.asdict(item) for item in not_judged],
            "requests": {"total": self.log.total, "last": requests},
        }

    def _pipeline(self, pipeline_id: str) -> dict[str, Any]:
        with self.api.store.lock:
            self.api.engine.advance()
            job = self.api.store.job_of(pipeline_id)
            if job is None:
                raise RefusedError(404, f"there is no pipeline with the id {pipeline_id}")
            not_judged = (item.what for item in self.api.not_judged if item.query == job.pipeline.query)
            return {
                **_summary(job),
                "query": job.pipeline.query,
                "parallelism": job.wanted.parallelism,
                "tags": job.pipeline.tags,
                "checkpoints": [
                    {**dataclasses.asdict(item), "done": done}
                    for item, done in self.api.engine.checkpoints(job)[: -_SHOWN - 1 : -1]
                ],
                "errors": job.errors[: -_SHOWN - 1 : -1],
                "not_judged": next(not_judged, ()),
            }


def _kinds() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the fields of each kind of fault, with their defaults and choices."""
    return {
        kind: {
            name: {"default": field.default, "choices": field.choices} for name, field in about.fields.items()
        }
        for kind, about in fault_types.KINDS.items()
    }


def _summary(job: Job) -> dict[str, Any]:
    shown = {name: getattr(job, name) for name in ("id", "state", "run_id", "failure")}
    shown |= {"running_desired": job.wanted.stop == "none", "since": job.entered or job.created_at}
    return {"id": job.pipeline.id, "name": job.pipeline.name, "job": shown}


def _fields(request: HttpRequest) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "the body must be sent with Content-Type: application/json")
    try:
        value = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("the body must be a JSON object")
    return value
