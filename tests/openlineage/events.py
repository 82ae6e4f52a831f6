"""Reads events from a file, and checks them against the classes of OpenLineage's own client."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import attr
from openlineage.client import generated
from openlineage.client.generated import base

from airflow_provider_arroyo.openlineage.events import FACET_NAME, ArroyoPipelineRunFacet

EVENT = {"eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"}


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events in a file, each checked."""
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    for event in events:
        check(event)
    return events


def of_pipelines(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events about pipelines themselves."""
    return [event for event in events if event["job"]["namespace"].startswith("arroyo://")]


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return kind and job of each event."""
    return [(event["eventType"], event["job"]["name"]) for event in events]


def check(event: dict[str, Any]) -> None:
    """Check that an event is valid for OpenLineage's client, and so is every facet that it has a class for."""
    assert set(event) <= EVENT
    assert event["eventType"] in ("START", "RUNNING", "COMPLETE", "FAIL")
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    UUID(event["run"]["runId"])
    assert event["job"]["namespace"]
    assert event["job"]["name"]
    owners = [event["run"], event["job"], *event.get("inputs", ()), *event.get("outputs", ())]
    for owner in owners:
        for name, facet in owner.get("facets", {}).items():
            _check_facet(name, facet)
    for dataset in owners[2:]:
        assert dataset["namespace"]
        assert dataset["name"]
        assert not set(dataset) - {"namespace", "name", "facets", "inputFacets", "outputFacets"}


def _check_facet(name: str, facet: dict[str, Any]) -> None:
    assert facet["_producer"].startswith("https://")
    url = facet["_schemaURL"]
    assert url.startswith("https://")
    fields = {key: value for key, value in facet.items() if key not in ("_producer", "_schemaURL")}
    if name == FACET_NAME:
        ArroyoPipelineRunFacet(**fields)
    elif found := _CLASSES.get(url.rpartition("/")[2]):
        # Refuses an unknown field, and misses a required one.
        made = found(**fields)
        required = {one.name for one in attr.fields(found) if one.default is attr.NOTHING}
        assert required <= set(fields)
        assert made._get_schema() == url


def _classes() -> Iterator[tuple[str, Any]]:
    # The classes in the module "base" allow any further fields.
    for module in (one for one in pkgutil.iter_modules(generated.__path__) if one.name != "base"):
        found = vars(importlib.import_module(f"{generated.__name__}.{module.name}"))
        yield from (
            (name, value)
            for name, value in found.items()
            if name.endswith("Facet") and value.__module__ != base.__name__
        )


_CLASSES = dict(_classes())
