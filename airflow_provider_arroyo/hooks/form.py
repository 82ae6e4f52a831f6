"""The connection form in Airflow's UI before 3.2; later versions read it from the provider's info."""

from __future__ import annotations

from typing import Any


def ui_field_behaviour() -> dict[str, Any]:
    """Return how Airflow shows the connection's own fields."""
    from airflow_provider_arroyo.get_provider_info import get_provider_info

    behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def connection_form_widgets() -> dict[str, Any]:
    """Return the form's further fields; none if the libraries for them are not installed."""
    try:
        # Airflow before 3.2 gets these libraries with its FAB provider, or replaces them with stand-ins when it
        # requests the form.
        from flask_babel import lazy_gettext  # type: ignore[import-not-found]  # no dependency of ours
        from wtforms import (  # type: ignore[import-untyped]  # no dependency of ours
            BooleanField,
            PasswordField,
            StringField,
        )
    except ImportError:
        # The connection's own fields keep their labels; the others can be written as JSON in Extra.
        return {}

    from airflow_provider_arroyo.get_provider_info import get_provider_info

    widgets: dict[str, Any] = {}
    for name, field in get_provider_info()["connection-types"][0]["conn-fields"].items():
        label, schema = lazy_gettext(field["label"]), field["schema"]
        default, kind = schema.get("default"), StringField
        if "boolean" in schema["type"]:
            kind = BooleanField
        elif schema.get("format") == "password":
            kind = PasswordField
        elif default is not None:
            # That form has no field for fractional numbers.
            default = str(default)
        widgets[name] = kind(label, description=field["description"], default=default)
    return widgets
