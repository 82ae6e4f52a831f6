"""``python -m airflow_provider_arroyo diagnose NAME``: reports what is wrong with a pipeline, and what to do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: command-line arguments; default those of the process.
    :returns: 0 if the pipeline is healthy, 1 if something is wrong with it, 2 if that cannot be determined.
    """
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_arroyo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("diagnose", help="report what is wrong with a pipeline, and what to do")
    command.add_argument("pipeline", metavar="NAME", help="the name of a pipeline, or its id")
    command.add_argument(
        "--conn-id", default="arroyo_default", help="the Airflow connection (default: arroyo_default)"
    )
    command.add_argument(
        "--observe", type=float, default=2.0, metavar="SECONDS", help="how long to poll it (default: 2)"
    )
    given = parser.parse_args(arguments)
    if not given.pipeline.strip():
        command.error("argument NAME: must not be empty")
    if not 0 <= given.observe < 86_400:
        command.error(f"argument --observe: must be from 0 seconds to a day, got {given.observe:g}")
    return _diagnose(given.conn_id, given.pipeline, given.observe)


def _diagnose(conn_id: str, name: str, observe_seconds: float) -> int:
    from airflow_provider_arroyo.exceptions import ArroyoError, ArroyoNoSuchNameError, ArroyoNotFoundError
    from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
    from airflow_provider_arroyo.monitoring.diagnosis import Kind

    hook = ArroyoHook(arroyo_conn_id=conn_id)
    try:
        try:
            pipeline_id = hook.resolve_name(name).id
        except ArroyoNoSuchNameError as no_name:
            try:
                pipeline_id = hook.get_pipeline(name).id
            except (ArroyoNotFoundError, ValueError):
                print(f"{no_name}\nNo pipeline has this id either.", file=sys.stderr)
                return 2
        diagnosis = hook.diagnose(pipeline_id, observe_seconds=observe_seconds)
    except (ArroyoError, ValueError) as err:
        print(err, file=sys.stderr)
        return 2
    print(f"{name}: {diagnosis.kind.value}\n{diagnosis}\nArroyo console: {hook.console_url(pipeline_id)}")
    if diagnosis.kind is Kind.UNKNOWN:
        return 2
    return 1 if diagnosis.is_problem else 0


if __name__ == "__main__":
    # Airflow's own commands declare in the same way that they may read connections from its database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    sys.exit(main())
