"""Pipelines as Airflow assets: one URI for each pipeline, and invalid URIs."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_arroyo.assets import normalize_uri, pipeline_asset
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoDeployPipelineOperator,
    ArroyoSubmitPipelineOperator,
)
from airflow_provider_arroyo.triggers.arroyo import ArroyoPipelineEventTrigger


@pytest.mark.parametrize(
    "host, name, uri",
    [
        ("arroyo.example.com", "orders", "arroyo://arroyo.example.com/pipelines/orders"),
        ("Arroyo.Example.com:5115", "orders", "arroyo://arroyo.example.com/pipelines/orders"),
        ("localhost:8000", "orders", "arroyo://localhost:8000/pipelines/orders"),
        ("[::1]:8000", "orders", "arroyo://[::1]:8000/pipelines/orders"),
        ("h", "orders per minute/EU", "arroyo://h/pipelines/orders%20per%20minute%2FEU"),
        ("h", "100%", "arroyo://h/pipelines/100%25"),
        ("h", "commandes_été", "arroyo://h/pipelines/commandes_%C3%A9t%C3%A9"),
    ],
)
def test_a_pipeline_has_one_uri(host: str, name: str, uri: str) -> None:
    asset = pipeline_asset(host=host, pipeline_name=name)
    assert (asset.uri, asset.name) == (uri, uri)
    # As Airflow stores it, and as a user may write it.
    assert Asset(uri).uri == uri
    assert Asset(uri.replace("arroyo://", "ARROYO://") + "/").uri == uri


@pytest.mark.parametrize(
    "uri, words",
    [
        ("arroyo://h", "names no pipeline"),
        ("arroyo://h/jobs/orders", "names no pipeline"),
        ("arroyo://h/pipelines/a/b", "names no pipeline"),
        ("arroyo:///pipelines/orders", "is not a host"),
        ("arroyo://h:port/pipelines/orders", "write arroyo://host/pipelines/name"),
        ("arroyo://h/pipelines/orders?token=1", "has no query"),
    ],
)
def test_uris_that_name_no_pipeline_are_refused(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Asset(uri)


def test_a_login_is_refused() -> None:
    # Some versions of Airflow remove it, with a warning, before they call us.
    with pytest.raises(ValueError, match="must not contain a login"):
        normalize_uri(urlsplit("arroyo://user@h/pipelines/orders"))


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"host": ""}, "host"),
        ({"host": "http://h"}, "host"),
        ({"host": "h/arroyo"}, "host"),
        ({"host": "user:pw@h"}, "host"),
        ({"host": None}, "host"),
        ({"pipeline_name": " "}, "pipeline_name"),
        ({"pipeline_name": "a\nb"}, "pipeline_name"),
        ({"pipeline_name": None}, "pipeline_name"),
        ({"pipeline_name": "{{ x }}"}, "pipeline_name"),
        ({"host": "{{ conn.arroyo.host }}"}, "host"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        pipeline_asset(**{"host": "h", "pipeline_name": "orders", **arguments})


def test_an_asset_is_usable_as_an_outlet_and_a_schedule() -> None:
    asset = pipeline_asset(host="h", pipeline_name="orders", extra={"team": "a"})
    with DAG(dag_id="a_dag", schedule=None):
        for cls in (ArroyoDeployPipelineOperator, ArroyoSubmitPipelineOperator):
            task = cls(task_id=cls.__name__, pipeline_name="orders", query="SELECT 1", outlets=[asset])
            assert [outlet.uri for outlet in task.outlets] == ["arroyo://h/pipelines/orders"]
    trigger = ArroyoPipelineEventTrigger(pipeline_name="orders")
    watched = pipeline_asset(
        host="h", pipeline_name="orders", group="g", watchers=[AssetWatcher(name="fails", trigger=trigger)]
    )
    assert [watcher.name for watcher in watched.watchers] == ["fails"]
    assert watched.group == "g"
    assert DAG(dag_id="handler", schedule=[watched]).timetable is not None
