"""Keeps what is secret in rendered fields out of Airflow's logs and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.hooks.masking import hide_values

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class MaskedFields:
    """Mixed into the operators: tells Airflow what is secret in their templated settings, such as ``env_vars``."""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render the fields. Airflow calls this for mapped tasks, too, unlike its public method."""
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)  # type: ignore[misc]  # Airflow's
        fields = [getattr(self, field, None) for field in template_fields] if parent is self else []
        if settings := [value for value in fields if isinstance(value, Mapping)]:
            from airflow_provider_arroyo.client.body_secrets import setting_secret_values

            hide_values(setting_secret_values(settings))
