"""What is refused, in which words, and where in the query."""

from __future__ import annotations

import pytest

from .support import KAFKA, ORDERS, ask, refusal

PLAN = "Error during planning: "


def syntax(message: str) -> str:
    return f'SQL error: ParserError("{message}")'


SAME_IN_BOTH = {
    # Not SQL.
    "FROB": syntax("Expected: an SQL statement, found: FROB at Line: 3, Column: 1"),
    "; 'a'": syntax("Expected: an SQL statement, found: 'a' at Line: 3, Column: 3"),
    "SELECT counter FORM impulse": syntax("Expected: end of statement, found: impulse at Line: 3, Column: 21"),
    "SELECT counter FROM": syntax("Expected: identifier, found: EOF"),
    "SELECT counter, FROM impulse": syntax("Expected an expression, found: FROM at Line: 3, Column: 17"),
    "SELECT counter FROM impulse WHERE": syntax("Expected: an expression, found: EOF"),
    "SELECT (counter FROM impulse": syntax("Expected: ), found: FROM at Line: 3, Column: 17"),
    "SELECT counter,, 1 FROM impulse": syntax("Expected: an expression, found: , at Line: 3, Column: 16"),
    "SELECT counter FROM impulse AS": syntax("Expected: an identifier after AS, found: EOF"),
    "SELECT counter FROM impulse GROUP BY": syntax("Expected: an expression, found: EOF"),
    "CREATE OR REPLACE TEMPORARY VIEW v (a) SELECT 1": syntax(
        "Expected: AS, found: SELECT at Line: 3, Column: 40"
    ),
    "CREATE VIEW v SELECT 1": syntax("Expected: AS, found: SELECT at Line: 3, Column: 15"),
    "CREATE TABLE t WITH connector = 'x'": syntax("Expected: (, found: connector at Line: 3, Column: 21"),
    "CREATE TABEL t (a INT)": syntax("Expected: an object type after CREATE, found: TABEL at Line: 3, Column: 8"),
    "CREATE TABLE t (a INT": syntax("Expected: ), found: EOF"),
    "CREATE TABLE t WITH (connector)": syntax("Expected: =, found: ) at Line: 3, Column: 31"),
    "SELECT 'abc": 'SQL error: TokenizerError("Unterminated string literal at Line: 3, Column: 8")',
    "SET x.y 5": syntax("Expected: equals sign or TO, found: . at Line: 3, Column: 6"),
    "(counter)": syntax(
        "Expected: SELECT, VALUES, or a subquery in the query body, found: counter at Line: 3, Column: 2"
    ),
    "INSERT INTO sink": syntax("Expected: SELECT, VALUES, or a subquery in the query body, found: EOF"),
    # Statements.
    "SET frob = 1": PLAN + "invalid option 'frob'; supported options are 'updating_ttl'",
    "EXPLAIN SELECT 1": PLAN + "EXPLAIN is not supported (Explain)",
    "SELECT 1": PLAN + "No timestamp field found in projection input (EmptyRelation). Query should've been rewritten",
    "SELECT counter FROM impulse LIMIT 10": PLAN + "LIMIT is not currently supported (Limit: skip=0, fetch=10)",
    "INSERT INTO sink SELECT counter, subtask_index FROM impulse": PLAN + "Column count doesn't match insert query!",
    "INSERT INTO sink (m) SELECT counter FROM impulse": "Schema error: No field named m. Valid fields are n.",
    "INSERT INTO nosink SELECT counter FROM impulse": PLAN + "table nosink not found",
    "SELECT x.* FROM impulse": PLAN + "Invalid qualifier x",
    "CREATE TABLE m (a INT); SELECT a FROM m": PLAN
    + "Can't query from memory table m without first inserting into it.",
    "CREATE TEMPORARY TABLE l (k TEXT METADATA FROM 'key' PRIMARY KEY) WITH (connector = 'redis', format = 'json');"
    "SELECT k FROM l": PLAN + "lookup tables must be used directly within a join",
    "CREATE TEMPORARY TABLE l (k TEXT METADATA FROM 'key' PRIMARY KEY) WITH (connector = 'redis', format = 'json');"
    "INSERT INTO l SELECT counter FROM impulse": PLAN + "lookup (temporary) tables cannot be inserted into",
    "CREATE VIEW v AS SELECT counter FROM impulse; INSERT INTO v SELECT counter FROM impulse":
    PLAN + "shouldn't be inserting more data into a table made with CREATE TABLE AS",
    "CREATE TABLE t (a TIMESTAMP, WATERMARK FOR a, WATERMARK FOR a) WITH (connector = 'impulse', event_rate = 1)":
    PLAN + "Only one WATERMARK FOR constraint is allowed per table",
    "SET updating_ttl =": syntax("Expected: an expression, found: EOF"),
    "DROP TABLE impulse": PLAN + "The provided SQL does not contain a query",
    "": PLAN + "The provided SQL does not contain a query",
}  # fmt: skip


