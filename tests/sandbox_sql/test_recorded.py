"""Every query that was sent to a real server gets the same answer, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_arroyo.sandbox.sql import evaluate
from tests.sandbox_sql.support import server_table

DATA = Path(__file__).parent / "data"
VERSIONS = ("0.15", "0.16")
CASES: list[tuple[str, dict[str, Any]]] = [
    (version, case)
    for version in VERSIONS
    for case in json.loads((DATA / f"recorded_{version.replace('.', '_')}.json").read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    "version, case", CASES, ids=lambda part: part if isinstance(part, str) else part["note"]
)
def test_the_answer_is_the_recorded_one(version: str, case: dict[str, Any]) -> None:
    found = evaluate(
        case["query"],
        arroyo_version=version,
        tables=[server_table(**table) for table in case.get("tables", [])],
        udfs=case.get("udfs", []),
        preview=case["call"] == "preview",
        parallelism=case.get("parallelism", 1),
    )
    assert (found.panic is not None) == (case["status"] is None)
    if case["status"] is None:
        assert (found.graph, found.errors, found.refusal) == (None, (), None)
    elif case["call"] == "validate" and case["status"] == 400:
        assert found.udf_refusal == case["answer"]["error"]
    elif case["call"] == "validate":
        errors = [{key: value for key, value in error.items() if value} for error in found.errors]
        words = [error["message"] for error in errors]
        assert {"graph": found.graph, "errors": words if version == "0.15" else errors} == case["answer"]
        assert found.udf_refusal is None
    else:
        answer = found.graph if found.refusal is None else {"error": found.refusal}
        assert answer == case["answer"]


def test_enough_was_recorded_to_mean_something() -> None:
    kinds = {(version, case["call"], case["status"]) for version, case in CASES}
    for version in VERSIONS:
        wanted = [("validate", 200), ("validate", None), ("create", 200), ("create", 400), ("preview", 200)]
        assert {(version, *kind) for kind in wanted} <= kinds
