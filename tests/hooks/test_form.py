"""The connection form for Airflow before 3.2 has the same fields as the one in the provider's info."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from airflow_provider_arroyo.get_provider_info import get_provider_info
from airflow_provider_arroyo.hooks.arroyo import ArroyoHook

(CONNECTION,) = get_provider_info()["connection-types"]


@dataclass
class Field:
    """Airflow's stand-in for a field of wtforms: it accepts only these arguments."""

    label: str | None = None
    validators: Any = None
    description: str = ""
    default: Any = None
    widget: Any = None


class StringField(Field):
    pass


class PasswordField(Field):
    pass


class BooleanField(Field):
    pass


@pytest.fixture
def form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the stand-ins, as Airflow does."""
    wtforms, babel = ModuleType("wtforms"), ModuleType("flask_babel")
    for field in (StringField, PasswordField, BooleanField):
        setattr(wtforms, field.__name__, field)
    babel.lazy_gettext = lambda text: text  # type: ignore[attr-defined]  # made for this test
    monkeypatch.setitem(sys.modules, "wtforms", wtforms)
    monkeypatch.setitem(sys.modules, "flask_babel", babel)


@pytest.mark.usefixtures("form")
def test_the_old_form_has_the_same_fields() -> None:
    widgets = ArroyoHook.get_connection_form_widgets()
    assert list(widgets) == list(CONNECTION["conn-fields"])
    for name, field in CONNECTION["conn-fields"].items():
        widget, schema = widgets[name], field["schema"]
        assert (widget.label, widget.description) == (field["label"], field["description"])
        if "boolean" in schema["type"]:
            assert isinstance(widget, BooleanField)
            assert widget.default is schema["default"]
        else:
            hidden = schema.get("format") == "password"
            assert type(widget) is (PasswordField if hidden else StringField)
            assert widget.default == (str(schema["default"]) if "default" in schema else None)


@pytest.mark.parametrize("missing", ["wtforms", "flask_babel"])
def test_the_old_form_needs_its_packages(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert ArroyoHook.get_connection_form_widgets() == {}


def test_the_old_form_has_the_same_labels() -> None:
    new = CONNECTION["ui-field-behaviour"]
    assert ArroyoHook.get_ui_field_behaviour() == {
        "hidden_fields": new["hidden-fields"],
        "relabeling": new["relabeling"],
        "placeholders": new["placeholders"],
    }


def test_the_old_form_is_found() -> None:
    """Airflow before 3.2 searches the hook's own class: an inherited form counts as that of the parent."""
    assert vars(ArroyoHook).keys() >= {"get_connection_form_widgets", "get_ui_field_behaviour"}


def test_the_class_attributes_that_airflow_expects_of_a_hook() -> None:
    assert ArroyoHook.conn_type == CONNECTION["connection-type"]
    assert ArroyoHook.hook_name == CONNECTION["hook-name"]
    assert ArroyoHook.conn_name_attr == "arroyo_conn_id"
    assert hasattr(ArroyoHook("x"), ArroyoHook.conn_name_attr)
