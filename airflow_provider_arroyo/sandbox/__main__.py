"""``python -m airflow_provider_arroyo.sandbox``: a sandbox to try things in, or to point an Airflow at."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .fault_types import KINDS, Fault, parse


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m airflow_provider_arroyo.sandbox",
        description="Serves Arroyo's API without Arroyo, for demos and tests. Pipelines have the states of a "
        "real server, but process no data. Everything is lost when it ends, unless --data is given.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    add("--port", type=int, default=5115, help="0 uses a free port (default: %(default)s)")
    add("--arroyo-version", default="0.16", choices=("0.15", "0.16"), help="(default: %(default)s)")
    add("--job-controller", default="controller", choices=("controller", "worker"), help="0.16 only")
    add("--api-key", help="the API key that every request must have (default: none)")
    add("--tls-cert", type=Path, metavar="FILE", help="the server's certificate; serves HTTPS")
    add("--tls-key", type=Path, metavar="FILE", help="the key of that certificate")
    add("--tls-client-ca", type=Path, metavar="FILE", help="require client certificates signed by this CA")
    add("--speed", type=float, default=1.0, help="seconds of the sandbox per real second (default: 1)")
    add("--seed", type=int, help="make ids and times the same in each run")
    add("--allowed-restarts", type=int, default=20, help="restarts of a failing job (default: %(default)s)")
    add("--database", default="sqlite", choices=("sqlite", "postgres"), help="which database to imitate")
    add("--pipelines", type=int, default=0, metavar="N", help="start with N running pipelines")
    add("--demo", action="store_true", help="start with a pipeline in each common situation")
    add("--data", metavar="DIR", help="keep everything in this folder across restarts")
    add(
        "--fault",
        dest="faults",
        action="append",
        default=[],
        metavar="KIND[,FIELD=VALUE…]",
        help=f"inject a fault, such as status,status=503,times=3; kinds: {', '.join(KINDS)}",
    )
    return parser


def _fault(text: str) -> Fault:
    kind, *pairs = text.split(",")
    fields = {"kind": kind.removeprefix("kind=")}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--fault {text}: {pair!r} is not FIELD=VALUE")
        fields[name] = value
    try:
        return parse(fields, from_outside=True)
    except ValueError as error:
        raise ValueError(f"--fault {text}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sandbox until it is interrupted; return the exit code."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        faults = [_fault(text) for text in options.pop("faults")]
        from . import ArroyoSandbox

        sandbox = ArroyoSandbox(**options)
    except (ImportError, ValueError) as error:
        parser.error(str(error))
    try:
        sandbox.start()
    except OSError as error:
        parser.error(f"{error.strerror}; name another --host or --port")
    try:
        for fault in faults:
            sandbox.faults.add(fault)
        version = sandbox.arroyo_version
        print(f"Arroyo sandbox (as Arroyo {version}; no data flows) at {sandbox.url}", flush=True)
        print(f"Page: {sandbox.page_url}", flush=True)
        print(f"Airflow connection: {sandbox.airflow_connection_uri()}", flush=True)
        ended.wait()
    finally:
        try:
            sandbox.close()
        except OSError as error:
            parser.error(f"data: the last changes could not be kept: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
