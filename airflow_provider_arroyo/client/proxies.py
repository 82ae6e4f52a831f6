"""Chooses the proxy of a request, from the settings or the environment."""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.exceptions import ArroyoSettingsError


def proxy_for(settings: ClientSettings) -> str | None:
    """Return the address of the proxy to use; None for a direct connection.

    If the settings have any proxies, only they count; otherwise the environment's, except for hosts in ``no_proxy``.

    :raises ArroyoSettingsError: if the proxy cannot be used; names the setting or the variable.
    """
    parts = urlsplit(settings.base_url)
    if settings.proxies:
        proxy = settings.proxies.get(parts.scheme)
        return proxy and _checked_proxy(proxy, f"proxies[{parts.scheme!r}]")
    host = parts.hostname
    if not host or proxy_bypass(parts.netloc) or proxy_bypass(host) or _is_in_no_proxy_network(host):
        return None
    proxies = getproxies()
    for name in (parts.scheme, "all"):
        if proxy := proxies.get(name):
            variables = (f"{name}_proxy", f"{name}_proxy".upper())
            variable = next((one for one in variables if os.environ.get(one) == proxy), variables[0])
            # As in curl, an address without a scheme is an HTTP proxy.
            address = proxy if "://" in proxy else f"http://{proxy}"
            return _checked_proxy(address, f"environment variable {variable}")
    return None


def _checked_proxy(address: str, source: str) -> str:
    try:
        parts = urllib3.util.parse_url(address)
        is_usable = parts.scheme in ("http", "https") and bool(parts.host)
    except urllib3.exceptions.LocationParseError:
        is_usable = False
    if is_usable:
        return address
    # The address may hold a password, so only its scheme is shown.
    scheme = address.partition("://")[0]
    what = f"{scheme}:// is not an HTTP proxy" if scheme not in ("http", "https") else "not an address"
    raise ArroyoSettingsError(
        f"{source}: {what}; it must be http(s)://[user:password@]host[:port]. Correct it, name another proxy in "
        "the connection's proxies, or exclude the host with the environment variable no_proxy."
    )


def _is_in_no_proxy_network(host: str) -> bool:
    """Return whether a host is an address in one of the networks of ``no_proxy``, such as ``10.0.0.0/8``."""
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for entry in entries.split(","):
        # Most hosts are names, and most entries are not networks.
        with suppress(ValueError):
            if "/" in entry and ipaddress.ip_address(host) in ipaddress.ip_network(
                entry.strip(), strict=False
            ):
                return True
    return False
