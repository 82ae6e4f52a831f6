"""Errors cross process boundaries whole: pools and task runners pickle what a function raised."""

from __future__ import annotations

import copy
import pickle

import pytest

from airflow_provider_arroyo.arroyo.details import SqlDiagnostic
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoApiError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNoSuchNameError,
    ArroyoOwnershipError,
    ArroyoPipelineError,
    ArroyoQueryError,
    ArroyoResponseError,
    ArroyoSettingsError,
    ArroyoUnreachableError,
)

CALL = {"status": 400, "method": "POST", "path": "/pipelines"}


@pytest.mark.parametrize(
    "error",
    [
        ArroyoError("no"),
        ArroyoSettingsError("no"),
        ArroyoUnreachableError("no", since=1.5),
        ArroyoConnectionError("no", method="GET", path="/jobs", was_sent=False),
        ArroyoApiError("no", status=418, method="GET", path="/jobs", server_message="teapot"),
        ArroyoResponseError("no", is_cut_short=True, status=200, method="GET", path="/jobs"),
        ArroyoQueryError("no", diagnostics=(SqlDiagnostic(message="a", line=1, column=2),), **CALL),
        ArroyoOwnershipError("no", owner="another"),
        ArroyoNoSuchNameError("orders"),
        ArroyoAmbiguousNameError("orders", [("pl_1", "Running", 1), ("pl_2", "Running", 2)]),
        ArroyoPipelineError("no", outcome="failed", pipeline_id="pl_1", reason="gone", domain="external"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_copied_whole(error: ArroyoError) -> None:
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
