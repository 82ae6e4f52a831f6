"""SQL with the same meaning is equal; differences are named, without secrets."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot.dialects import Postgres
from sqlglot.errors import TokenError

from airflow_provider_arroyo.client.models import Job, Pipeline, PipelineGraph, PipelineNode
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.pipelines.compare import Difference, compare, is_same_query, sql_words
from airflow_provider_arroyo.pipelines.ownership import Owner, OwnershipLabel
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.support import ENDLESS

OWNER = Owner(dag_id="orders", task_id="submit", run_id="r")
LABEL = OwnershipLabel(task=OWNER, try_number=1, package_version="1", request_id="r")
UDFS = (Udf("fn a() {\n    1\n}", "rust"), Udf("fn b() {}", "rust"))
SPEC = PipelineSpec(
    name="orders",
    query=ENDLESS,
    parallelism=2,
    checkpoint_interval=timedelta(seconds=10),
    udfs=UDFS,
    tags={"team": "data"},
    env_vars={"A": "1"},
    scheduler_config={"x": 1},
)
PIPELINE = Pipeline(
    id="pl_1",
    name="orders",
    query=ENDLESS,
    checkpoint_interval_micros=10_000_000,
    udfs=UDFS,
    tags={**LABEL.to_tags(), "team": "data"},
    graph=PipelineGraph(nodes=(PipelineNode(1, parallelism=2), PipelineNode(2, parallelism=2))),
)
JOB = Job(id="job_1", state="Running", run_id=1, env_vars={"A": "1"}, scheduler_config={"x": 1})

SAME_SQL = {
    "unchanged": ENDLESS,
    "line ends of Windows": ENDLESS.replace("\n", "\r\n"),
    "white space at line ends": ENDLESS.replace("\n", " \t \n") + "  ",
    "newlines at the end": ENDLESS + "\n\n \n",
    "white space after a comment": f"-- don't  \n/* it's  \n */{ENDLESS}",
    "white space within a line": ENDLESS.replace("SELECT counter", "SELECT  counter"),
    "indentation": ENDLESS.replace("\n", "\n  "),
    "line breaks": ENDLESS.replace(" ", "\n"),
    "operators and brackets": ENDLESS.replace(" = ", "=").replace("(", "( ").replace(",", " ,"),
}


@pytest.mark.parametrize("wanted", SAME_SQL.values(), ids=list(SAME_SQL))
@pytest.mark.parametrize("comment", ["", LABEL.to_comment({"team": "data"})], ids=["tags", "comment"])
def test_sql_with_the_same_meaning_is_equal(comment: str, wanted: str) -> None:
    stored = wanted if "--" not in wanted else wanted.replace("  \n", "\n")
    stored = ENDLESS if "--" not in wanted else stored
    assert is_same_query(comment + stored, wanted)
    assert is_same_query(comment + wanted, stored)


OTHER_SQL = {
    "a letter": ENDLESS.replace("counter", "Counter"),
    "white space in a string": ENDLESS.replace("'10'", "'10 '"),
    "a comment": f"-- a note\n{ENDLESS}",
    "a line less": ENDLESS.partition("\n")[2],
}


@pytest.mark.parametrize("wanted", OTHER_SQL.values(), ids=list(OTHER_SQL))
def test_sql_that_may_have_another_meaning_differs(wanted: str) -> None:
    assert not is_same_query(ENDLESS, wanted)
    assert not is_same_query(LABEL.to_comment({}) + ENDLESS, wanted)


SAME_TOKENS = [
    ("a=1", "a = 1", "a =\n1", "a= 1 "),
    ("f(a,b)", "f ( a , b )"),
    ("a-1", "a - 1", "a -1"),
    ("a::int", "a :: int"),
    ("a->>'b'", "a ->> 'b'"),
    ("a!='b'", "a != 'b'"),
    ("a||E'\\'  '", "a || E'\\'  '"),
    ("SELECT*FROM t;", "SELECT  *\nFROM t ;"),
    ("a/b", "a / b", "a /*c*/ / --d\n b"),
    ("SELECT $$a  'b$$ , 1", "SELECT $$a  'b$$,1"),
]
OTHER_TOKENS = [
    ("a - -1", "a --1"),
    ("a->>b", "a-> >b", "a- >>b", "a->b"),
    ("a!=b", "a! =b"),
    ("a::b", "a: :b", "a:b", "a : b"),
    ("a<=b", "a< =b", "a<b", "a<>b", "a< >b"),
    ("a>=b", "a> =b"),
    ("a||b", "a| |b", "a|b"),
    ("a==b", "a= =b", "a=b"),
    ("a/ *b", "a/*b"),
    ("1.5", "1 . 5", "1. 5", "1 .5"),
    ("1e-5", "1e - 5", "1 e-5"),
    ("1.e-5", "1.e - 5"),
    ("t.e-5e-5", "t.e-5e -5", "t.e -5e-5"),
    ("x1e-5e-5", "x1e-5e- 5"),
    ("ab", "a b"),
    ("E'a'", "E 'a'", "E' a'"),
    ("'a''b'", "'a' 'b'", "'a'\n'b'"),
    ("'a  b'", "'a b'"),
    ('"a  b"', '"a b"'),
    ("$$a  b$$", "$$a b$$", "$$ a b$$"),
    ("t.a", "t . a"),
    ("@a", "@ a"),
    ("a [1]", "a[1]"),
    # It depends on the reader where these end.
    ("'a\\' =  b'", "'a\\' = b'"),
    ("/* /* */ ' */ '  '", "/* /* */ ' */ ' '"),
    ("`a' = b` '  '", "`a'=b` '  '"),
    ("a$$ = '  '", "a$$='  '"),
    ("-- a\r '\n'  '", "-- a\r '\n' '"),
    ("'a  b", "'a b"),
]


@pytest.mark.parametrize("texts", SAME_TOKENS)
def test_spacing_that_cannot_matter_is_ignored(texts: tuple[str, ...]) -> None:
    assert len({sql_words(one) for one in texts}) == 1


@pytest.mark.parametrize("texts", OTHER_TOKENS)
def test_spacing_that_may_matter_counts(texts: tuple[str, ...]) -> None:
    assert len({sql_words(one) for one in texts}) == len(texts)


PIECES = [
    "a",
    "e",
    "E",
    "1",
    "2e",
    ".",
    "'",
    '"',
    "$",
    "$$",
    "\\",
    "`",
    *"(),;=<>!+-*/%|:@#?[] \n\r",
    "--",
    "/*",
    "*/",
]


def _tokens(query: str) -> list[tuple[str, str]] | None:
    """Return the tokens as another reader sees them; None if it cannot read them."""
    try:
        return [(one.token_type.name, one.text) for one in Postgres().tokenize(query)]
    except TokenError:
        return None


@settings(max_examples=1500)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), data=st.data())
def test_sql_with_the_same_tokens_has_them_for_another_reader(pieces: list[str], data: st.DataObject) -> None:
    gaps = st.lists(st.sampled_from(["", "", " ", "\n"]), min_size=len(pieces), max_size=len(pieces))
    one, other = (
        "".join(gap + piece for gap, piece in zip(data.draw(gaps), pieces, strict=True)) for _ in range(2)
    )
    if sql_words(one) == sql_words(other):
        assert _tokens(one) == _tokens(other)


def test_a_first_line_that_looks_like_a_label_is_part_of_the_sql() -> None:
    query = f"-- airflow: runs orders\n{ENDLESS}"
    assert is_same_query(query, query)
    assert is_same_query(LABEL.to_comment({}) + query, query)
    assert not is_same_query(query, query.replace("orders", "invoices"))


def test_comparing_takes_linear_time() -> None:
    # Each of these would take hours if the time were quadratic.
    for text in (
        " " * 500_000 + "x",
        "/*" * 250_000,
        "-" * 500_001,
        "'" * 500_001,
        "$a" * 250_000,
        "E'" * 250_000,
    ):
        assert is_same_query(text, text)


def test_an_equal_pipeline_has_no_differences() -> None:
    assert compare(SPEC, PIPELINE, JOB) == compare(SPEC, PIPELINE)
    assert not compare(SPEC, PIPELINE, JOB).patch


@pytest.mark.parametrize(
    "wanted, kind, shown",
    [
        ({"name": "orders 2"}, "definition", "pipeline_name: 'orders' → 'orders 2'"),
        (
            {"query": ENDLESS.replace("'10'", "'20'")},
            "definition",
            "+ CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '20');",
        ),
        ({"udfs": UDFS[:1]}, "definition", "udfs: 2 on the server, 1 wanted"),
        ({"udfs": (UDFS[0], UDFS[0])}, "definition", "udfs: 2 on the server, 2 wanted"),
        (
            {"udfs": (UDFS[0], replace(UDFS[1], language="python"))},
            "definition",
            "udfs: 2 on the server, 2 wanted",
        ),
        ({"parallelism": 3}, "settings", "parallelism: 2 → 3"),
        ({"checkpoint_interval": timedelta(minutes=1)}, "settings", "checkpoint_interval: 0:00:10 → 0:01:00"),
        ({"env_vars": {"A": "2", "B": "3"}}, "settings", "env_vars: A, B"),
        ({"env_vars": {}}, "settings", "env_vars: A"),
        ({"scheduler_config": {}}, "settings", "scheduler_config: x"),
        ({"scheduler_config": {"y": "1"}}, "settings", "scheduler_config: x, y"),
        ({"tags": {"team": "web"}}, "labels", "tags: team"),
        ({"tags": {}}, "labels", "tags: team"),
    ],
)
def test_differences_are_listed(wanted: dict[str, Any], kind: str, shown: str) -> None:
    comparison = compare(replace(SPEC, **wanted), PIPELINE, JOB)
    for name in ("definition", "settings", "labels"):
        assert len(getattr(comparison, name)) == (name == kind)
    (difference,) = getattr(comparison, kind)
    assert shown in str(difference)
    if kind == "settings":
        assert comparison.patch == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        {"udfs": UDFS[::-1]},
        {"udfs": tuple(Udf(one.definition.replace("\n", " \r\n") + "\n") for one in UDFS)},
        {"checkpoint_interval": None, "env_vars": None, "scheduler_config": None},
    ],
    ids=["order of UDFs", "text of UDFs", "not given"],
)
def test_irrelevant_differences_are_ignored(wanted: dict[str, Any]) -> None:
    assert compare(replace(SPEC, **wanted), PIPELINE, JOB) == compare(SPEC, PIPELINE, JOB)


def test_fields_that_an_old_server_does_not_report_count_as_equal() -> None:
    pipeline = replace(PIPELINE, graph=PipelineGraph(), checkpoint_interval_micros=None)
    assert not compare(replace(SPEC, parallelism=7), pipeline).settings
    stored = replace(PIPELINE, tags={}, query=LABEL.to_comment(SPEC.tags) + ENDLESS)
    assert not compare(SPEC, stored).labels


def test_secrets_are_not_shown() -> None:
    query = "CREATE TABLE t (a INT) WITH ('sasl.password' = 's3cr3t-1');"
    wanted = replace(SPEC, query=query.replace("1'", "2'"), env_vars={"A": "s3cr3t-3"})
    comparison = compare(wanted, replace(PIPELINE, query=query), JOB)
    shown = "\n".join(map(str, (*comparison.definition, *comparison.settings)))
    assert "*** (changed)" in shown
    assert "s3cr3t" not in shown + repr(comparison)


def test_an_invisible_difference_is_shown() -> None:
    wanted = replace(SPEC, query=PIPELINE.query + "-- \u202e} \u2066if is_admin\u2069")
    assert "-- \ufffd} \ufffdif is_admin\ufffd" in str(compare(wanted, PIPELINE).definition[0])


def test_long_differences_are_cut() -> None:
    wanted = replace(SPEC, query="\n".join(f"{number}{'x' * 500}" for number in range(100)))
    shown = str(compare(wanted, PIPELINE).definition[0])
    assert len(shown) < 6000
    assert "more lines" in shown


def test_a_login_in_an_address_is_not_shown() -> None:
    found = Difference(
        argument="state_url", found="s3://key:hunter2@bucket/a", wanted="s3://key:hunter3@bucket/b"
    )
    assert str(found) == "state_url: 's3://***@bucket/a' → 's3://***@bucket/b'"
