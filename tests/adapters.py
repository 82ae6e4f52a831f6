"""Adapters between a client and its own connections: they watch, damage or replace what is sent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import requests
import requests.adapters
import urllib3

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.connections import _deadline
from airflow_provider_arroyo.client.settings import API_PREFIX

BROKEN_JOB = {"state": None}
BROKEN_PIPELINE = {"stop": 7}
NAMELESS = {"name": None}

Hook = Callable[[requests.PreparedRequest], object]


class PassingAdapter(requests.adapters.BaseAdapter):
    """Passes on every request of a client.

    :param client: the client, which uses this adapter from now on.
    """

    def __init__(self, client: ArroyoClient) -> None:
        super().__init__()
        session = client._link.transport._session
        self._own = session.get_adapter("http://")
        session.mount("http://", self)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request."""
        return self._own.send(request, *args, **kwargs)

    def close(self) -> None:
        """Close the client's own connections."""
        self._own.close()


def count_as_sent() -> None:
    """Let the current request count as sent, so that it may have taken effect."""
    if (deadline := _deadline.get()) is not None:
        deadline.has_sent = True


class HookedAdapter(PassingAdapter):
    """Calls a hook before and after each HTTP request; an exception of a hook ends the request.

    It then counts as sent.
    """

    def __init__(self, client: ArroyoClient, before: Hook | None, after: Hook | None) -> None:
        super().__init__(client)
        self._before = before
        self._after = after

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, between the hooks."""
        count_as_sent()
        if self._before is not None:
            self._before(request)
        response = super().send(request, *args, **kwargs)
        if self._after is not None:
            self._after(request)
        return response


class DamagingAdapter(PassingAdapter):
    """Damages one item in lists.

    :param client: the client that gets them.
    :param fields: what each list has instead, by its path below ``/api/v1``: the fields of the item that is damaged.
    :param matches: a text that the damaged item contains, default empty: its first item.
    """

    def __init__(
        self, client: ArroyoClient, fields: Mapping[str, Mapping[str, Any]], matches: str = ""
    ) -> None:
        super().__init__(client)
        self._fields = fields
        self._matches = matches

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, and damage the response."""
        response = super().send(request, *args, **kwargs)
        fields = self._fields.get(str(request.path_url).partition("?")[0].removeprefix(API_PREFIX))
        if request.method != "GET" or fields is None or response.status_code != 200:
            return response
        data = json.loads(response.content)
        for item in data["data"]:
            if self._matches in json.dumps(item):
                item.update(fields)
                break
        response.raw = urllib3.HTTPResponse(io.BytesIO(json.dumps(data).encode()), preload_content=False)
        return response
