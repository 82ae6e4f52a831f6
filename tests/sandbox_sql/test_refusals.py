"""What is refused, in which words, and where in the query."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import Judgement, judge

IMPULSE = "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
SINK = "CREATE TABLE sink (n BIGINT) WITH (connector = 'blackhole');\n"
PLAN = "Error during planning: "
MISSING = "This feature is not implemented: "


def ask(query: str, version: str = "0.16") -> Judgement:
    return judge(IMPULSE + SINK + query, arroyo_version=version)


def syntax(message: str) -> str:
    return f'SQL error: ParserError("{message}")'


SAME_IN_BOTH = {
    # Not SQL.
    "FROB": syntax("Expected: an SQL statement, found: FROB at Line: 3, Column: 1"),
    "SELECT counter FORM impulse": syntax("Expected: end of statement, found: impulse at Line: 3, Column: 21"),
    "SELECT counter FROM": syntax("Expected: identifier, found: EOF"),
    "SELECT counter, FROM impulse": syntax("Expected: an expression, found: FROM at Line: 3, Column: 17"),
    "SELECT counter FROM impulse WHERE": syntax("Expected: an expression, found: EOF"),
    "SELECT (counter FROM impulse": syntax("Expected: ), found: FROM at Line: 3, Column: 17"),
    "CREATE TABEL t (a INT)": syntax("Expected: an object type after CREATE, found: TABEL at Line: 3, Column: 8"),
    "CREATE TABLE t (a INT": syntax("Expected: ',' or ')' after column definition, found: EOF"),
    "CREATE TABLE t (a)": syntax("Expected: a data type name, found: ) at Line: 3, Column: 18"),
    "SELECT 'abc": 'SQL error: TokenizerError("Unterminated string literal at Line: 3, Column: 8")',
    "SELECT \"abc": "SQL error: TokenizerError("
    "\"Expected close delimiter '\\\"' before EOF. at Line: 3, Column: 8\")",
    "SET x.y 5": syntax("Expected: equals sign or TO, found: 5 at Line: 3, Column: 9"),
    "(counter)": syntax(
        "Expected: SELECT, VALUES, or a subquery in the query body, found: counter at Line: 3, Column: 2"
    ),
    "INSERT INTO sink": syntax("Expected: SELECT, VALUES, or a subquery in the query body, found: EOF"),
    "CREATE VIEW v AS (counter, n)": syntax(
        "Expected: SELECT, VALUES, or a subquery in the query body, found: counter at Line: 3, Column: 19"
    ),
    # Tables and columns.
    "INSERT INTO nosink SELECT counter FROM impulse": PLAN + "table nosink not found",
    "INSERT INTO sink SELECT counter, subtask_index FROM impulse": PLAN + "Column count doesn't match insert query!",
    "INSERT INTO sink (m) SELECT counter FROM impulse": "Schema error: No field named m. Valid fields are n.",
    "INSERT INTO sink (n, n) SELECT 1, 2 FROM impulse": "Schema error: Schema contains duplicate unqualified field "
    "name n",
    "SELECT x.* FROM impulse": PLAN + "Invalid qualifier x",
    "SELECT *": PLAN + "SELECT * with no tables specified is not valid",
    "SELECT counter FROM impulse GROUP BY 7": PLAN
    + "Cannot find column with position 7 in SELECT clause. Valid columns: 1 to 1",
    "SELECT counter, counter FROM impulse": PLAN
    + 'Projections require unique expression names but the expression "impulse.counter" at position 0 and '
    + '"impulse.counter" at position 1 have the same name. Consider aliasing ("AS") one of them.',
    "SELECT counter FROM impulse WHERE count(*) > 1": PLAN
    + "Aggregate functions are not allowed in the WHERE clause. Consider using HAVING instead",
    # What streams do not have.
    "SELECT 1": PLAN + "No timestamp field found in projection input (EmptyRelation). Query should've been rewritten",
    "SELECT counter FROM impulse LIMIT 10": PLAN + "LIMIT is not currently supported (Limit: skip=0, fetch=10)",
    "SELECT counter AS n FROM impulse ORDER BY n DESC": PLAN
    + "ORDER BY is not currently supported (Sort: n DESC NULLS FIRST)",
    "SELECT subtask_index FROM impulse ORDER BY counter LIMIT 3": PLAN
    + "ORDER BY is not currently supported (Sort: impulse.counter ASC NULLS LAST, fetch=3)",
    "EXPLAIN SELECT 1": PLAN + "EXPLAIN is not supported (Explain)",
    "DROP TABLE impulse": MISSING + "Unsupported SQL statement: DROP TABLE impulse",
    "SELECT a.counter FROM impulse a LEFT JOIN impulse b ON a.counter = b.counter": MISSING
    + "can't handle non-inner joins without windows",
    "SELECT a.counter FROM impulse a JOIN impulse b ON a.counter > b.counter": MISSING
    + "Updating joins must include an equijoin condition",
    "SELECT a.counter FROM impulse a, impulse b": MISSING + "Updating joins must include an equijoin condition",
    "SELECT a.counter FROM impulse a JOIN impulse b USING (counter)": MISSING
    + "can't handle join constraint other than ON",
    "SELECT a.counter FROM impulse a JOIN (SELECT counter AS c, count(*) AS n FROM impulse GROUP BY counter) b"
    " ON a.counter = b.c": PLAN + "can't handle updating right side of join",
    "SELECT counter FROM impulse WHERE counter IN (SELECT counter FROM impulse)": MISSING
    + "can't handle non-inner joins without windows",
    "INSERT INTO sink SELECT count(*) FROM impulse": PLAN
    + "input is updating, but sink is not configured as an updating sink (hint: use `format = 'debezium_json'`)",
    # Windows.
    "SELECT tumble(interval '1 minute') FROM impulse": PLAN
    + "time window function tumble is not allowed in this context. Are you missing a GROUP BY clause?",
    "SELECT count(*) FROM impulse GROUP BY hop(interval '3 minutes', interval '10 minutes')": PLAN
    + "hop() width 600s currently must be a multiple of slide 180s",
    "SELECT count(*) FROM impulse GROUP BY tumble(interval '1 month')": MISSING
    + "Windows do not support durations specified as months",
    "SELECT count(*) FROM impulse GROUP BY tumble(interval '1 s'), tumble(interval '2 s')": MISSING
    + "do not support 2 window expressions in group by",
    "SELECT count(*) FROM (SELECT count(*) AS n, tumble(interval '1 s') AS w FROM impulse GROUP BY 2)": PLAN
    + "must have window in aggregate. Make sure you are calling one of the windowing functions (hop, tumble, "
    + "session) or using the window field of the input",
    "SELECT count(*), tumble(interval '2 s') FROM (SELECT count(*) AS n, tumble(interval '1 s') AS w FROM impulse"
    " GROUP BY 2) GROUP BY 2": MISSING + "window in group by does not match input window",
    "SELECT row_number() OVER (PARTITION BY counter ORDER BY counter) FROM impulse": PLAN
    + "Window functions require already windowed input",
    "SELECT count(*) FROM impulse GROUP BY tumble(5)": PLAN
    + "Failed to coerce arguments to satisfy a call to 'tumble' function: coercion from [Int64] to the signature "
    + "Exact([Interval(MonthDayNano)]) failed No function matches the given name and argument types "
    + "'tumble(Int64)'. You might need to add explicit type casts.\n"
    + "\tCandidate functions:\n\ttumble(Interval(MonthDayNano))",
    # Settings.
    "SET foo = 1": PLAN + "invalid option 'foo'; supported options are 'updating_ttl'",
    "SET updating_ttl = 5": PLAN + "expected an interval, but found '5'",
}  # fmt: skip


@pytest.mark.parametrize("query, message", SAME_IN_BOTH.items())
@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_refused_in_the_same_words_by_both(query: str, message: str, version: str) -> None:
    judgement = ask(query, version)
    assert judgement.errors == ({"message": message, "span": None},)
    assert judgement.refusal == (message if version == "0.15" else f"Failed to plan query:\n * {message}")


# Query: (words of 0.15, words of 0.16, line and column where it starts and where it ends).
LOCATED = {
    "SELECT counter FROM Nowhere": ("Table nowhere not found", "table 'nowhere' not found", 3, 21, 28),
    "SELECT counter FROM no.place AS w": (
        "Table no.place not found",
        "table 'no.place' not found",
        3,
        21,
        34,
    ),
    "SELECT foo(counter) FROM impulse": (
        "Invalid function 'foo'.\nDid you mean 'cos'?",
        "Invalid function 'foo'",
        3,
        8,
        11,
    ),
    "SELECT sum(counter), subtask_index FROM impulse": (
        "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "
        '"impulse.subtask_index" must appear in the GROUP BY clause or must be part of an aggregate function, '
        'currently only "sum(impulse.counter)" appears in the SELECT clause satisfies this requirement',
        "'impulse.subtask_index' must appear in GROUP BY clause because it's not an aggregate expression",
        3,
        22,
        35,
    ),
    "CREATE TABLE t (a FROB)": ("Unsupported SQL type 'FROB'", "Unsupported SQL type 'FROB'", 3, 19, 23),
}


@pytest.mark.parametrize("query", LOCATED)
def test_refused_with_a_place_by_the_newer_one(query: str) -> None:
    old, new, line, start, end = LOCATED[query]
    assert ask(query, "0.15").errors == ({"message": PLAN + old, "span": None},)
    span = {"start": {"line": line, "column": start}, "end": {"line": line, "column": end}}
    assert ask(query).errors == ({"message": new, "span": span},)


FIELDS = "Valid fields are impulse.counter, impulse.subtask_index."
COLUMNS = {
    "SELECT nope FROM impulse": ("nope", FIELDS, "column 'nope' not found", (8, 12)),
    'SELECT "Nope" FROM impulse': ('"Nope"', FIELDS, "column 'Nope' not found", (8, 14)),
    "SELECT COUNTER, NOPE FROM impulse": ("nope", FIELDS, "column 'nope' not found", (17, 21)),
    "SELECT impulse.nope FROM impulse": (
        "impulse.nope",
        FIELDS,
        "column 'nope' not found in 'impulse'",
        (8, 20),
    ),
    "SELECT counter FROM impulse WHERE upper(nope) = 'x'": (
        "nope",
        FIELDS,
        "column 'nope' not found",
        (41, 45),
    ),
    "SELECT counter FROM (SELECT counter AS xyz FROM impulse) i": (
        "counter",
        "Valid fields are i.xyz.",
        "column 'counter' not found",
        (8, 15),
    ),
    "SELECT subtask FROM (SELECT counter, subtask_index AS subtasks FROM impulse)": (
        "subtask",
        "Did you mean 'subtasks'?.",
        "column 'subtask' not found",
        (8, 15),
    ),
    "SELECT a.n FROM impulse a JOIN impulse b ON a.counter = b.x": (
        "b.x",
        "Valid fields are a.counter, a.subtask_index, b.counter, b.subtask_index.",
        "column 'x' not found in 'b'",
        (57, 60),
    ),
}


@pytest.mark.parametrize("query", COLUMNS)
def test_columns_that_are_not_there(query: str) -> None:
    name, hint, headline, (start, end) = COLUMNS[query]
    assert ask(query, "0.15").errors[0]["message"] == f"Schema error: No field named {name}. {hint}"
    span = {"start": {"line": 3, "column": start}, "end": {"line": 3, "column": end}}
    assert ask(query).errors == ({"message": headline, "span": span},)


def test_a_column_of_two_tables_is_ambiguous() -> None:
    query = "SELECT counter FROM impulse a JOIN impulse b ON a.counter = b.counter"
    assert (
        ask(query, "0.15").errors[0]["message"]
        == "Schema error: Ambiguous reference to unqualified field counter"
    )
    assert ask(query).errors[0]["message"] == "column 'counter' is ambiguous"


@pytest.mark.parametrize(
    "before, line, column",
    [
        ("", 1, 8),
        ("\n\n", 3, 8),
        ("-- SELECT nope\n", 2, 8),
        ("/* two\nlines */ ", 2, 17),
        ("\r\n", 2, 8),
        ("\t", 1, 9),
    ],
)
def test_places_count_from_one(before: str, line: int, column: int) -> None:
    table = judge(before + "SELECT nope FROM nowhere", arroyo_version="0.16")
    assert table.errors[0]["span"]["start"] == {"line": line, "column": column + 10}
    assert table.errors[0]["span"]["end"] == {"line": line, "column": column + 17}


def test_places_count_characters_not_bytes() -> None:
    judgement = ask("SELECT 'é\U0001f600', \"ä\" FROM impulse")
    assert judgement.errors[0]["message"] == "column 'ä' not found"
    assert judgement.errors[0]["span"]["start"] == {"line": 3, "column": 14}


@pytest.mark.parametrize("query", ["", " ", "\n\t\r\n"])
def test_nothing_but_blanks_is_empty(query: str) -> None:
    assert judge(query, arroyo_version="0.15").refusal == PLAN + "Query is empty"
    assert judge(query, arroyo_version="0.16").refusal == "Failed to plan query:\n * Query is empty!"


@pytest.mark.parametrize(
    "query", ["-- nothing", "/* nothing */", ";;", IMPULSE, "CREATE VIEW v AS SELECT a FROM t"]
)
def test_no_query(query: str) -> None:
    judgement = judge(query, arroyo_version="0.15")
    if "VIEW" in query:
        assert judgement.refusal == PLAN + "Table t not found"
    else:
        assert judgement.refusal == PLAN + "The provided SQL does not contain a query"


def test_names_are_found_before_what_streams_lack() -> None:
    judgement = ask("SELECT counter FROM impulse ORDER BY counter; SELECT nope FROM impulse")
    assert judgement.errors[0]["message"] == "column 'nope' not found"


def test_a_sink_is_not_read_and_a_source_not_written() -> None:
    read, write = "SELECT n FROM sink", "INSERT INTO impulse SELECT counter, subtask_index FROM impulse"
    assert ask(read, "0.15").refusal == PLAN + "cannot read from sink"
    assert ask(read).errors[0]["message"] == PLAN + "attempted to read from table 'sink', but it is a sink"
    assert ask(write, "0.15").graph is not None
    assert (
        ask(write).errors[0]["message"]
        == PLAN + "attempted to insert into table 'impulse', but it is a source"
    )
