"""The button "Pipeline" of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import AirflowPlugin, XCom

from airflow_provider_arroyo import links
from airflow_provider_arroyo.operators.arroyo import ArroyoSubmitPipelineOperator

OPERATOR = Mock(arroyo_conn_id="arroyo one")
HAS_PAGES = hasattr(AirflowPlugin, "react_apps")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Return the XComs of the task, in an Airflow that shows the pages."""
    xcoms: dict[str, Any] = {"pipeline_id": "pl_1&x"}
    bundle = tmp_path / "main.js"
    bundle.touch()
    monkeypatch.setattr(links, "_BUNDLE", bundle)
    monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: xcoms.get(key))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://air.example.com/flow/")
    return xcoms


def link() -> str:
    return links.ArroyoPageLink().get_link(OPERATOR, ti_key=Mock())


@pytest.mark.skipif(not HAS_PAGES, reason="this Airflow has no pages of plugins")
@pytest.mark.parametrize(
    "pipeline_id, in_path",
    [("pl_1&x", "pl_1%26x"), ("a/b?c#d e", "a%2Fb%3Fc%23d%20e"), ("äé", "%C3%A4%C3%A9")],
)
def test_it_links_to_the_page_of_the_pipeline(known: dict[str, Any], pipeline_id: str, in_path: str) -> None:
    known["pipeline_id"] = pipeline_id
    assert link() == f"https://air.example.com/flow/plugin/arroyo/pipelines/{in_path}?connection=arroyo+one"


@pytest.mark.parametrize("value", [None, "", 7, {"pl": 1}])
def test_a_task_without_a_pipeline_has_no_link(known: dict[str, Any], value: object) -> None:
    known["pipeline_id"] = value
    assert link() == ""


@pytest.mark.parametrize("has_stored", [False, True])
def test_a_link_that_cannot_exist_is_not_looked_up(
    known: dict[str, Any], has_stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow logs an error for an XCom that does not exist, right below the error of the task."""
    asked: list[str] = []
    monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: asked.append(key))
    operator: Any = ArroyoSubmitPipelineOperator(task_id="submit", pipeline_name="orders", query="SELECT 1")
    operator._is_resumed = has_stored
    assert known
    for one in operator.operator_extra_links:
        assert one.get_link(operator, ti_key=Mock()) == ""
    wanted = ["_link_ArroyoPipelineLink", *(["pipeline_id"] if HAS_PAGES else [])]
    assert asked == (wanted if has_stored else [])


def test_an_installation_without_the_built_pages_has_no_link(
    known: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(links, "_BUNDLE", tmp_path / "missing.js")
    assert known
    assert link() == ""


def test_the_operators_have_both_buttons() -> None:
    operator = ArroyoSubmitPipelineOperator(task_id="submit", pipeline_name="orders", query="SELECT 1")
    assert [one.name for one in operator.operator_extra_links] == ["Arroyo console", "Pipeline"]
