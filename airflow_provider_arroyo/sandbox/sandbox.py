"""The sandbox as a whole: engine, API and server, in a thread of their own."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import quote, urlencode

from .answers import VERSIONS, Version
from .api import Api
from .clock import Clock, ManualClock, RealClock
from .control import Control
from .engine import Engine
from .faults import Faults
from .keeping import Keeper
from .lifecycle import Flavour
from .populate import populate
from .request_log import RequestLog
from .server import Server
from .store import Database, Store

JobController = Literal["controller", "worker"]


class ArroyoSandbox:
    """An Arroyo API for tests, on a free port, in a thread: ready when entered, closed when left.

    .. code-block:: python

        with ArroyoSandbox(arroyo_version="0.16") as sandbox:
            requests.get(f"{sandbox.url}/api/v1/ping")
            assert sandbox.requests.count("GET", "*/ping") == 1

    :param arroyo_version: ``"0.16"`` (default) or ``"0.15"``.
    :param job_controller: ``"controller"`` (default), or ``"worker"`` on 0.16: who leads the jobs.
    :param api_key: the static key that requests must carry; None (default): no key is asked for.
    :param clock: whose time it is; default: real time at ``speed``.
    :param speed: seconds of the sandbox in a real one, default 1; not together with ``clock``.
    :param seed: makes ids and times repeat themselves from run to run; None (default): they do not.
    :param allowed_restarts: how often a job may fail and be tried again, default 20 as on real servers.
    :param database: ``"sqlite"`` (default) or ``"postgres"``; see :class:`store.Store`.
    :param strict: refuse SQL that the sandbox cannot judge, instead of taking it; default False.
    :param pipelines: how many running pipelines are there to begin with, default 0.
    :param data: a folder in which everything is kept over a restart; None (default): nothing is.
    :param host: where to listen, default 127.0.0.1.
    :param port: default 0: a free one.
    :param tls_cert: file with the server's certificate; with it the sandbox speaks HTTPS.
    :param tls_key: file with the key of that certificate.
    :param tls_client_ca: file with the CA that must have signed the clients' certificates.
    :param log_size: how many requests ``requests`` keeps, default 10,000.
    :raises ValueError: naming the argument and the choices.
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
        strict: bool = False,
        pipelines: int = 0,
        data: Path | str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls_cert: Path | str | None = None,
        tls_key: Path | str | None = None,
        tls_client_ca: Path | str | None = None,
        log_size: int = 10_000,
    ) -> None:
        if arroyo_version not in VERSIONS:
            raise ValueError(f"arroyo_version must be one of {', '.join(VERSIONS)}, not {arroyo_version!r}")
        if job_controller not in ("controller", "worker"):
            raise ValueError(f"job_controller must be controller or worker, not {job_controller!r}")
        if job_controller == "worker" and arroyo_version == "0.15":
            raise ValueError("job_controller worker is there from version 0.16 on")
        if database not in ("sqlite", "postgres"):
            raise ValueError(f"database must be sqlite or postgres, not {database!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {port!r}")
        if clock is not None and speed != 1.0:
            raise ValueError("speed is for the real clock: give speed or clock, not both")
        if pipelines < 0:
            raise ValueError(f"pipelines must not be below 0, not {pipelines!r}")
        if api_key == "":
            raise ValueError("api_key must not be empty; None asks for no key")
        if allowed_restarts < 0:
            raise ValueError(f"allowed_restarts must not be below 0, not {allowed_restarts!r}")
        version: Version = arroyo_version
        worker_mode = job_controller == "worker"
        self.arroyo_version = version
        self.api_key = api_key
        self.clock: Clock = clock if clock is not None else RealClock(speed=speed)
        self._lock = threading.RLock()
        self._host, self._port = host, port
        self._tls = _tls(tls_cert, tls_key, tls_client_ca)
        rng = random.Random(seed)
        flavour: Flavour = "0.16-worker" if worker_mode else version
        self.engine = Engine(clock=self.clock, flavour=flavour, allowed_restarts=allowed_restarts, rng=rng)
        self.store = Store(database=cast("Database", database))
        self._api = Api(
            version=version,
            engine=self.engine,
            store=self.store,
            rng=rng,
            worker_mode=worker_mode,
            strict=strict,
        )
        self.requests = RequestLog(log_size)
        """What was asked of the API; see :class:`request_log.RequestLog`."""
        self._server = Server(
            api=self._api, log=self.requests, lock=self._lock, rng=rng, api_key=api_key, tls=self._tls
        )
        about = {
            "what": "a sandbox that stands in for an Arroyo server",
            "arroyo_version": version,
            "job_controller": job_controller,
        }
        self._server.control = Control(self._server, about=about, lock=self._lock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._keeper: Keeper | None = None
        if data is not None:
            self._keeper = Keeper(
                Path(data), version=version, engine=self.engine, store=self.store, lock=self._lock
            )
            self._keeper.load()
        if not self.store.pipelines:
            populate(self._api, pipelines)

    # -- coming and going ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Start the server; return when it answers.

        :raises OSError: where the address cannot be had.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is started already")
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name="arroyo-sandbox", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._server.start(self._host, self._port), loop).result(30)
        except BaseException:
            self.close()
            raise
        if self._keeper is not None:
            self._keeper.start()
        return self

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        self._server.thread_id = threading.get_ident()
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def close(self) -> None:
        """Close connections, port and thread. Does nothing where they are closed."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        self._thread = None
        try:
            asyncio.run_coroutine_threadsafe(self._server.stop(), loop).result(10)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            if self._keeper is not None:
                self._keeper.close()

    # -- using it -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end; the API is below ``/api/v1``."""
        scheme = "https" if self._tls is not None else "http"
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        return f"{scheme}://{host}:{self._server.port}"

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return self._server.port

    @property
    def faults(self) -> Faults:
        """What can go wrong on order."""
        return self._server.faults

    def airflow_connection_uri(self, **extra: Any) -> str:
        """Return this sandbox as an Airflow connection, for ``AIRFLOW_CONN_ARROYO_DEFAULT``.

        :param extra: extras of the connection, such as ``ca_cert`` or ``timeout``.
        """
        host = quote(self._server.host, safe="")
        password = f":{quote(self.api_key, safe='')}@" if self.api_key else ""
        query = f"?{urlencode(extra)}" if extra else ""
        scheme = "https" if self._tls is not None else "http"
        return f"arroyo://{password}{host}:{self._server.port}/{scheme}{query}"

    def advance(self, seconds: float) -> None:
        """Move the manual clock on, and let everything happen that is due by then.

        :raises TypeError: where the clock is not a :class:`clock.ManualClock`.
        """
        if not isinstance(self.clock, ManualClock):
            raise TypeError("only a manual clock can be moved: ArroyoSandbox(clock=ManualClock())")
        with self._lock:
            self.clock.advance(seconds)
            self.engine.advance()

    def state(self, pipeline: str) -> str | None:
        """Return the state of a pipeline's job, by the pipeline's id or name; None where there is none."""
        with self._lock:
            self.engine.advance()
            for job in self.store.jobs():
                if pipeline in (job.pipeline.id, job.pipeline.name):
                    return job.state
        return None


def _tls(
    cert: Path | str | None, key: Path | str | None, client_ca: Path | str | None
) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None or client_ca is not None:
            raise ValueError("tls_key and tls_client_ca need tls_cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls_cert, tls_key, tls_client_ca: cannot be read: {error}") from error
    return context
