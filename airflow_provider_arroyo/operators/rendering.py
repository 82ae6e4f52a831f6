"""How the operators render their templated fields: one by one, and with what is secret masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.hooks.masking import hide_values

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class RenderedFields:
    """Mixin for the operators; must precede Airflow's base class."""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render fields of this task, or of an object in one of its fields.

        Unlike its public method, Airflow calls this for mapped tasks, too.
        """
        if parent is self:
            for field in template_fields:
                self._render_field(field, context, jinja_env, seen_oids)
        else:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)  # type: ignore[misc]  # Airflow's

    def _render_field(
        self, field: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int]
    ) -> None:
        """Render one field, and mask what is secret in settings such as ``env_vars``."""
        super()._do_render_template_fields(self, [field], context, jinja_env, seen_oids)  # type: ignore[misc]  # Airflow's
        if isinstance(value := getattr(self, field, None), Mapping):
            from airflow_provider_arroyo.client.body_secrets import setting_secret_values

            hide_values(setting_secret_values(value))
