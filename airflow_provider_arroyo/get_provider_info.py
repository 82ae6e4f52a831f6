"""What Airflow reads about this package: hook, connection form, modules, links and assets.

Airflow imports this module and validates its result in each of its processes, so it imports nothing from this
package and computes nothing.
"""

from __future__ import annotations

from typing import Any

INTEGRATION_NAME = "Arroyo"


def get_provider_info() -> dict[str, Any]:
    """Return the description for Airflow's ``apache_airflow_provider`` entry point.

    :returns: a dictionary that satisfies Airflow's ``provider_info.schema.json``.
    """
    return {
        "package-name": "airflow-provider-arroyo",
        "name": "Arroyo",
        "description": "Run streaming SQL pipelines on `Arroyo <https://www.arroyo.dev/>`__: "
        "deploy, submit, watch, stop.",
        "integrations": [
            {
                "integration-name": INTEGRATION_NAME,
                "external-doc-url": "https://doc.arroyo.dev/",
                "tags": ["service"],
            }
        ],
        "hooks": _modules("hooks.arroyo"),
        "operators": _modules("operators.arroyo"),
        "sensors": _modules("sensors.arroyo"),
        "triggers": _modules("triggers.arroyo"),
        "asset-uris": [
            {
                "schemes": ["arroyo"],
                "handler": "airflow_provider_arroyo.assets.normalize_uri",
                "factory": "airflow_provider_arroyo.assets.pipeline_asset",
            }
        ],
        "task-decorators": [
            {"name": "arroyo_sql", "class-name": "airflow_provider_arroyo.decorators.arroyo_sql_task"}
        ],
        "extra-links": [
            "airflow_provider_arroyo.links.ArroyoPipelineLink",
            "airflow_provider_arroyo.links.ArroyoPageLink",
        ],
        "config": {
            "arroyo": {
                "description": "Settings of the provider for Arroyo.",
                "options": {
                    "deferral_hold": {
                        "description": "Minimum number of seconds from a task's deferral to its resumption. "
                        "Airflow's scheduler may fail a task that resumes while the worker process from before the "
                        "deferral is still running (apache/airflow#72716). ``auto`` is ``[workers] "
                        "min_heartbeat_interval`` plus 3 seconds; ``0`` turns the hold off. Later events "
                        "are not delayed. Read in the workers.",
                        "version_added": "0.2.0",
                        "type": "string",
                        "example": "8",
                        "default": "auto",
                    }
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "arroyo",
                "hook-class-name": "airflow_provider_arroyo.hooks.arroyo.ArroyoHook",
                "hook-name": "Arroyo",
                "ui-field-behaviour": {
                    "hidden-fields": ["login"],
                    "relabeling": {"schema": "Scheme", "password": "API key"},
                    "placeholders": {
                        "schema": "http",
                        "host": "arroyo.example.com",
                        "port": "5115",
                        "password": "empty if the server needs none",
                    },
                },
                "conn-fields": _connection_fields(),
            }
        ],
    }


def _modules(name: str) -> list[dict[str, Any]]:
    return [{"integration-name": INTEGRATION_NAME, "python-modules": [f"airflow_provider_arroyo.{name}"]}]


def _connection_fields() -> dict[str, dict[str, Any]]:
    return {
        "base_path": _field("Base path", "Path prefix that a proxy adds before /api/v1, such as /arroyo"),
        "console_url": _field(
            "Console address", "URL of Arroyo's console, for links; empty: the same as the API"
        ),
        "verify": _field(
            "Verify TLS certificate",
            "Off accepts any certificate; for experiments only",
            "boolean",
            default=True,
        ),
        "ca_cert": _field(
            "CA certificate file",
            "Path of a PEM file with the CA certificates to trust instead of the system's",
        ),
        "client_cert": _field(
            "Client certificate file", "Path of a PEM file, for servers that require client certificates"
        ),
        "client_key": _field(
            "Client key file", "Path of the private key; empty if the certificate file contains it"
        ),
        "headers": _field(
            "Extra headers",
            'JSON object, sent with every request: {"X-Tenant": "blue"}. Host and headers that frame a request '
            "cannot be set",
            # A gateway's header is often a token, so the form hides it like a password.
            format="password",
        ),
        "secret_headers": _field(
            "Secret headers",
            "Comma-separated names of more headers to mask in logs. Headers whose names contain auth, token, key, "
            "secret, cookie, password or signature are always masked",
        ),
        "proxies": _field(
            "Proxies", 'JSON object: {"http": "http://proxy:3128"}; empty: from the environment'
        ),
        "connect_timeout": _timeout("Connect timeout (seconds)", "How long a connection may take to open", 5),
        "read_timeout": _timeout("Read timeout (seconds)", "How long a response may take", 30),
        "namespace": _field(
            "Namespace",
            "Distinguishes this Airflow's pipelines from those of another one on the same Arroyo; empty: the host of "
            "[api] base_url",
            maxLength=100,
        ),
    }


def _field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


def _timeout(label: str, description: str, default: int) -> dict[str, Any]:
    return _field(label, description, "number", default=default, exclusiveMinimum=0)
