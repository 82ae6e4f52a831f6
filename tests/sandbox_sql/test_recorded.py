"""Every query that was sent to a real server gets the same answer, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_arroyo.sandbox.sql import CatalogTable, Judgement, judge

DATA = Path(__file__).parent / "data"


def recorded() -> list[Any]:
    found = []
    for version in ("0.15", "0.16"):
        cases = json.loads((DATA / f"recorded_{version.replace('.', '_')}.json").read_text(encoding="utf-8"))
        found += [
            pytest.param(version, case, id=f"{version}-{case['call']}-{case['note']}") for case in cases
        ]
    return found


def judged(version: str, case: dict[str, Any]) -> Judgement:
    return judge(
        case["query"],
        arroyo_version=version,
        tables=[CatalogTable(**table) for table in case.get("tables", [])],
        udfs=case.get("udfs", []),
        preview=case["call"] == "preview",
        parallelism=case.get("parallelism", 1),
    )


def validation(version: str, judgement: Judgement) -> dict[str, Any]:
    """Return the body of an answer to a validation."""
    if version == "0.15":
        errors: list[Any] = [error["message"] for error in judgement.errors]
    else:
        errors = [{k: v for k, v in error.items() if v is not None} for error in judgement.errors]
    return {"graph": judgement.graph, "errors": errors}


@pytest.mark.parametrize("version, case", recorded())
def test_the_answer_is_the_recorded_one(version: str, case: dict[str, Any]) -> None:
    judgement = judged(version, case)
    if case["call"] == "validate" and case["status"] == 400:
        assert judgement.udf_refusal == case["answer"]["error"]
    elif case["call"] == "validate":
        assert validation(version, judgement) == case["answer"]
        assert judgement.udf_refusal is None
    elif case["status"] == 400:
        assert judgement.refusal == case["answer"]["error"]
        assert judgement.graph is None
    else:
        assert judgement.graph == case["answer"]
        assert judgement.refusal is None


def test_enough_was_recorded_to_mean_something() -> None:
    kinds = {(case.values[0], case.values[1]["call"], case.values[1]["status"]) for case in recorded()}
    for version in ("0.15", "0.16"):
        assert {(version, "validate", 200), (version, "create", 200), (version, "create", 400)} <= kinds
        assert (version, "preview", 200) in kinds
