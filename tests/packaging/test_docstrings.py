"""The docstring of a class documents each of its arguments, including inherited ones."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest

import airflow_provider_arroyo
from airflow_provider_arroyo.client.client import ArroyoClient

PACKAGE = airflow_provider_arroyo.__name__

MODULES = (
    *("operators", "sensors", "triggers", "hooks", "links"),
    *("client.client", "client.settings", "pipelines.spec"),
    *("monitoring.plan", "monitoring.wait", "polling.shared"),
)
"""Classes that users or other parts of the package instantiate. The fields of a response are Arroyo's."""


def public_classes() -> list[Any]:
    """Return the classes of the package that have a constructor of ours, or fields."""
    found = set()
    for module in pkgutil.walk_packages(airflow_provider_arroyo.__path__, f"{PACKAGE}."):
        if not module.name.removeprefix(f"{PACKAGE}.").startswith(MODULES):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_"):
                found.add(value)
    # Base classes are documented in the classes that inherit from them.
    found = {
        cls
        for cls in found
        if issubclass(cls, Exception) or not any(cls in other.__mro__[1:] for other in found)
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def arguments(cls: Any) -> set[str]:
    """Return the arguments of a class's constructor and of those of its bases in this package."""
    taken: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith(PACKAGE) or "__init__" not in vars(base):
            continue
        # A dataclass repeats the fields of its bases.
        parameters = inspect.signature(base.__init__).parameters.values()
        taken |= {
            one.name
            for one in parameters
            if one.name not in ("self", "kwargs", "attributes") and one.kind is not one.VAR_POSITIONAL
        }
    return taken


def documented(cls: Any) -> set[str]:
    names = re.findall(r"^\s*:param ([\w, ]+):", cls.__doc__ or "", re.MULTILINE)
    return {name.strip() for found in names for name in found.split(",")}


CLASSES = [cls for cls in public_classes() if arguments(cls)]


def test_the_classes_are_found() -> None:
    names = {cls.__name__ for cls in CLASSES}
    assert {"ArroyoHook", "ArroyoClient", "ArroyoSubmitPipelineOperator", "ArroyoPipelineSensor"} <= names
    assert {"ArroyoPipelineTrigger", "PipelineWait", "WaitPlan", "SharedPoller"} <= names


def test_the_methods_of_the_client_show_what_they_take_and_return() -> None:
    shown = inspect.signature(ArroyoClient.get_pipeline)
    assert (list(shown.parameters), shown.return_annotation) == (["self", "pipeline_id"], "Pipeline")


@pytest.mark.parametrize(
    "cls", CLASSES, ids=lambda cls: f"{cls.__module__.removeprefix(PACKAGE)}.{cls.__name__}"
)
def test_every_argument_of_a_class_is_documented(cls: Any) -> None:
    assert arguments(cls) - documented(cls) == set()