@pytest.mark.parametrize(
    "inner", ["(SELECT counter FROM impulse) x", "(SELECT o.counter FROM impulse o) AS x"]
)
def test_an_alias_hides_the_names_of_what_a_subquery_reads(inner: str) -> None:
    assert refusal(f"SELECT o.counter FROM {inner}") == "column 'counter' not found in 'o'"
    assert refusal(f"SELECT o.* FROM {inner}") == PLAN + "Invalid qualifier o"


@pytest.mark.parametrize("version", ["0.15", "0.16"])
@pytest.mark.parametrize("query, message", SAME_IN_BOTH.items())
def test_refused_in_the_same_words_by_both(query: str, message: str, version: str) -> None:
    assert refusal(query, version) == message


FIELDS = "impulse.counter, impulse.subtask_index"
WITH_A_PLACE = [
    ("SELECT id FROM nowhere", PLAN + "Table nowhere not found", "table 'nowhere' not found", (16, 23)),
    ("SELECT id FROM no.where w", PLAN + "Table no.where not found", "table 'no.where' not found", (16, 26)),
    ("SELECT frob FROM impulse", f"Schema error: No field named frob. Valid fields are {FIELDS}.",
     "column 'frob' not found", (8, 12)),
    ("SELECT 1 FROM impulse WHERE frob = 1", f"Schema error: No field named frob. Valid fields are {FIELDS}.",
     "column 'frob' not found", (29, 33)),
    ("SELECT i.frob FROM impulse i", "Schema error: No field named i.frob. Valid fields are i.counter, "
     "i.subtask_index.", "column 'frob' not found in 'i'", (8, 14)),
    ("SELECT x.counter FROM impulse", f"Schema error: No field named x.counter. Valid fields are {FIELDS}.",
     "column 'counter' not found in 'x'", (8, 17)),
    ('SELECT impulse."Counter" FROM impulse', 'Schema error: No field named impulse."Counter". Column names are case '
     'sensitive. You can use double quotes to refer to the "impulse."Counter"" column or set the '
     f"datafusion.sql_parser.enable_ident_normalization configuration. Valid fields are {FIELDS}.",
     "column 'Counter' not found in 'impulse'", (8, 25)),
    ("SELECT a FROM (SELECT counter AS n FROM impulse)", "Schema error: No field named a. Valid fields are n.",
     "column 'a' not found", (8, 9)),
    ("WITH c AS (SELECT counter AS n FROM impulse) SELECT m.n FROM c AS d", "Schema error: No field named m.n. "
     "Valid fields are d.n.", "column 'n' not found in 'm'", (53, 56)),
    ("SELECT uper('x') FROM impulse", PLAN + "Invalid function 'uper'.\nDid you mean 'upper'?",
     "Invalid function 'uper'", (8, 12)),
    ("SELECT 1 FROM impulse WHERE EXISTS (SELECT 1 FROM impulse i WHERE i.frob = 1)", "Schema error: No field named "
     "i.frob. Valid fields are i.counter, i.subtask_index.", "column 'frob' not found in 'i'", (67, 73)),
]  # fmt: skip


@pytest.mark.parametrize("query, old, new, columns", WITH_A_PLACE)
def test_refused_with_a_place_by_the_newer_one(
    query: str, old: str, new: str, columns: tuple[int, int]
) -> None:
    found = ask(query)
    start, end = ({"line": 3, "column": column} for column in columns)
    assert found.errors == ({"message": new, "span": {"start": start, "end": end}},)
    assert found.refusal == f"Failed to plan query:\n * {new}"
    assert refusal(query, "0.15") == old


