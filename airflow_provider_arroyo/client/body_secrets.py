"""Secrets in what is sent: the body of a request, which a response may repeat, and the settings in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_arroyo.client.code_secrets import code_secret_values
from airflow_provider_arroyo.client.secret_names import is_no_secret, is_secret_name, names_user
from airflow_provider_arroyo.client.sql_secrets import secret_values
from airflow_provider_arroyo.client.text_secrets import echoed_values

if TYPE_CHECKING:
    from airflow_provider_arroyo.client.models import Job, Pipeline

_MIN_VARIABLE_LENGTH = 8
"""An environment variable may be a secret whatever its name is; what is shorter is as likely a word of any text."""


def body_secret_values(body: Mapping[str, Any]) -> frozenset[str]:
    """Return the secret values in the body of a request, which the response may repeat.

    :param body: SQL, UDFs, environment variables, the settings of a connector.
    """
    rest = dict(body)
    found = set(secret_values(str(rest.pop("query", ""))))
    variables = (rest.pop("env_vars", None) or {}).values()
    found |= {value for value in variables if len(value) >= _MIN_VARIABLE_LENGTH}
    definitions = [*(rest.pop("udfs", None) or ()), {"definition": rest.pop("definition", ""), **rest}]
    for one in definitions:
        found |= code_secret_values(one["definition"], one.get("language"))
    return frozenset(found | setting_secret_values(rest))


def pipeline_secret_values(pipeline: Pipeline, job: Job | None = None) -> frozenset[str]:
    """Return the secret values in a pipeline, which Arroyo's messages about it may repeat.

    :param pipeline: its SQL and its UDFs.
    :param job: its job, which holds its environment variables (0.16); default None leaves these out.
    """
    udfs = [{"definition": udf.definition, "language": udf.language} for udf in pipeline.udfs]
    variables = {} if job is None else job.env_vars
    return body_secret_values({"query": pipeline.query, "udfs": udfs, "env_vars": variables})


def setting_secret_values(settings: Any) -> frozenset[str]:
    """Return the secret values in some settings, recognized by their names or by their form.

    :param settings: JSON values, such as the settings of a connector, or environment variables.
    """
    return echoed_values(_secrets(settings, is_secret=False))


def _secrets(value: Any, *, is_secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            is_named = is_secret_name(str(name)) and not names_user(str(name))
            yield from _secrets(item, is_secret=is_secret or is_named)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, is_secret=is_secret)
    elif isinstance(value, str) and is_secret and not is_no_secret(value):
        yield value
    elif isinstance(value, str):
        yield from secret_values(value)
