"""The fixture ``arroyo_sandbox`` for other projects' tests; pytest finds it where this package is installed.

A sandbox is imported only when a test uses the fixture, so other test runs cost nothing.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_arroyo.sandbox import ArroyoSandbox


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "arroyo_sandbox(**options): how the fixture arroyo_sandbox starts its sandbox: the arguments of "
        "ArroyoSandbox, and conn_id, the Airflow connection that leads to it (default arroyo_default)",
    )


@pytest.fixture
def arroyo_sandbox(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ArroyoSandbox]:
    """An Arroyo API for one test, and an Airflow connection that leads to it.

    The marker ``arroyo_sandbox`` takes the arguments of :class:`ArroyoSandbox`, and ``conn_id``, the name of
    the connection, default ``arroyo_default``. If the test, its class and its module have markers, the
    closest one wins for each argument.
    """
    markers = list(request.node.iter_markers("arroyo_sandbox"))
    given = [value for marker in markers for value in marker.args]
    options = dict(ChainMap(*(dict(marker.kwargs) for marker in markers)))
    connection = options.pop("conn_id", "arroyo_default")
    problem = f"takes its options by name, such as arroyo_version='0.15', not {given[0]!r}" if given else ""
    if not isinstance(connection, str):
        problem = f"conn_id must be text, not {connection!r}"
    try:
        from airflow_provider_arroyo.sandbox import ArroyoSandbox

        sandbox = None if problem else ArroyoSandbox(**options).start()
    except (ImportError, OSError, TypeError, ValueError) as error:
        sandbox, problem = None, str(error)
    if sandbox is None:
        pytest.fail(f"arroyo_sandbox: {problem}", pytrace=False)
    with closing(sandbox):
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", sandbox.airflow_connection_uri())
        yield sandbox
