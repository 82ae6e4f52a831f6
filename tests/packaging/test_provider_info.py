"""The provider info. With one wrong key in it, no Airflow command works."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from packaging.utils import canonicalize_name

import airflow_provider_arroyo
from airflow_provider_arroyo.get_provider_info import get_provider_info

PACKAGE = "airflow_provider_arroyo"
ROOT = Path(airflow_provider_arroyo.__file__).parent
# Shared by the operators; not for users.
BASES = {
    *("ArroyoOperator", "ArroyoWaitingOperator", "ArroyoQueryOperator", "ArroyoSpecOperator"),
    *("ArroyoExistingOperator", "ArroyoStoppingOperator", "ArroyoChangeOperator", "ArroyoEnsureOperator"),
    "ArroyoSensor",
}


def airflow_schema(name: str) -> dict[str, Any]:
    return dict(json.loads((Path(airflow.__file__).parent / name).read_text()))


def python_modules(kind: str) -> Iterator[str]:
    for entry in get_provider_info()[kind]:
        yield from entry["python-modules"]


def load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_it_satisfies_airflows_schema() -> None:
    jsonschema.validate(get_provider_info(), airflow_schema("provider_info.schema.json"))


def test_the_schema_refuses_an_invalid_provider_info() -> None:
    broken = {**get_provider_info(), "triggers": [{"integration-name": "Arroyo"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, airflow_schema("provider_info.schema.json"))


def test_the_package_name_is_the_distributions_name_as_airflow_spells_it() -> None:
    distribution = importlib.metadata.distribution(PACKAGE)
    assert get_provider_info()["package-name"] == canonicalize_name(distribution.metadata["Name"])
    assert get_provider_info()["package-name"] == "airflow-provider-arroyo"


def test_every_entry_point_of_the_package_resolves() -> None:
    entry_points = list(importlib.metadata.distribution(PACKAGE).entry_points)
    assert "apache_airflow_provider" in {one.group for one in entry_points}
    for one in entry_points:
        assert callable(one.load()) or one.group == "pytest11"


@pytest.mark.parametrize(
    "kind,suffix",
    [("hooks", "Hook"), ("operators", "Operator"), ("sensors", "Sensor"), ("triggers", "Trigger")],
)
def test_the_module_that_is_named_has_every_public_class(kind: str, suffix: str) -> None:
    (named,) = python_modules(kind)

    def classes_in(module: str) -> set[str]:
        return {
            value.__name__
            for value in vars(importlib.import_module(module)).values()
            if isinstance(value, type)
            and value.__module__.startswith(f"{PACKAGE}.{kind}.")
            and re.fullmatch(rf"Arroyo\w*{suffix}", value.__name__)
        }

    in_folder = set().union(
        *(classes_in(f"{PACKAGE}.{kind}.{path.stem}") for path in (ROOT / kind).glob("*.py"))
    )
    assert classes_in(named) == in_folder - BASES
    assert classes_in(named)


def test_extra_links_are_links() -> None:
    names = {load(path)().name for path in get_provider_info()["extra-links"]}
    assert names == {"Arroyo console", "Pipeline"}


def test_the_connection_leads_to_the_hook() -> None:
    (connection,) = get_provider_info()["connection-types"]
    hook = load(connection["hook-class-name"])
    assert hook.conn_type == connection["connection-type"] == "arroyo"
    assert hook.hook_name == connection["hook-name"]
    assert hook.default_conn_name == "arroyo_default"


def test_the_form_has_every_field_that_the_hook_reads_and_no_other() -> None:
    from airflow_provider_arroyo.hooks import connection as reader

    (connection,) = get_provider_info()["connection-types"]
    assert set(connection["conn-fields"]) == set(reader._EXTRAS)


def test_the_forms_fields_are_valid_schemas() -> None:
    (connection,) = get_provider_info()["connection-types"]
    for name, field in connection["conn-fields"].items():
        jsonschema.Draft7Validator.check_schema(field["schema"])
        assert "null" in field["schema"]["type"], f"{name} could not be left empty"
        assert field["label"]
        assert field["description"]


def test_the_standard_fields_satisfy_airflows_schema() -> None:
    (connection,) = get_provider_info()["connection-types"]
    behaviour = connection["ui-field-behaviour"]
    assert set(behaviour) == {"hidden-fields", "relabeling", "placeholders"}
    jsonschema.validate(
        {name.replace("-", "_"): value for name, value in behaviour.items()},
        airflow_schema("customized_form_field_behaviours.schema.json"),
    )
