"""Every exception of the package keeps its type, text and data when it is pickled, as by a pool of processes.

Those of ``exceptions.py`` are tested in ``tests/client/test_errors.py``.
"""

from __future__ import annotations

import ast
import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_arroyo
from airflow_provider_arroyo.client.connection_errors import NotSentError
from airflow_provider_arroyo.client.reading import NotJsonError
from airflow_provider_arroyo.exceptions import ArroyoNotFoundError
from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError, ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.monitoring.event import UnreadableEventError
from airflow_provider_arroyo.monitoring.metrics import UnknownNameError
from airflow_provider_arroyo.monitoring.plan import UnreadablePlanError
from airflow_provider_arroyo.openlineage.names import _UnknownError
from airflow_provider_arroyo.operators.connected import TaskEnd
from airflow_provider_arroyo.pipelines.file_settings import PipelineFileError
from airflow_provider_arroyo.pipelines.ownership import Owner, UnreadableLabelError
from airflow_provider_arroyo.pipelines.plain_yaml import YamlError
from airflow_provider_arroyo.sql.errors import RefusedError, Span
from airflow_provider_arroyo.sql.lineage import UnreadableSqlError

ROOT = Path(airflow_provider_arroyo.__file__).parent
# A sandbox turns its exceptions into responses, in the thread that raised them.
ELSEWHERE = ("exceptions.py", "sandbox/")

GONE = ArroyoNotFoundError("gone", status=404)
EXAMPLES = [
    NotSentError("no"),
    NotJsonError(json.JSONDecodeError("Unterminated string starting at", '"a', 0)),
    ArroyoTaskError("no", GONE),
    ArroyoFatalTaskError("no", GONE),
    ArroyoArgumentError("no"),
    UnreadableEventError("no"),
    UnknownNameError("no"),
    UnreadablePlanError("no deadline"),
    _UnknownError("no"),
    TaskEnd(GONE),
    PipelineFileError.at(Path("orders.sql"), "is empty", 1),
    UnreadableLabelError("no", owner=Owner(dag_id="d", task_id="t", run_id="r", map_index=-1, namespace="")),
    YamlError("is not YAML", 3),
    RefusedError("no", "headline", Span(1, 2)),
    UnreadableSqlError("no"),
]


def defined() -> Iterator[str]:
    """Yield the module and name of each exception that is defined in the package, read from the sources."""
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if module.startswith(ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            if any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases):
                yield f"{module.removesuffix('.py').replace('/', '.')}.{node.name}"


def test_the_examples_contain_every_exception() -> None:
    prefix = f"{airflow_provider_arroyo.__name__}."
    examples = [f"{type(one).__module__}.{type(one).__name__}".removeprefix(prefix) for one in EXAMPLES]
    assert sorted(examples) == sorted(defined())


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_copy_of_an_exception_has_all_its_data(error: Exception) -> None:
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), again.args) == (str(error), error.args)
        assert {name: repr(value) for name, value in vars(again).items()} == {
            name: repr(value) for name, value in vars(error).items()
        }
