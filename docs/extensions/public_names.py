"""The reference of the public names, and the check that it has all of them.

``{public} MODULE`` documents every public name of a module, or those that its lines name. A build in which a public
name is documented nowhere, or says nothing of itself, warns, which ``make docs`` takes for an error.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from airflow_provider_arroyo.exceptions import ArroyoError
from airflow_provider_arroyo.get_provider_info import get_provider_info

PACKAGE = "airflow_provider_arroyo"
log = logging.getLogger(__name__)

MORE_MODULES = ("assets", "decorators", "links", "exceptions", "hooks.errors", "openlineage", "sandbox")
"""Those of the package that users import from, besides the modules that Airflow is told of."""

NOT_FOR_USERS = frozenset(
    {
        # What Airflow calls.
        *("normalize_uri", "ArroyoSubmitDecoratedOperator", "ArroyoDeployDecoratedOperator"),
        # What the package calls.
        *("error_from_dict", "task_error", "pipeline_xcoms", "namespace_of"),
    }
)


def public_modules() -> Iterator[ModuleType]:
    """Yield the modules that users import from."""
    info = get_provider_info()
    kinds = [one for kind in ("hooks", "operators", "sensors", "triggers") for one in info[kind]]
    names = {name for one in kinds for name in one["python-modules"]}
    for name in sorted(names | {f"{PACKAGE}.{name}" for name in MORE_MODULES}):
        try:
            yield importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise


def public_names(module: ModuleType) -> list[str]:
    """Return the public classes and functions of a module: those of ``__all__``, else those that it defines."""
    listed = getattr(module, "__all__", None)
    found = []
    for name in vars(module) if listed is None else listed:
        value = getattr(module, name)
        where = getattr(value, "__module__", "")
        is_own = where == module.__name__ if listed is None else where.startswith(PACKAGE)
        is_kind = inspect.isclass(value) or inspect.isfunction(value)
        if is_own and is_kind and not name.startswith("_") and name not in NOT_FOR_USERS:
            found.append(name)
    return found


class Public(SphinxDirective):
    """``{public} MODULE``; each line of its content is a name, ``NAME members`` shows the members, too."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the documentation of the names."""
        module = importlib.import_module(self.arguments[0])
        lines = [line.split() for line in self.content if line.strip()]
        found: list[nodes.Node] = []
        for name, *options in lines or [[name] for name in public_names(module)]:
            text = _autodoc(module.__name__, name, getattr(module, name), has_members="members" in options)
            found += self.parse_text_to_nodes(f"```{{eval-rst}}\n{text}\n```\n")
        return found


def _autodoc(module: str, name: str, value: Any, *, has_members: bool) -> str:
    if not inspect.isclass(value):
        return f".. autofunction:: {module}.{name}"
    kind = "exception" if issubclass(value, Exception) else "class"
    options = "\n   :members:" if has_members else ""
    if issubclass(value, Enum):
        options = "\n   :members:\n   :undoc-members:"
    return f".. auto{kind}:: {module}.{name}{options}"


def add_template_fields(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Say below a class which of its arguments are templated."""
    fields = getattr(value, "template_fields", None) if what == "class" else None
    if fields:
        lines += ["", f"**Templated:** {', '.join(f'``{field}``' for field in fields)}.", ""]


def add_what_airflow_does(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Say below an error of the client whether Airflow retries a task that fails with it."""
    if what == "exception" and issubclass(value, ArroyoError) and value is not ArroyoError:
        does = "does not retry it" if value.is_fatal else "retries it, if ``retries`` are left"
        lines += ["", f"**If a task fails with it,** Airflow {does}.", ""]


def drop_return_type(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Leave out what a constructor returns: its ``:returns:`` is about a task. Shorten defaults."""
    if what != "class" or signature is None:
        return None
    document = getattr(app.env, "current_document", None)
    hints = getattr(document, "autodoc_annotations", None) or app.env.temp_data.get("annotations", {})
    hints.get(name, {}).pop("return", None)
    # Defaults, as they are written in the source.
    signature = re.sub(r"datetime\.timedelta\((?:(?:seconds=)?(\d+))?\)", _as_written, signature)
    signature = re.sub(r"<built-in function (\w+)>", r"time.\1", signature).replace("<factory>", "...")
    return signature, returns


def _as_written(found: re.Match[str]) -> str:
    seconds = int(found[1] or 0)
    return (
        f"timedelta(minutes={seconds // 60})"
        if seconds and seconds % 60 == 0
        else f"timedelta(seconds={seconds})"
    )


def split_parameters(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Give each of ``:param a, b: text`` an entry of its own: Sphinx would take ``a,`` for the type of ``b``."""
    text = "\n".join(lines)
    entries = re.compile(r"^:param (\w+(?:, \w+)+):(.*(?:\n[ \t].*)*)", re.MULTILINE)
    lines[:] = entries.sub(
        lambda found: "\n".join(f":param {one}:{found[2]}" for one in found[1].split(", ")), text
    ).split("\n")


def check_all_documented(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of a public name that is documented nowhere."""
    known = set(env.domaindata["py"]["objects"])
    for module in public_modules():
        for name in public_names(module):
            value = getattr(module, name)
            # It may be documented where it is defined instead.
            places = {f"{module.__name__}.{name}", f"{value.__module__}.{value.__qualname__}"}
            if not places & known:
                log.warning("%s.%s is public, and docs/reference does not have it", module.__name__, name)
            elif not (inspect.getdoc(value) or "").strip():
                log.warning("%s.%s is public, and has no docstring", module.__name__, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive and the check."""
    app.add_directive("public", Public)
    app.connect("autodoc-process-docstring", split_parameters)
    app.connect("autodoc-process-docstring", add_template_fields)
    app.connect("autodoc-process-docstring", add_what_airflow_does)
    # After autodoc has noted the type hints.
    app.connect("autodoc-process-signature", drop_return_type, priority=900)
    app.connect("env-check-consistency", check_all_documented)
    return {"parallel_read_safe": True}
