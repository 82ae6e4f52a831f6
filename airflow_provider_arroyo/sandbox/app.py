"""From an HTTP request to its response: authorization, the request log, faults that hit requests."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, replace
from email.utils import formatdate

from . import preview
from .api import Api
from .control import Control
from .fault_types import Fault
from .faults import Faults
from .http_server import Connection, ConnectionGoneError, HttpRequest
from .messages import EMPTY, Response, json_response, render
from .records import Job
from .request_log import RequestLog

_log = logging.getLogger(__name__)
_CORS = {
    "vary": "origin, access-control-request-method, access-control-request-headers",
    "access-control-allow-origin": "*",
}
_ENDLESS_SECONDS = 0.02
_ENDLESS_CHUNK = b"[" * 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Handles requests to the API, to ``/sandbox`` and to the page.

    :param api_key: the static key that every request must carry; None: none is needed.
    """

    api: Api
    control: Control
    faults: Faults
    log: RequestLog
    api_key: str | None

    def handle(self, request: HttpRequest, connection: Connection) -> None:
        """Respond to a request, or apply a fault."""
        try:
            if request.path == "/sandbox" or request.path.startswith("/sandbox/"):
                self._send(connection, self.control.respond(request))
            elif request.path.startswith("/api"):
                self._handle_api(request, connection)
            else:
                self._send(connection, self.control.page(request))
        except (OSError, ConnectionGoneError):
            raise
        except Exception:  # noqa: BLE001  # a bug of the sandbox must be visible
            _log.exception("the sandbox broke down on %s %s", request.method, request.path)
            self._send(connection, json_response({"error": "the sandbox broke down: see its log"}, 500))

    def _send(self, connection: Connection, response: Response) -> None:
        headers = {
            "date": formatdate(self.api.engine.server_now // 1_000_000, usegmt=True),
            **response.headers,
        }
        if response.content_type is not None:
            headers["content-type"] = response.content_type
        connection.respond(response.status, headers, response.body)

    def _handle_api(self, request: HttpRequest, connection: Connection) -> None:
        with self.api.store.lock:
            self.api.engine.clock.request_received()
            entry = self.log.add(request, self.api.engine.advance())
            faults = self.faults.matching(request.method, request.path)
        hit = None
        for fault in faults:
            if fault.kind == "latency":
                connection.pause(fault.seconds + self.api.engine.rng.random() * fault.jitter_seconds)
            elif fault.kind == "early_hints":
                connection.begin(103, {"link": "</style.css>; rel=preload; as=style"})
            else:
                hit = fault
        response = EMPTY
        if hit is None or hit.kind == "cut_short" or getattr(hit, "after_effect", False):
            response = self._respond(request)
        if response.output_of is not None:
            entry.status = 200
            self._stream(connection, response.output_of)
            return
        if hit is not None:
            response = _faulty(connection, hit, response)
        # Before it is sent, so that a client that has the response finds it in the log.
        entry.status = response.status
        self._send(connection, response)

    def _respond(self, request: HttpRequest) -> Response:
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if self.api_key is not None and not hmac.compare_digest(given, f"Bearer {self.api_key}".encode()):
            return Response(401, b"", None)
        response = self.api.respond(request)
        return replace(response, headers={**_CORS, **response.headers})

    def _stream(self, connection: Connection, job: Job) -> None:
        connection.begin(200, {**preview.HEADERS, **_CORS})
        for event in preview.events(job, self.api.engine, self.api.store.lock, connection.aborted):
            connection.write(event)
        connection.finish()


def _faulty(connection: Connection, fault: Fault, response: Response) -> Response:
    """Return the response that a request gets because of a fault, or send what is none.

    :param response: what it would get; ignored by the faults that replace it.
    """
    match fault.kind:
        case "status":
            retry = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
            if fault.error is None:
                return Response(fault.status, b"", None, {**_CORS, **retry})
            return Response(fault.status, render({"error": fault.error}), headers={**_CORS, **retry})
        case "not_json":
            return Response(200, fault.body.encode(), fault.content_type)
        case "cut_short":
            body = response.body or b"{}"
            head = {"content-type": str(response.content_type), "content-length": str(len(body))}
            connection.begin(response.status, head)
            connection.write(body[: len(body) // 2])
        case "hang":
            connection.begin(200, {"content-type": "application/json", "content-length": "1000000"})
            connection.write(b'{"data":[')
            connection.wait_until_gone()
        case "endless":
            connection.begin(200, {"content-type": "application/json"})
            while True:
                connection.write(_ENDLESS_CHUNK)
                connection.pause(_ENDLESS_SECONDS)
        case "reset":
            connection.reset()
    # It hangs up.
    raise ConnectionGoneError
