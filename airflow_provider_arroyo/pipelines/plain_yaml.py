"""Reads YAML that means what it looks like, and refuses text that YAML readers interpret differently.

YAML 1.1 reads ``010`` as 8, ``1:30`` as 90 and ``no`` as false; YAML 1.2 does not. Here, a value without quotes is
``true``, ``false``, ``null``, a number in JSON syntax, or text that both versions read as text.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]  # its stubs are another package

from airflow_provider_arroyo.text import shorten

_CONSTANTS = {
    "": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = r"-?[0-9]{1,18}(\.[0-9]{1,18})?"
_AMBIGUOUS_STRING = (
    # PyYAML reads these as text, but YAML 1.2 as numbers, and other readers of YAML 1.1 as booleans.
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+|[yYnN]"
)


class YamlError(ValueError):
    """Some text is not YAML, or is ambiguous.

    :param problem: what is wrong, in words that follow a position.
    :param line: the line, counted from 1; default None, unknown.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


class Item(NamedTuple):
    """A value in a mapping, with the line of its key, counted from 1."""

    value: Any
    line: int


def read_mapping(text: str) -> dict[str, Item]:
    """Return the mapping in some YAML; empty for empty text. Values that are mappings also contain :class:`Item`.

    Only plain values are created. Aliases, which can expand a few lines to gigabytes, and tags such as ``!!int``
    are refused, and so are duplicate keys at any depth.

    :raises YamlError: if it is not YAML, not a mapping, or ambiguous.
    """
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise YamlError("YAML aliases are not allowed", _line(event))
            if getattr(event, "tag", None) is not None:
                tag = event.tag.replace("tag:yaml.org,2002:", "!!")
                raise YamlError(f"YAML tags such as {shorten(tag, 80)} are not allowed", _line(event))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise YamlError("must be a YAML mapping", _line(node))
        return _items(node, depth=2)
    except RecursionError as err:
        raise YamlError("is nested too deeply", None) from err
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        problem = getattr(err, "problem", None) or str(err)
        raise YamlError(f"is not YAML: {shorten(problem)}", None if mark is None else mark.line + 1) from err


def _items(node: yaml.MappingNode, depth: int = 1) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for key_node, value_node in node.value:
        key, line = _value(key_node), _line(key_node)
        if not isinstance(key, str):
            raise YamlError(f"keys must be strings, got {key!r}; put quotes around it", line)
        if key in found:
            raise YamlError(f"{shorten(key, 80)!r} already occurs in line {found[key].line}", line)
        is_deeper = depth > 1 and isinstance(value_node, yaml.MappingNode)
        found[key] = Item(_items(value_node, depth - 1) if is_deeper else _value(value_node), line)
    return found


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key: item.value for key, item in _items(node).items()}
    if isinstance(node, yaml.SequenceNode):
        return [_value(one) for one in node.value]
    return node.value if node.style is not None else _plain(node)


def _plain(node: yaml.ScalarNode) -> Any:
    """Return the value of a scalar without quotes."""
    text: str = node.value
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if re.fullmatch(_NUMBER, text):
        number = float(text) if "." in text else int(text)
        if str(number) == text:
            return number
    if node.tag == "tag:yaml.org,2002:str" and not re.fullmatch(_AMBIGUOUS_STRING, text):
        return text
    raise YamlError(
        f"{shorten(text, 80)!r} is ambiguous in YAML; put quotes around it if it is text, or write true, false, null "
        "or a plain number, such as 10 or 1.5",
        _line(node),
    )


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
