"""What Airflow loads: the pages in its UI, if this Airflow supports them (3.1 and later).

Every Airflow process imports this module. Only the API server creates the pages.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

log = logging.getLogger(__name__)

URL_PREFIX = "/arroyo"
"""The path of the routes, below the address of the API server."""

BUNDLE = Path(__file__).parent / "static" / "main.js"

NAV_NAME = "Arroyo"
TASK_NAME = "Arroyo pipeline"


def is_api_server(arguments: Sequence[str]) -> bool:
    """Return whether a process serves Airflow's UI.

    :param arguments: its command line.
    """
    return list(arguments[1:2]) == ["api-server"] or "airflow.api_fastapi.main" in sys.modules


def base_path() -> str:
    """Return the path under which Airflow's UI is served, without a slash at the end; empty for the root."""
    return urlsplit(str(conf.get("api", "base_url", fallback="/"))).path.rstrip("/")


def react_apps(bundle: Path) -> list[dict[str, Any]]:
    """Return the pages that Airflow shows, and where it shows them.

    :param bundle: the built pages.
    """
    # Airflow caches a bundle as long as its address stays the same.
    version = hashlib.sha256(bundle.read_bytes()).hexdigest()[:12]
    static = f"{base_path()}{URL_PREFIX}/static"
    app = {
        "bundle_url": f"{static}/main.js?v={version}",
        "icon": f"{static}/icon.svg?v={version}",
        "icon_dark_mode": f"{static}/icon-dark.svg?v={version}",
    }
    # Airflow before 3.3 has no top level, and shows the entry in its menu of plugins.
    nav = {"destination": "nav", "nav_top_level": True}
    return [
        {**app, **nav, "name": NAV_NAME, "url_route": "arroyo"},
        {**app, "name": TASK_NAME, "url_route": "arroyo_pipeline", "destination": "task_instance"},
    ]


def described(arguments: Sequence[str], bundle: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what an Airflow process finds in the plugin: ``fastapi_apps`` and ``react_apps``, or nothing.

    :param arguments: the command line of the process.
    :param bundle: the built pages.
    """
    if not (is_api_server(arguments) and hasattr(AirflowPlugin, "react_apps")):
        return {}
    if not bundle.exists():
        log.warning(
            "The Arroyo pages are left out of Airflow's UI: this installation of airflow_provider_arroyo has no %s. "
            "Editable installs and plain checkouts do not contain them; install a wheel.",
            bundle.name,
        )
        return {}
    from airflow_provider_arroyo.plugin.api import make_app

    app = {"app": make_app(), "url_prefix": URL_PREFIX, "name": NAV_NAME}
    return {"fastapi_apps": [app], "react_apps": react_apps(bundle)}


class ArroyoPlugin(AirflowPlugin):
    """The page "Arroyo" in the navigation, and the tab "Arroyo pipeline" on task instances."""

    name = "arroyo"


for _name, _value in described(sys.argv, BUNDLE).items():
    setattr(ArroyoPlugin, _name, _value)
