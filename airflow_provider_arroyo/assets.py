"""Pipelines as Airflow's assets: ``arroyo://host/pipelines/name``.

An asset identifies a pipeline by server and name, which stay the same when a deploy replaces it. Airflow imports
this module as soon as a DAG has any asset, so it does no look-ups, and imports its checks only when needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlunsplit

from airflow.providers.common.compat.sdk import Asset

if TYPE_CHECKING:
    from airflow.sdk import AssetWatcher

SCHEME = "arroyo"
_FOLDER = "/pipelines/"


def pipeline_asset(
    *,
    host: str,
    pipeline_name: str,
    group: str | None = None,
    watchers: Sequence[AssetWatcher] = (),
    extra: dict[str, Any] | None = None,
) -> Asset:
    """Return the asset of a pipeline, for a task's ``outlets`` or ``inlets``, and for a DAG's ``schedule``.

    With ``ArroyoDeployPipelineOperator(..., outlets=[pipeline_asset(...)])``, each successful deploy updates the
    asset. With a watcher, DAGs that are scheduled on the asset start when something happens to the pipeline.

    :param host: the server, as in the connection: ``arroyo.example.com`` or ``arroyo.example.com:8000``.
    :param pipeline_name: the pipeline's exact name.
    :param group: Airflow's group of the asset; default Airflow's own.
    :param watchers: each an ``AssetWatcher`` with an :class:`.ArroyoPipelineEventTrigger`; default none.
    :param extra: the asset's ``extra`` in Airflow, default none; put no secrets there.
    :returns: the asset, whose name is its URI.
    :raises ValueError: if an argument is invalid; names the argument.
    """
    from airflow_provider_arroyo.client.checks import check_not_a_template, check_text
    from airflow_provider_arroyo.client.names import check_pipeline_name

    why = "Airflow does not render assets"
    check_not_a_template(check_text(host, "host"), "host", why)
    check_not_a_template(check_pipeline_name(pipeline_name), "pipeline_name", why)
    path = _FOLDER + quote(pipeline_name, safe="")
    try:
        uri = urlunsplit(normalize_uri(SplitResult(SCHEME, host, path, "", "")))
    except ValueError as err:
        raise ValueError(f"host must be a host name, with a port or without, got {host!r}: {err}") from err
    more: dict[str, Any] = {} if group is None else {"group": group}
    return Asset(name=uri, uri=uri, watchers=list(watchers), extra=dict(extra or {}), **more)


def normalize_uri(uri: SplitResult) -> SplitResult:
    """Return the normalized URI of a pipeline; Airflow calls this for every asset with the scheme ``arroyo``.

    The host is in lower case, the default port 5115 is left out, and the name is percent-encoded.

    :param uri: the URI as written.
    :raises ValueError: if it is not ``arroyo://host/pipelines/name``, or contains a login.
    """
    from airflow_provider_arroyo.client.settings import DEFAULT_PORT

    form = "write arroyo://host/pipelines/name"
    if "@" in uri.netloc:
        raise ValueError(f"an asset's URI must not contain a login; {form}")
    try:
        host, port = uri.hostname, uri.port
    except ValueError as err:
        raise ValueError(f"{err}; {form}") from err
    if not host or any(sign in uri.netloc for sign in "/?# \t\n"):
        raise ValueError(f"{uri.netloc!r} is not a host; {form}")
    name = unquote(uri.path.removeprefix(_FOLDER))
    if not uri.path.startswith(_FOLDER) or not name.strip() or "/" in uri.path.removeprefix(_FOLDER):
        raise ValueError(f"{uri.path!r} names no pipeline; {form}, with the name percent-encoded")
    if uri.query or uri.fragment:
        raise ValueError(f"a pipeline's URI has no query and no fragment; {form}")
    host = f"[{host}]" if ":" in host else host
    netloc = host if port in (None, DEFAULT_PORT) else f"{host}:{port}"
    return SplitResult(SCHEME, netloc, _FOLDER + quote(name, safe=""), "", "")
