"""A session that damages items of the lists that a server sends."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import requests
import urllib3

from airflow_provider_arroyo.client.settings import API_PREFIX

BROKEN_JOB = {"state": None}
BROKEN_PIPELINE = {"stop": 7}
NAMELESS = {"name": None}


class DamagingSession(requests.Session):
    """Damages one item in lists.

    :param fields: what each list has instead, by its path below ``/api/v1``: the fields of the item that is damaged.
    :param matches: a text that the damaged item contains, default empty: its first item.
    """

    def __init__(self, fields: Mapping[str, Mapping[str, Any]], matches: str = "") -> None:
        super().__init__()
        self.fields = fields
        self._matches = matches

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, and damage the response."""
        response = super().send(request, **kwargs)
        fields = self.fields.get(str(request.path_url).partition("?")[0].removeprefix(API_PREFIX))
        if request.method != "GET" or fields is None or response.status_code != 200:
            return response
        data = json.loads(response.content)
        for item in data["data"]:
            if self._matches in json.dumps(item):
                item.update(fields)
                break
        response.raw = urllib3.HTTPResponse(io.BytesIO(json.dumps(data).encode()), preload_content=False)
        return response
