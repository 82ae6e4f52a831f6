"""The sandbox as a whole: records, engine, API and server, with threads of their own."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path
from typing import Any, Self, cast, get_args
from urllib.parse import quote, urlencode

from .api import Api
from .app import App
from .clock import Clock, RealClock
from .control import Control
from .engine import Engine
from .faults import Faults
from .http_server import HttpServer, server_context
from .lifecycle import Variant, Version
from .persistence import Persistence
from .populate import DEMO_SECONDS, populate
from .populate import demo as populate_demo
from .records import Database, NotJudged, Store
from .request_log import RequestLog


class ArroyoSandbox:
    """A server with Arroyo's API, for tests. As a context manager, it starts and stops the server.

    .. code-block:: python

        with ArroyoSandbox(arroyo_version="0.16") as sandbox:
            requests.get(f"{sandbox.url}/api/v1/ping")
            assert sandbox.requests.count("GET", "*/ping") == 1

    :param arroyo_version: ``"0.16"`` (default) or ``"0.15"``.
    :param job_controller: ``"controller"`` (default), or ``"worker"`` on 0.16: Arroyo's setting of that name.
    :param api_key: the API key that requests must have; default None: no key is needed.
    :param clock: a :class:`RealClock` or :class:`ManualClock`; default: real time at ``speed``.
    :param speed: seconds of the sandbox per real second, default 1; not together with ``clock``.
    :param seed: makes ids and times the same in each run; default None: they differ.
    :param allowed_restarts: how often a failing job is restarted, default 20 as on real servers.
    :param database: ``"sqlite"`` (default) or ``"postgres"``, which store times differently.
    :param pipelines: how many running pipelines to start with, default 0.
    :param demo: start with a pipeline in each common situation, as after a quarter of an hour; default False.
    :param data: a folder in which everything is kept across restarts; default None: nothing is kept.
    :param host: address to listen on, default 127.0.0.1.
    :param port: port to listen on, default 0: a free one.
    :param tls_cert: file with the server's certificate; makes the sandbox serve HTTPS.
    :param tls_key: file with the private key of that certificate.
    :param tls_client_ca: file with the CA that must have signed client certificates.
    :param log_size: how many requests ``requests`` keeps, default 10,000.
    :raises ValueError: if an argument is invalid; names it, and the choices.
    :raises ImportError: if the extra ``sandbox`` is not installed.
    """

    def __init__(
        self,
        *,
        arroyo_version: str = "0.16",
        job_controller: str = "controller",
        api_key: str | None = None,
        clock: Clock | None = None,
        speed: float = 1.0,
        seed: int | None = None,
        allowed_restarts: int = 20,
        database: str = "sqlite",
        pipelines: int = 0,
        demo: bool = False,
        data: Path | str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls_cert: Path | str | None = None,
        tls_key: Path | str | None = None,
        tls_client_ca: Path | str | None = None,
        log_size: int = 10_000,
    ) -> None:
        _choose("arroyo_version", arroyo_version, get_args(Version))
        _choose("job_controller", job_controller, ("controller", "worker"))
        _choose("database", database, get_args(Database))
        if job_controller == "worker" and arroyo_version == "0.15":
            raise ValueError("job_controller worker exists from version 0.16 on")
        limits = {"port": (port, 65535), "pipelines": (pipelines, None), "log_size": (log_size, None)}
        for name, (number, most) in {**limits, "allowed_restarts": (allowed_restarts, None)}.items():
            _check_number(name, number, most)
        for name, text, kinds in (
            ("host", host, str),
            ("data", data, (str, Path)),
            ("api_key", api_key, str),
        ):
            if text is not None and not (isinstance(text, kinds) and str(text) and str(text).isprintable()):
                raise ValueError(f"{name} must be one line of text and not empty, not {text!r}")
        if isinstance(speed, bool) or not isinstance(speed, int | float):
            raise ValueError(f"speed must be a number, not {speed!r}")
        if clock is not None and not isinstance(clock, Clock):
            raise ValueError(f"clock must be a RealClock or a ManualClock, not {clock!r}")
        if clock is not None and speed != 1.0:
            raise ValueError("speed is for the real clock: give speed or clock, not both")
        version = cast("Version", arroyo_version)
        variant: Variant = "0.16-worker" if job_controller == "worker" else version
        self._address = (host, port)
        self._token = secrets.token_urlsafe(16)
        self._started = False
        self.arroyo_version = version
        self.api_key = api_key
        # The demo's past ends now.
        begin = time.time() - DEMO_SECONDS if demo else None
        self.clock: Clock = clock if clock is not None else RealClock(speed=speed, start_seconds=begin)
        self.store = Store(database=cast("Database", database))
        self.engine = Engine(
            clock=self.clock,
            variant=variant,
            allowed_restarts=allowed_restarts,
            rng=random.Random(seed),
            store=self.store,
        )
        self.requests = RequestLog(log_size, secrets=[] if api_key is None else [api_key])
        """The requests to the API that it received, oldest first, with ``find``, ``count`` and ``clear``."""
        self._http = HttpServer(
            lambda request, connection: app.handle(request, connection),
            tls=server_context(tls_cert, tls_key, tls_client_ca),
        )
        self.faults = Faults(engine=self.engine, server=self._http)
        """Injects faults; it has a method for each kind."""
        self._api = Api(self.engine, created=self.faults.job_created)
        about = {"arroyo_version": version, "job_controller": job_controller}
        keys = [] if api_key is None else [api_key, self._token]
        control = Control(
            about=about, secrets=keys, host=host, api=self._api, faults=self.faults, log=self.requests
        )
        app = App(control=control, api=self._api, faults=self.faults, log=self.requests, api_key=api_key)
        self._persistence: Persistence | None = None
        if data is not None:
            self._persistence = Persistence(Path(data), self.engine)
        is_new = not self.store.pipelines
        if is_new:
            populate(self._api, pipelines)
        if demo and is_new:
            populate_demo(self._api, self.faults, self.advance)
        elif demo:
            self.clock.advance(DEMO_SECONDS)

    # -- starting and closing -----------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Start the server; return when it responds.

        :raises OSError: if it cannot listen on the address; names it.
        :raises RuntimeError: if it was started before.
        """
        if self._http.port:
            raise RuntimeError("a sandbox can be started only once: create another one")
        try:
            self._http.start(*self._address)
        except OSError as error:
            if self._persistence is not None:
                self._persistence.close()
            host, port = self._address
            words = f"cannot listen on {host}:{port}: {error.strerror or error}"
            raise OSError(error.errno, words) from error
        self._started = True
        if self._persistence is not None:
            self._persistence.start()
        return self

    def close(self) -> None:
        """Stop the server and close its connections. Does nothing if it is stopped already.

        :raises OSError: if the last changes cannot be kept in ``data``.
        """
        if self._started:
            self._started = False
            self._http.stop()
            if self._persistence is not None:
                self._persistence.close()

    # -- using it -----------------------------------------------------------------------------------------

    @property
    def _scheme(self) -> str:
        return "http" if self._http.tls is None else "https"

    @property
    def url(self) -> str:
        """Its address, without a slash at the end; the API is below ``/api/v1``."""
        host = f"[{self._http.host}]" if ":" in self._http.host else self._http.host
        return f"{self._scheme}://{host}:{self._http.port}"

    @property
    def page_url(self) -> str:
        """The address of its page; with an API key, it contains a token that opens the page."""
        return f"{self.url}/" if self.api_key is None else f"{self.url}/?token={self._token}"

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._http.port

    @property
    def not_judged(self) -> list[NotJudged]:
        """The last 1,000 times that SQL was accepted without being checked completely, the oldest first."""
        return list(self._api.not_judged)

    def airflow_connection_uri(self, **extra: Any) -> str:
        """Return this sandbox as an Airflow connection, for ``AIRFLOW_CONN_ARROYO_DEFAULT``.

        :param extra: extras of the connection, such as ``ca_cert`` or ``read_timeout``.
        """
        host = quote(self._http.host, safe="")
        password = f":{quote(self.api_key, safe='')}@" if self.api_key else ""
        query = f"?{urlencode(extra)}" if extra else ""
        return f"arroyo://{password}{host}:{self._http.port}/{self._scheme}{query}"

    def advance(self, seconds: float) -> None:
        """Advance the clock, a real one too, and do everything that is due by then.

        :param seconds: by how much, 0 or more.
        """
        self.clock.advance(seconds)

    def state(self, pipeline: str) -> str | None:
        """Return the state of a pipeline, given its id or name; None: there is no such pipeline."""
        with self.store.lock:
            self.engine.advance()
            for job in self.store.jobs():
                if pipeline in (job.pipeline.id, job.pipeline.name):
                    return job.state
        return None


def _choose(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def _check_number(name: str, value: object, most: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < 0 or (most is not None and value > most):
        limits = "must not be below 0" if most is None else f"must be 0 to {most}"
        raise ValueError(f"{name} {limits}, not {value!r}")
