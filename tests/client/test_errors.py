"""Errors keep all their data between processes: pools pickle them, and a trigger sends them to a worker as JSON."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from typing import Any

import pytest

from airflow_provider_arroyo import exceptions
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoDeployError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNoConnectionError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
    ArroyoOwnershipError,
    ArroyoPipelineError,
    ArroyoQueryError,
    ArroyoSettingsError,
    ArroyoTlsError,
    ArroyoUnreachableError,
    ArroyoUnreadableItemError,
    ArroyoUnsupportedError,
    Disposition,
    SqlDiagnostic,
    error_from_dict,
)

REQUEST = {"method": "POST", "path": "/pipelines"}
REFUSAL: dict[str, Any] = {"status": 400, "server_message": "no", "retry_after_seconds": 1.5, **REQUEST}

CROSS_AS_JSON = [
    ArroyoError("no"),
    ArroyoSettingsError("no"),
    ArroyoNoConnectionError("no"),
    ArroyoUnreachableError("no", since=1.5),
    ArroyoConnectionError("no", is_hang_up=True, **REQUEST),
    ArroyoConnectionError("not sent", disposition=Disposition.RETRY, **REQUEST),
    ArroyoTlsError("no", is_unsent=True, **REQUEST).as_outage(),
    ArroyoApiError("no", disposition=Disposition.RETRY_IF_IDEMPOTENT, is_fatal=True, **REFUSAL),
    ArroyoAuthError("no", **REFUSAL),
    ArroyoNotFoundError("no", **REFUSAL),
    ArroyoConflictError("no", **REFUSAL),
    ArroyoForeignResponseError("no", **REFUSAL),
    ArroyoUnreadableItemError("no", **REFUSAL),
    ArroyoDeployError("no", is_lost_race=True),
    ArroyoQueryError("no", **REFUSAL),
]
STAY_IN_PYTHON = [
    ArroyoQueryError("no", diagnostics=(SqlDiagnostic("a", 1, 2),), **REFUSAL),
    ArroyoOwnershipError("no", owner="another"),
    ArroyoUnsupportedError("no"),
    ArroyoNoSuchNameError.of("orders"),
    ArroyoAmbiguousNameError("no", name="orders", candidates=(("pl_1", "Running", 1),)),
    ArroyoPipelineError("no", outcome="failed", pipeline_id="pl_1", reason="gone", domain="external"),
]


def test_the_tables_contain_every_error() -> None:
    defined = {
        cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, ArroyoError)
    }
    assert {type(error) for error in CROSS_AS_JSON + STAY_IN_PYTHON} == defined


@pytest.mark.parametrize("error", CROSS_AS_JSON + STAY_IN_PYTHON, ids=lambda error: type(error).__name__)
def test_a_copy_of_an_error_has_all_its_data(error: ArroyoError) -> None:
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert_same(again, error)


@pytest.mark.parametrize("error", CROSS_AS_JSON + STAY_IN_PYTHON, ids=lambda error: type(error).__name__)
def test_a_line_that_is_added_to_an_error_loses_nothing(error: ArroyoError) -> None:
    cause = copy.copy(error)
    cause.add_note("of a user's own code")
    more = cause.adding("More.")
    assert (type(more), str(more)) == (type(error), f"{error}\nMore.")
    assert {**vars(more), "message": ""} == {**vars(cause), "message": ""}
    assert_same(copy.copy(more), more)


@pytest.mark.parametrize("error", CROSS_AS_JSON, ids=lambda error: type(error).__name__)
def test_an_error_survives_json(error: ArroyoError) -> None:
    again = error_from_dict(json.loads(json.dumps(error.to_dict())))
    assert_same(again, error)
    assert isinstance(again.disposition, Disposition)
    assert_same(error_from_dict(again.to_dict()), error)


def assert_same(again: ArroyoError, error: ArroyoError) -> None:
    assert type(again) is type(error)
    assert str(again) == error.message == str(error)
    assert vars(again) == vars(error)
    assert (again.disposition, again.is_fatal) == (error.disposition, error.is_fatal)


def test_an_error_of_an_unknown_kind_becomes_a_plain_one() -> None:
    error = error_from_dict({"type": "ArroyoNewError", "message": "no", "is_fatal": True, "novelty": 1})
    assert type(error) is ArroyoError
    assert (str(error), error.is_fatal) == ("no", True)
    assert not hasattr(error, "novelty")


def test_a_misspelled_attribute_is_refused() -> None:
    with pytest.raises(TypeError, match="ArroyoConnectionError has no attribute 'staus'"):
        ArroyoConnectionError("no", staus=400)


def test_the_message_about_a_missing_name() -> None:
    assert "no pipeline named 'orders'" in str(ArroyoNoSuchNameError.of("orders"))