def test_names_after_grouping_have_no_place() -> None:
    found = ask("SELECT counter FROM impulse GROUP BY counter HAVING frob > 1")
    assert found.errors[0]["span"] is None
    assert found.errors[0]["message"].startswith("Schema error: No field named frob")


def test_capitals_of_columns_are_kept() -> None:
    assert ask(ORDERS + 'SELECT "userId" FROM orders').graph is not None
    assert refusal(ORDERS + "SELECT userId FROM orders") == "column 'userid' not found"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT c + 1 AS d, d FROM (SELECT counter AS c FROM impulse)",
        "CREATE VIEW v AS SELECT counter AS c FROM impulse; SELECT counter FROM v",
        "CREATE VIEW v (x) AS SELECT counter FROM impulse; SELECT counter FROM v",
        "SELECT counter FROM (SELECT * EXCEPT (counter) FROM impulse)",
        "SELECT counter FROM (SELECT frob AS counter FROM impulse) t JOIN impulse i ON true",
        "WITH c AS (SELECT frob FROM impulse) SELECT counter FROM impulse",
        "SELECT i.n FROM impulse i JOIN impulse b ON i.counter = b.counter",
        "SELECT counter FROM impulse i JOIN impulse b ON i.counter = b.frob",
        "SELECT counter FROM impulse UNION ALL SELECT frob FROM impulse",
        "INSERT INTO sink SELECT frob FROM impulse",
        "SELECT max(frob) OVER (PARTITION BY counter) FROM impulse",
        "SELECT counter FROM impulse WHERE counter IN (SELECT frob FROM impulse)",
        "SELECT frob(counter) FROM impulse",
        "SELECT counter FROM impulse, nowhere",
        "SELECT public.impulse.frob FROM impulse",
        "SELECT a.b.c.impulse.counter FROM impulse",
        "SELECT 1 FROM impulse JOIN (SELECT i.counter FROM impulse i WHERE i.counter = impulse.counter) j ON true",
        "WITH c AS (SELECT impulse.counter FROM impulse i) SELECT counter FROM impulse",
        "SELECT counter FROM impulse WHERE counter IN (SELECT 1 FROM nowhere)",
        "SELECT * FROM impulse WHERE impulse.frob = 1",
    ],
)
def test_names_that_are_not_there(query: str) -> None:
    assert "not found" in refusal(query) or "Invalid function" in refusal(query)


READS_AND_WRITES = [
    ("SELECT n FROM sink", PLAN + "cannot read from sink",
     PLAN + "attempted to read from table 'sink', but it is a sink"),
    ("INSERT INTO impulse SELECT counter, 1 FROM impulse", None,
     PLAN + "attempted to insert into table 'impulse', but it is a source"),
]  # fmt: skip


@pytest.mark.parametrize("query, old, new", READS_AND_WRITES)
def test_sinks_are_written_and_sources_are_read(query: str, old: str | None, new: str) -> None:
    assert refusal(query) == new
    found = ask(query, "0.15")
    assert (found.errors[0]["message"] if found.errors else None) == old


OPTIONS = {
    "connector = 'frob'": PLAN + "Unknown connector 'frob'",
    "connector = impulse": None,
    "connector = 'impulse'": PLAN + PLAN + "required option 'event_rate' not set",
    "connector = 'impulse', event_rate = 'x'": PLAN + PLAN
    + "expected with option 'event_rate' to be a double, but it was `x`",
    "connector = 'impulse', event_rate = 1, message_count = 1.5": PLAN + PLAN
    + "expected with option 'message_count' to be an integer, but it was `1.5`",
    "connector = 'impulse', event_rate = 1, rate = 2": PLAN + "unknown options provided in WITH clause: 'rate'",
    "connector = 'blackhole', format = 'xml'": PLAN + "invalid format: 'Error during planning: unknown format 'xml''",
    "connector = 'kafka'": PLAN + PLAN + "required option 'bootstrap_servers' not set",
    "connector = 'kafka', bootstrap_servers = 'b', topic = 't'": PLAN + PLAN + "required option 'type' not set",
    "connector = 'kafka', bootstrap_servers = 'b', topic = 't', type = 'x'": PLAN
    + "type must be one of 'source' or 'sink",
    "connector = 'kafka', bootstrap_servers = 'b', topic = 't', type = 'sink'": PLAN
    + "'format' must be set for Kafka connection",
    "connector = 'single_file', path = '/p', type = 'x', format = 'json'": PLAN + "'type' must be 'source' or 'sink'",
    "connector = 'sse', endpoint = 'e', format = 'json', headers = 'A: {{ NOT_SET }}'": PLAN
    + "Environment variable NOT_SET not found",
    KAFKA.format("json", "source") + ", 'source.ofset' = 'latest', topik = 't'": PLAN
    + "unknown options provided in WITH clause: 'source.ofset', 'topik'",
}  # fmt: skip


