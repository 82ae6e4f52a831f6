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


def _modules(*names: str) -> list[dict[str, Any]]:
    return [
        {
            "integration-name": INTEGRATION_NAME,
            "python-modules": [f"airflow_provider_arroyo.{name}" for name in names],
        }
    ]


def _connection_fields() -> dict[str, dict[str, Any]]:
    return {
        "base_path": {
            "label": "Base path",
            "description": "Path prefix that a proxy adds before /api/v1, such as /arroyo",
            "schema": {"type": ["string", "null"]},
        },
        "console_url": {
            "label": "Console address",
            "description": "URL of Arroyo's console, for links; empty: the same as the API",
            "schema": {"type": ["string", "null"]},
        },
        "verify": {
            "label": "Verify TLS certificate",
            "description": "Off accepts any certificate; for experiments only",
            "schema": {"type": ["boolean", "null"], "default": True},
        },
        "ca_cert": {
            "label": "CA certificate file",
            "description": "Path of a PEM file with the CA certificates to trust instead of the system's",
            "schema": {"type": ["string", "null"]},
        },
        "client_cert": {
            "label": "Client certificate file",
            "description": "Path of a PEM file, for servers that require client certificates",
            "schema": {"type": ["string", "null"]},
        },
        "client_key": {
            "label": "Client key file",
            "description": "Path of the private key; empty if the certificate file contains it",
            "schema": {"type": ["string", "null"]},
        },
        "headers": {
            "label": "Extra headers",
            "description": 'JSON object, sent with every request: {"X-Tenant": "blue"}. Host and headers that frame '
            "a request cannot be set",
            # A gateway's header is often a token, so the form hides it like a password.
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "secret_headers": {
            "label": "Secret headers",
            "description": "Comma-separated names of more headers to mask in logs. Headers whose names contain auth, "
            "token, key, secret, cookie, password or signature are always masked",
            "schema": {"type": ["string", "null"]},
        },
        "proxies": {
            "label": "Proxies",
            "description": 'JSON object: {"http": "http://proxy:3128"}; empty: from the environment',
            "schema": {"type": ["string", "null"]},
        },
        "connect_timeout": {
            "label": "Connect timeout (seconds)",
            "description": "How long a connection may take to open",
            "schema": {"type": ["number", "null"], "default": 5, "exclusiveMinimum": 0},
        },
        "read_timeout": {
            "label": "Read timeout (seconds)",
            "description": "How long a response may take",
            "schema": {"type": ["number", "null"], "default": 30, "exclusiveMinimum": 0},
        },
        "namespace": {
            "label": "Namespace",
            "description": "Distinguishes this Airflow's pipelines from those of another one on the same Arroyo; "
            "empty: the host of [api] base_url",
            "schema": {"type": ["string", "null"], "maxLength": 100},
        },
    }
