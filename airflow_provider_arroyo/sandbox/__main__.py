"""``python -m airflow_provider_arroyo.sandbox``: a sandbox to click around in, or to point an Airflow at."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import orders
from .answers import VERSIONS
from .sandbox import ArroyoSandbox


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m airflow_provider_arroyo.sandbox",
        description="An Arroyo API for demos and tests that needs no Arroyo. Pipelines live as on a real "
        "server, but no data flows. What it holds is gone when it ends, unless --data is given.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    add("--port", type=int, default=5115, help="0 takes a free one and says which (default: %(default)s)")
    add("--arroyo-version", default="0.16", choices=VERSIONS, help="whom to play (default: %(default)s)")
    add("--job-controller", default="controller", choices=("controller", "worker"), help="0.16 only")
    add("--api-key", help="the static key that every request must carry (default: none)")
    add("--tls-cert", type=Path, metavar="FILE", help="the server's certificate: speak HTTPS")
    add("--tls-key", type=Path, metavar="FILE", help="the key of that certificate")
    add("--tls-client-ca", type=Path, metavar="FILE", help="ask clients for certificates that this CA signed")
    add("--speed", type=float, default=1.0, help="seconds of the sandbox in a real one (default: 1)")
    add("--seed", type=int, help="make ids and times repeat themselves from run to run")
    add("--allowed-restarts", type=int, default=20, help="tries of a failing job (default: %(default)s)")
    add("--database", default="sqlite", choices=("sqlite", "postgres"), help="how records are dated")
    add("--pipelines", type=int, default=0, metavar="N", help="begin with so many running pipelines")
    add("--data", type=Path, metavar="DIR", help="keep everything in this folder over a restart")
    add("--strict", action="store_true", help="refuse SQL that the sandbox cannot judge")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[,FIELD=VALUE…]",
        help=f"order a fault, such as status,status=503,times=3; kinds: {', '.join(orders.KINDS)}",
    )
    return parser


def _fault(text: str) -> orders.Order:
    kind, *pairs = text.split(",")
    fields = {"kind": kind.removeprefix("kind=")}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--fault {text}: {pair!r} is not FIELD=VALUE")
        fields[name] = value
    return orders.parse(fields)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until it is interrupted; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        faults = [_fault(text) for text in options.fault]
        sandbox = ArroyoSandbox(
            host=options.host,
            port=options.port,
            arroyo_version=options.arroyo_version,
            job_controller=options.job_controller,
            api_key=options.api_key,
            tls_cert=options.tls_cert,
            tls_key=options.tls_key,
            tls_client_ca=options.tls_client_ca,
            speed=options.speed,
            seed=options.seed,
            allowed_restarts=options.allowed_restarts,
            database=options.database,
            strict=options.strict,
            pipelines=options.pipelines,
            data=options.data,
        )
    except ValueError as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        sandbox.start()
    except OSError as error:
        parser.error(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}")
    try:
        for fault in faults:
            sandbox.faults.put(fault)
        print(
            f"Arroyo sandbox (plays Arroyo {options.arroyo_version}; no data flows, nothing is Arroyo's) "
            f"at {sandbox.url}",
            flush=True,
        )
        print(f"Airflow connection: {sandbox.airflow_connection_uri()}", flush=True)
        ended.wait()
    finally:
        sandbox.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
