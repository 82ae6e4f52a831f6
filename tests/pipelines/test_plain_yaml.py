"""YAML without ambiguous values."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.pipelines.plain_yaml import Item, YamlError, read_mapping

CLEAR: dict[str, Any] = {
    "1": 1,
    "-20": -20,
    "1.5": 1.5,
    "0.1": 0.1,
    "2.0": 2.0,
    "true": True,
    "False": False,
    "null": None,
    "": None,
    "s3://bucket/a:b": "s3://bucket/a:b",
    "1 hour": "1 hour",
    "v1.10": "v1.10",
    "'010'": "010",
    '"no"': "no",
    "|\n  1:30": "1:30",
    "[1, {b: 'on'}]": [1, {"b": "on"}],
}
AMBIGUOUS = {
    "numbers": ("010", "0x1F", "0b11", "0o17", "1_000", "+5", "-0", "00", ".5", "5."),
    "numbers with a point": ("1.10", "1e3", "1.0e+3"),
    "more numbers": ("1:30", "190:20:30.15", ".inf", "-.INF", ".nan", "1" * 30, "9" * 900),
    "flags": ("yes", "No", "ON", "off", "y", "N"),
    "dates": ("2026-01-01", "2026-1-1 10:00:00", "2026-13-41"),
    "others": ("~", "<<", "="),
}


@pytest.mark.parametrize("text", CLEAR)
def test_unambiguous_values_are_read_with_their_types(text: str) -> None:
    found = read_mapping(f"\na: {text}")["a"]
    assert found == Item(CLEAR[text], 2)
    assert type(found.value) is type(CLEAR[text])


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_values_are_refused(kind: str) -> None:
    for text in AMBIGUOUS[kind]:
        for yaml in (f"a: {text}", f"{text}: a", f"a: [{{b: {text}}}]", f"a: {{{text}: b}}"):
            with pytest.raises(YamlError, match="is ambiguous in YAML; put quotes around it if it is text"):
                read_mapping(yaml)
        assert read_mapping(f"a: '{text}'") == {"a": Item(text, 1)}


@pytest.mark.parametrize(
    "text, problem, line",
    [
        ("a: {b: {c: 1,\n d: 2,\n c: 3}}", "'c' already occurs in line 1", 3),
        ('a:\n- b: 1\n  "b": 2', "'b' already occurs in line 2", 3),
        ("a: &x {b: 1}\nc: *x", "YAML aliases are not allowed", 2),
        ("a:\n  b: !!str 010", "YAML tags such as !!str are not allowed", 2),
        ("a: ! b", "YAML tags such as ! are not allowed", 1),
        ("a: " + "[" * 2000 + "]" * 2000, "is nested too deeply", None),
        ("a: 1\n---\nb: 1", "is not YAML: but found another document", 2),
        ("a: {1: b}", "keys must be strings, got 1; put quotes around it", 1),
        ("a: {[b]: c}", "keys must be strings, got ['b']; put quotes around it", 1),
        ("\n- a", "must be a YAML mapping", 2),
    ],
)
def test_errors_name_the_line(text: str, problem: str, line: int | None) -> None:
    with pytest.raises(YamlError) as caught:
        read_mapping(text)
    assert (str(caught.value), caught.value.line) == (problem, line)


def test_lines_are_kept_down_to_a_depth() -> None:
    assert read_mapping("") == {}
    assert read_mapping("a:\n  b:\n    c: d") == {"a": Item({"b": Item({"c": "d"}, 2)}, 1)}
