"""The public API of the package as text: one line for each item that users may rely on.

``python -m tests.typing.public_api`` writes it to ``public_api.txt``, with which the tests compare it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow_provider_arroyo.get_provider_info import get_provider_info
from airflow_provider_arroyo.links import TRANSITIONS_XCOM_KEY, pipeline_xcoms
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import result_values
from airflow_provider_arroyo.pipelines.choices import Action
from airflow_provider_arroyo.sandbox.fault_types import KINDS

COMMITTED = Path(__file__).with_name("public_api.txt")

PACKAGE = "airflow_provider_arroyo"

ALL: Sequence[str] = ()
NAMES: dict[str, Sequence[str]] = {
    "operators.arroyo": ALL,
    "sensors.arroyo": ALL,
    "triggers.arroyo": ALL,
    "hooks.arroyo": ("ArroyoHook",),
    "hooks.errors": ("ArroyoFatalTaskError", "ArroyoTaskError"),
    "links": ("ArroyoPipelineLink",),
    "assets": ("pipeline_asset",),
    "exceptions": ALL,
    "sandbox": ("ArroyoSandbox",),
}
"""The modules that users import from, and the names in them."""

WITH_MEMBERS = {"ArroyoHook", "ArroyoSandbox"}
"""Classes whose methods users call; those of the others are called by Airflow."""


def text() -> str:
    """Return the public API, one line for each item."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    for module_name, names in NAMES.items():
        module = import_module(f"{PACKAGE}.{module_name}")
        for name in sorted(names or _names(module)):
            value = getattr(module, name)
            if inspect.isclass(value):
                yield from _class(f"{module_name}.{name}", value)
            else:
                yield f"def {module_name}.{name}"
                yield from _parameters(value)
    for kind, fault in sorted(KINDS.items()):
        yield f"fault of the sandbox {kind}: {', '.join(('id', *fault.fields))}"
    yield from _provider_info()
    xcoms = [*pipeline_xcoms(PipelineRef(pipeline_id="pl_1")), TRANSITIONS_XCOM_KEY]
    yield f"result keys of every task: {', '.join(result_values(PipelineRef(pipeline_id='pl_1'), None))}"
    yield f"XComs beside the result: {', '.join(sorted(xcoms))}"
    yield f"values of action: {', '.join(sorted(Action))}"


def _names(module: Any) -> set[str]:
    """Return the names that a module lists as public; without a list, its classes, or those of its folder."""
    if (listed := getattr(module, "__all__", None)) is not None:
        return set(listed)
    folder = module.__name__.rpartition(".")[0] if module.__name__.count(".") > 1 else module.__name__
    return {
        name
        for name, value in vars(module).items()
        if name.startswith("Arroyo") and inspect.isclass(value) and value.__module__.startswith(folder)
    }


def _class(name: str, cls: Any) -> Iterator[str]:
    is_error = issubclass(cls, Exception)
    base = cls.__bases__[0] if is_error else next(one for one in cls.__mro__ if not _is_ours(one))
    yield f"class {name}" if base is object else f"class {name} ({base.__name__})"
    if is_error:
        return
    # A constructor's ``kwargs`` are the arguments of its bases.
    yield from _parameters(
        *(one.__init__ for one in cls.__mro__ if _is_ours(one) and "__init__" in vars(one))
    )
    if fields := getattr(cls, "template_fields", ()):
        yield f"    templated: {', '.join(fields)}"
    for member in sorted(dir(cls)) if cls.__name__ in WITH_MEMBERS else ():
        defining = [one for one in cls.__mro__ if member in vars(one)]
        if not member.startswith("_") and all(map(_is_ours, defining)):
            yield from _member(member, inspect.getattr_static(cls, member))


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == PACKAGE


def _member(name: str, value: Any) -> Iterator[str]:
    function = (
        getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
    )
    if isinstance(value, property | cached_property):
        yield f"    .{name}: {inspect.signature(function).return_annotation}"
    elif inspect.isfunction(function):
        yield f"    .{name}()"
        yield from _parameters(function, indent=8)


def _parameters(*functions: Callable[..., Any], indent: int = 4) -> Iterator[str]:
    signatures, has_star = [inspect.signature(function) for function in functions], False
    parameters: dict[str, inspect.Parameter] = {}
    for signature in signatures:
        parameters = {**signature.parameters, **parameters}
    for one in sorted(parameters.values(), key=_order):
        if one.name in ("self", "cls"):
            continue
        if one.kind is one.KEYWORD_ONLY and not has_star:
            has_star = True
            yield f"{' ' * indent}*"
        # Annotations are strings, which would be shown in quotes.
        stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        default = "" if one.default is one.empty else f" = {one.default!r}"
        yield f"{' ' * indent}{stars}{one.name}: {one.annotation}{default}"
    for signature in signatures:
        if signature.return_annotation not in (signature.empty, "None"):
            yield f"{' ' * indent}-> {signature.return_annotation}"


def _order(one: inspect.Parameter) -> tuple[int, str]:
    # The order of keyword-only parameters is not part of the API.
    return one.kind, one.name if one.kind is one.KEYWORD_ONLY else ""


def _provider_info() -> Iterator[str]:
    info = get_provider_info()
    for connection in info["connection-types"]:
        yield f"connection type {connection['connection-type']}"
        for field in sorted(connection["conn-fields"]):
            yield f"    extra: {field}"
    yield f"asset schemes: {', '.join(scheme for uri in info['asset-uris'] for scheme in uri['schemes'])}"
    yield f"task decorators: {', '.join(one['name'] for one in info['task-decorators'])}"
    for section, content in info["config"].items():
        for option in sorted(content["options"]):
            yield f"setting [{section}] {option}"


if __name__ == "__main__":
    COMMITTED.write_text(text())