@pytest.mark.parametrize("options, message", OPTIONS.items())
def test_options_that_do_not_fit(options: str, message: str | None) -> None:
    for version in ("0.15", "0.16"):
        found = refusal(f"CREATE TABLE t (a INT) WITH ({options})", version)
        if message is None:
            assert (
                found
                == PLAN
                + "expected with option 'connector' to be a single-quoted string, but it was `impulse`"
            )
        else:
            assert found == "Failed to create table t\ncaused by\n" + message


TABLES = {
    "CREATE TABLE t (a INT) WITH (topic = 't')": PLAN + "Memory tables do not allow with options; to create a "
    "connection table set the 'connector' option",
    f"CREATE TABLE t (a INT, PRIMARY KEY (a)) WITH ({KAFKA.format('json', 'source')})": PLAN
    + "Unsupported table constraint `PRIMARY KEY (a)`",
    f"CREATE TABLE t (a TEXT, WATERMARK FOR ts) WITH ({KAFKA.format('json', 'source')})": "Failed to create table t\n"
    f"caused by\n{PLAN}WATERMARK FOR field `ts` does not exist in table",
    "CREATE TEMPORARY TABLE t (a INT) WITH (connector = 'redis', type = 'sink')": "Failed to create table t\n"
    f"caused by\n{PLAN}Cannot have a temporary table with type 'sink'; temporary tables must be type 'lookup'",
}  # fmt: skip


@pytest.mark.parametrize("query, message", TABLES.items())
def test_tables_that_do_not_fit(query: str, message: str) -> None:
    assert refusal(query) == message


UDFS = {
    ("fn f(x: i64) -> i64 { x }", "rust"): "invalid UDF: UDF must contain a function with with the annotation #[udf]",
    ("// #[udf]\nfn f() -> i64 { 1 }", "rust"): "invalid UDF: UDF must contain a function with with the annotation "
    "#[udf]",
    ("#[udf] fn f() -> i64 { 1 } #[udf] fn g() -> i64 { 2 }", "rust"): "invalid UDF: Only one function in a UDF may "
    "be annotated with #[udf]",
    ("def f(:", "python"): "invalid Python UDF: ",
    ("def f(x): pass", "python"): "invalid Python UDF: The supplied code does not contain a UDF",
}  # fmt: skip


@pytest.mark.parametrize("definition, message", UDFS.items())
def test_functions_that_do_not_parse(definition: tuple[str, str], message: str) -> None:
    udfs = [dict(zip(("definition", "language"), definition, strict=True))]
    new = ask("SELECT counter FROM impulse", udfs=udfs)
    assert new.udf_refusal == new.refusal
    assert (new.refusal or "").startswith(message)
    old = ask("SELECT counter FROM impulse", "0.15", udfs=udfs)
    assert old.errors == ({"message": new.refusal, "span": None},)
    assert (old.udf_refusal, old.refusal) == (None, new.refusal)


@pytest.mark.parametrize(
    "wanted, fits", [("u64", False), ("i32", False), ("u8", False), ("i64", True), ("f64", True)]
)
def test_integers_that_do_not_fit_into_the_arguments_of_a_function(wanted: str, fits: bool) -> None:
    udf = {"definition": f"#[udf] pub fn small(x: {wanted}) -> {wanted} {{ x }}"}
    for column in ("counter", "i.counter", "c"):
        found = ask(f"SELECT small({column}) FROM (SELECT counter, counter AS c FROM impulse) i", udfs=[udf])
        assert (found.graph is not None) == fits
        assert fits or "Failed to coerce arguments to satisfy a call to 'small'" in found.errors[0]["message"]
