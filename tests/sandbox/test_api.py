"""The calls beyond what the recordings show."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock, bodies
from tests.sandbox.support import Caller, bounded
from tests.support import BOUNDED, ENDLESS


def test_half_made_records_hold_their_id_until_deleted(sandbox: ArroyoSandbox, call: Caller) -> None:
    body = {"name": "x", "query": ENDLESS, "parallelism": 1, "checkpoint_interval_micros": 5}
    if sandbox.arroyo_version == "0.15":
        refused = call("PUT", "/pipelines/mine", body)
        assert (refused.status_code, refused.content) == (405, b"")
        assert refused.headers["allow"] == "PATCH,GET,HEAD,DELETE"
        assert "content-type" not in refused.headers
        assert call("POST", "/pipelines", body).status_code == 400
        assert call("GET", "/pipelines").json()["data"] == []
        return
    assert call("PUT", "/pipelines/mine", body).status_code == 400
    good = body | {"checkpoint_interval_micros": 1_000_000}
    for method, path, status in (
        ("GET", "/pipelines/mine", 404),
        ("GET", "/pipelines/mine/jobs", 404),
        ("PATCH", "/pipelines/mine", 404),
        ("POST", "/pipelines/mine/restart", 400),
        ("PUT", "/pipelines/mine", 400),
        ("DELETE", "/pipelines/mine", 200),
        ("DELETE", "/pipelines/mine", 404),
        ("PUT", "/pipelines/mine", 200),
    ):
        sent = good if method == "PUT" else {}
        assert call(method, path, sent).status_code == status, (method, path)


def test_a_body_over_two_megabytes_is_refused_whole(call: Caller) -> None:
    body = {"name": "x", "query": f"-- {'x' * 2_097_152}\n{ENDLESS}", "parallelism": 1}
    answer = call("POST", "/pipelines", body)
    assert answer.status_code == 413
    assert answer.json() == {"error": "Failed to buffer the request body: length limit exceeded"}
    body["query"] = f"-- {'x' * 2_000_000}\n{ENDLESS}"
    assert call("POST", "/pipelines", body).status_code == 200


CONFIG = {"name": "t", "connector": "impulse", "config": {"event_rate": 1}}
FILE = {"name": "t", "connector": "single_file", "config": {"path": "p", "table_type": "source"}}


@pytest.mark.parametrize(
    "method, path, body, status, words",
    [
        ("GET", "/pipelines?limit=", None, 400, "cannot parse integer from empty string"),
        ("GET", "/pipelines?limit=4294967296", None, 400, "number too large to fit in target type"),
        ("GET", "/pipelines?limit=-1", None, 400, "invalid digit found in string"),
        (
            "GET",
            "/pipelines/p/jobs/j/checkpoints/x/operator_checkpoint_groups",
            None,
            400,
            "value `x` to a `u32`",
        ),
        ("POST", "/connection_tables", CONFIG | {"name": ""}, 400, "Field name must be set"),
        ("POST", "/connection_tables", CONFIG | {"config": 5}, 400, "Failed to parse config"),
        ("POST", "/connection_tables", CONFIG | {"config": {}}, 400, "missing field `event_rate`"),
        ("POST", "/connection_tables", FILE | {"schema": {"fields": [5]}}, 422, "target type: schema: "),
        ("POST", "/connection_profiles", CONFIG | {"connector": "x"}, 400, "Unknown connector type"),
        ("POST", "/udfs", {"prefix": "", "definition": "fn f() {}"}, 400, "with the annotation #[udf]"),
    ],
)
def test_what_a_call_names_wrongly_is_refused_in_words(
    method: str, path: str, body: Any, status: int, words: str, call: Caller
) -> None:
    answer = call(method, path, body)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_a_browser_may_ask_which_requests_are_allowed(call: Caller) -> None:
    answer = call("OPTIONS", "/pipelines")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-methods"] == "*"


def test_names_and_comments_come_back_unharmed(call: Caller) -> None:
    name = "ü\n<b>&\"'\\ \u2028 " + "n" * 5000
    query = f"-- ключ: \"a\" 'b' <c>\n{ENDLESS}"
    pipeline_id = call.create(name, query)
    pipeline = call("GET", f"/pipelines/{pipeline_id}").json()
    assert (pipeline["name"], pipeline["query"]) == (name, query)


def test_pages_follow_the_date_and_skip_pipelines_of_the_same_second(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    made = []
    for _ in range(3):
        made.append(call.create())
        sandbox.advance(1)
    first = call("GET", "/pipelines?limit=2").json()
    assert [item["id"] for item in first["data"]] == [made[2], made[1]]
    assert first["hasMore"]
    rest = call("GET", f"/pipelines?limit=2&starting_after={made[1]}").json()
    assert [item["id"] for item in rest["data"]] == [made[0]]
    assert not rest["hasMore"]
    twin = [call.create(), call.create()]
    assert call("GET", f"/pipelines?starting_after={twin[0]}").json()["data"][0]["id"] == made[2]


def test_parallelism_zero_stands_in_scheduling_and_can_be_stopped(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    pipeline_id = call.create(parallelism=0)
    sandbox.advance(3600)
    assert call.job(pipeline_id)["state"] == "Scheduling"
    assert call.job(pipeline_id)["tasks"] is None
    call("PATCH", f"/pipelines/{pipeline_id}", {"stop": "immediate"})
    sandbox.advance(2)
    assert call.job(pipeline_id)["state"] == "Stopped"


def test_a_bounded_source_goes_on_where_its_checkpoint_left_it(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create(query=bounded(10, 100))
    sandbox.advance(6)
    call("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
    sandbox.advance(2)
    assert call.job(pipeline_id)["state"] == "Stopped"
    call("PATCH", f"/pipelines/{pipeline_id}", {"stop": "none"})
    sandbox.advance(4)
    assert call.job(pipeline_id)["state"] == "Running"
    sandbox.advance(2)
    assert call.job(pipeline_id)["state"] == "Finished"


def test_a_preview_stops_by_itself_after_a_minute(sandbox: ArroyoSandbox, call: Caller) -> None:
    query = "CREATE TABLE impulse WITH (connector='impulse', event_rate='10'); SELECT counter FROM impulse;"
    answer = call("POST", "/pipelines/preview", {"query": query})
    pipeline_id = answer.json()["id"]
    sandbox.advance(59)
    assert call.job(pipeline_id)["state"] == "Running"
    sandbox.advance(3)
    job = call.job(pipeline_id)
    assert (job["state"], job["running_desired"]) == ("Stopped", True)
    sandbox.advance(60)
    assert call.job(pipeline_id)["state"] == "Stopped"


def test_output_is_refused_before_the_preview_runs(sandbox: ArroyoSandbox, call: Caller) -> None:
    query = "CREATE TABLE impulse WITH (connector='impulse', event_rate='10'); SELECT counter FROM impulse;"
    pipeline_id = call("POST", "/pipelines/preview", {"query": query}).json()["id"]
    job_id = call.job(pipeline_id)["id"]
    early = call("GET", f"/pipelines/{pipeline_id}/jobs/{job_id}/output")
    assert (early.status_code, early.json()) == (400, {"error": f"Job {job_id} does not exist"})
    sandbox.advance(100)
    late = call("GET", f"/pipelines/{pipeline_id}/jobs/{job_id}/output")
    assert (late.status_code, late.json()) == (400, {"error": "Job must be running to read output"})


def test_metrics_follow_the_rate_and_stay_after_the_stop(sandbox: ArroyoSandbox, call: Caller) -> None:
    pipeline_id = call.create(query=bounded(500, 10_000_000), parallelism=2)
    sandbox.advance(1)
    path = f"/pipelines/{pipeline_id}/jobs/{call.job(pipeline_id)['id']}/operator_metric_groups"
    assert all(
        not group["subtasks"] for node in call("GET", path).json()["data"] for group in node["metric_groups"]
    )
    sandbox.advance(20)
    first = sent(call("GET", path).json())
    assert len(first) == 2
    assert all(value == pytest.approx(250, rel=0.01) for series in first for value in series)
    call("PATCH", f"/pipelines/{pipeline_id}", {"stop": "immediate"})
    sandbox.advance(5)
    last = sent(call("GET", path).json())
    sandbox.advance(600)
    assert sent(call("GET", path).json()) == last
    assert all(value > 0 for series in last for value in series)


def test_nothing_is_measured_once_a_source_has_ended(sandbox: ArroyoSandbox, call: Caller) -> None:
    query = """
        CREATE TABLE few WITH (connector = 'impulse', event_rate = '10', message_count = '300');
        CREATE TABLE many WITH (connector = 'impulse', event_rate = '10');
        CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');
        INSERT INTO sink SELECT counter FROM few UNION ALL SELECT counter FROM many;"""
    pipeline_id = call.create(query=query)
    path = f"/pipelines/{pipeline_id}/jobs/{call.job(pipeline_id)['id']}/operator_metric_groups"
    samples = []
    for _ in range(3):
        sandbox.advance(20)
        samples.append(len(sent(call("GET", path).json())[0]))
    assert call.job(pipeline_id)["state"] == "Finishing"
    assert samples[0] < samples[1] == samples[2]


def sent(answer: dict[str, Any]) -> list[list[float]]:
    """The messages that the source's subtasks sent, sample by sample."""
    source = next(node for node in answer["data"] if node["node_id"] == 0)
    group = next(item for item in source["metric_groups"] if item["name"] == "messages_sent")
    return [[metric["value"] for metric in subtask["metrics"]] for subtask in group["subtasks"]]


def test_the_date_header_is_the_sandboxs_clock() -> None:
    with ArroyoSandbox(clock=ManualClock(start_seconds=1_700_000_000)) as sandbox:
        sandbox.advance(3600)
        answer = requests.get(f"{sandbox.url}/api/v1/ping", timeout=60)
        assert answer.headers["date"] == "Tue, 14 Nov 2023 23:13:20 GMT"
        sandbox.faults.clock_skew(-86400)
        answer = requests.get(f"{sandbox.url}/api/v1/ping", timeout=60)
        assert answer.headers["date"] == "Mon, 13 Nov 2023 23:13:20 GMT"


@pytest.mark.parametrize(
    "body, content_type, status, words",
    [
        (b"{}", "text/plain", 415, "Expected request with `Content-Type: application/json`"),
        (b'{"name": "x",}', "application/json", 400, "trailing comma at line 1 column 14"),
        (b'{"udfs": [1, ]}', "application/json", 400, "trailing comma at line 1 column 14"),
        (b'{"name": "x"\n "query"', "application/json", 400, "expected `,` or `}` at line 2 column 2"),
        (b"[]", "application/json", 422, "invalid type: sequence, expected struct PipelinePost"),
        (b'{"name": "x", "query": "", "parallelism": 1.5}', "application/json", 422, "floating point `1.5`"),
        (b'{"name": null}', "application/json", 422, "name: invalid type: null, expected a string"),
        (gzip.compress(b"{}", mtime=0), "application/json", 400, "invalid unicode code point"),
        (b"", "application/json", 400, "EOF while parsing a value at line 1 column 0"),
        (b"{} x", "application/json", 400, "trailing characters at line 1 column 4"),
        (b'{"a": [1, 2', "application/json", 400, "at line 1 column 11"),
        (b'{"name" "x"}', "application/json", 400, "expected `:` at line 1 column 9"),
        (b'{"name": "x', "application/json", 400, "EOF while parsing a string at line 1 column 11"),
        (b'{"name": NaN}', "application/json", 400, "expected value"),
        (b'{"name": "half \\ud800 pair"}', "application/json", 400, "lone leading surrogate in hex escape"),
        (b"[" * 100_000, "application/json", 400, "at line 1"),
        (
            b'{"name": "x", "query": "", "parallelism": 1, "udfs": [{}]}',
            "application/json",
            422,
            "udfs[0]: missing field `definition` at line 1 column 56",
        ),
    ],
)
def test_bodies_are_refused_in_the_words_of_arroyos_json_library(
    sandbox: ArroyoSandbox, body: bytes, content_type: str, status: int, words: str
) -> None:
    url = f"{sandbox.url}/api/v1/pipelines"
    answer = requests.post(url, data=body, headers={"content-type": content_type}, timeout=60)
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize("version", ["0.16"])
@pytest.mark.parametrize(
    "body", [{"force": True}, {"ignore_state": True}, {"ignore_state": True, "force": True}]
)
def test_a_restart_without_state_begins_again(
    body: dict[str, bool], sandbox: ArroyoSandbox, call: Caller
) -> None:
    """A bounded source needs a minute; with its state, less than half of that is left."""
    pipeline_id = call.create(query=BOUNDED.replace("'20'", "'6000'"))
    sandbox.advance(45)
    assert call("POST", f"/pipelines/{pipeline_id}/restart", body).status_code == 200
    sandbox.advance(45)
    state = call.job(pipeline_id)["state"]
    assert state == ("Running" if "ignore_state" in body else "Finished")


def test_worker_mode_replaces_the_job_of_a_restart_without_state() -> None:
    with (
        ArroyoSandbox(job_controller="worker", clock=ManualClock()) as sandbox,
        requests.Session() as session,
    ):
        call = Caller(session, sandbox.url)
        pipeline_id = call.create()
        sandbox.advance(2)
        before = call.job(pipeline_id)
        refused = call("POST", f"/pipelines/{pipeline_id}/restart", {"ignore_state": True})
        assert refused.status_code == 409
        call("PATCH", f"/pipelines/{pipeline_id}", {"stop": "checkpoint"})
        sandbox.advance(2)
        assert call("POST", f"/pipelines/{pipeline_id}/restart", {"ignore_state": True}).status_code == 200
        after = call.job(pipeline_id)
        assert after["id"] != before["id"]
        assert (after["state"], after["run_id"], after["running_desired"]) == ("Created", 0, True)
        assert [job["id"] for job in call("GET", "/jobs").json()["data"]] == [after["id"]]
        sandbox.advance(2)
        assert call.job(pipeline_id)["state"] == "Running"


def test_connection_tables_count_their_consumers(call: Caller) -> None:
    table = {"name": "ticks", "connector": "impulse", "config": {"event_rate": 5}}
    made = call("POST", "/connection_tables", table).json()
    query = "CREATE TABLE s (n BIGINT) WITH (connector='blackhole'); INSERT INTO s SELECT counter FROM ticks;"
    call.create(query=query)
    assert call("GET", "/connection_tables").json()["data"][0]["consumers"] == 1
    assert call("DELETE", f"/connection_tables/{made['id']}").status_code == 200
    gone = call("POST", "/pipelines/validate_query", {"query": query}).json()
    assert gone["graph"] is None
    assert gone["errors"]


def test_connection_tables_need_what_arroyo_needs(call: Caller) -> None:
    def create(connector: str, config: Mapping[str, Any], **more: Any) -> tuple[int, str]:
        body = {"name": f"t-{connector}", "connector": connector, "config": config, **more}
        answer = call("POST", "/connection_tables", body)
        return answer.status_code, answer.json().get("error", "")

    profile = {"name": "p", "connector": "kafka", "config": {"bootstrapServers": "b:9092"}}
    profile_id = call("POST", "/connection_profiles", profile).json()["id"]
    topic = {"topic": "t", "type": {"offset": "latest"}}
    refusals = {
        "this connector requires a connection profile, but `connectionProfileId` was not specified": {},
        "No connection profile with id 'cp_x'": {"connection_profile_id": "cp_x"},
    }
    for words, more in refusals.items():
        assert create("kafka", topic, **more) == (400, words)
    words = "Stored connection has a different connector than requested (found kafka, expected mqtt)"
    assert create("mqtt", {}, connection_profile_id=profile_id) == (400, words)
    for name, kind in (("source", topic), ("sink", topic | {"type": {"commit_mode": "at_least_once"}})):
        assert create("kafka", kind, connection_profile_id=profile_id, name=name)[0] == 200
    tables = {item["name"]: item["table_type"] for item in call("GET", "/connection_tables").json()["data"]}
    assert tables == {"source": "source", "sink": "sink"}
    assert create("nexmark", {"event_rate": 10})[0] == 200
    assert "missing field `event_rate`" in create("nexmark", {"runtime": 10})[1]


def test_names_that_are_taken() -> None:
    udf = {"prefix": "/", "definition": "#[udf] fn f(x: i64) -> i64 { x }", "language": "rust"}
    profile = {"name": "p", "connector": "kafka", "config": {}}
    table = {"name": "t", "connector": "impulse", "config": {"event_rate": 1}}
    taken = (
        ("/udfs", udf, "udf with that name already exists"),
        ("/connection_tables", table, "connection_table with that name already exists"),
    )
    record = {
        "0.15": "A record already exists with that name",
        "0.16": "A record already exists with that name or id",
    }
    for version, database in product(record, ("sqlite", "postgres")):
        options: dict[str, Any] = {"clock": ManualClock(), "arroyo_version": version, "database": database}
        with ArroyoSandbox(**options) as sandbox, requests.Session() as session:
            call = Caller(session, sandbox.url)
            for path, body, words in (*taken, ("/connection_profiles", profile, record[version])):
                assert call("POST", path, body).status_code == 200
                again = call("POST", path, body)
                if (path, database) == ("/connection_profiles", "sqlite"):
                    assert again.status_code == 200
                else:
                    assert (again.status_code, again.json()["error"]) == (400, words)


def test_udfs_are_kept_and_known_to_queries(call: Caller) -> None:
    definition = "use arroyo_udf_plugin::udf;\n#[udf]\nfn twice(x: i64) -> i64 { x * 2 }"
    made = call("POST", "/udfs", {"prefix": "/udfs", "definition": definition, "language": "rust"}).json()
    assert made["name"] == "twice"
    assert call("POST", "/udfs/validate", {"definition": definition}).json() == {
        "udf_name": "twice",
        "errors": [],
    }
    query = ENDLESS.replace("BIGINT UNSIGNED", "BIGINT").replace("SELECT counter", "SELECT twice(counter)")
    assert call("POST", "/pipelines/validate_query", {"query": query}).json()["errors"] == []
    assert call("DELETE", f"/udfs/{made['id']}").status_code == 200
    assert call("POST", "/pipelines/validate_query", {"query": query}).json()["errors"] != []


def test_seeded_runs_repeat_themselves() -> None:
    runs = []
    for _ in range(2):
        with (
            ArroyoSandbox(clock=ManualClock(start_seconds=1_700_000_000), seed=5) as sandbox,
            requests.Session() as session,
        ):
            call = Caller(session, sandbox.url)
            sandbox.faults.flap("*", runs=2, every=0.3)
            pipeline_id = call.create()
            run = []
            for _ in range(60):
                sandbox.advance(0.1)
                run.append(json.dumps(call.job(pipeline_id)))
            runs.append(run)
    assert runs[0] == runs[1]
    assert json.loads(runs[0][-1])["run_id"] == 3


def test_admins_of_016_reach_the_same_calls_below_their_organization(
    sandbox: ArroyoSandbox, call: Caller
) -> None:
    pipeline_id = call.create()
    answer = call("GET", f"/admin/organizations/org/pipelines/{pipeline_id}")
    assert answer.status_code == (200 if sandbox.arroyo_version == "0.16" else 404)


SHAPES = (bodies.PIPELINE["0.16"], bodies.PATCH["0.16"], bodies.RESTART["0.16"], bodies.TABLE, bodies.UDF)
NAMES = sorted({name for shape in SHAPES for name in shape.is_required} | {"fields", "type"})
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["impulse", "kafka", "checkpoint", "SELECT 1", ENDLESS, "rust", "decimal128"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
CALLS = [
    ("POST", "/pipelines"),
    ("PUT", "/pipelines/own"),
    ("POST", "/pipelines/preview"),
    ("PATCH", "/pipelines/own"),
    ("POST", "/pipelines/validate_query"),
    ("POST", "/pipelines/own/restart"),
    ("POST", "/connection_tables"),
    ("POST", "/connection_profiles"),
    ("POST", "/udfs"),
    ("POST", "/udfs/validate"),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    """Calls of a sandbox that has a pipeline with the id ``own``."""
    with (
        ArroyoSandbox(clock=ManualClock(seconds_per_request=0.1), seed=1) as sandbox,
        requests.Session() as session,
    ):
        call = Caller(session, sandbox.url)
        call("PUT", "/pipelines/own", {"name": "x", "query": ENDLESS, "parallelism": 1})
        yield call


@given(
    method_and_path=st.sampled_from(CALLS),
    body=JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8),
)
def test_every_request_gets_a_response_with_a_message(
    shared: Caller, method_and_path: tuple[str, str], body: Any
) -> None:
    answer = shared(*method_and_path, body)
    assert answer.status_code in (200, 400, 415, 422) or answer.json() == {"error": "Something went wrong"}
    if answer.status_code != 200:
        assert answer.json()["error"]
    for path in ("", "/jobs"):
        assert shared("GET", f"/pipelines/own{path}").status_code == 200
    assert shared("GET", "/jobs").status_code == shared("GET", "/connection_tables").status_code == 200


@pytest.mark.parametrize("change", [{"env_vars": {"A": "b"}}, {"scheduler_config": {"slots": 1}}])
def test_changed_variables_and_scheduler_settings_begin_a_new_run_on_016(
    change: dict[str, Any], sandbox: ArroyoSandbox, call: Caller
) -> None:
    pipeline_id = call.create(checkpoint_interval_micros=60_000_000)
    for _ in range(2):  # the same values again do nothing
        sandbox.advance(3)
        assert call("PATCH", f"/pipelines/{pipeline_id}", change).status_code == 200
    sandbox.advance(3)
    job = call.job(pipeline_id)
    assert (job["state"], job["run_id"]) == ("Running", 1 if sandbox.arroyo_version == "0.15" else 2)
    assert {name: job.get(name, value) for name, value in change.items()} == change


def test_labels_cannot_be_patched(sandbox: ArroyoSandbox, call: Caller) -> None:
    tags: dict[str, Any] = {"tags": {"owner": "a"}} if sandbox.arroyo_version == "0.16" else {}
    pipeline_id = call.create("named", udfs=[{"definition": "#[udf]\nfn one(x: i64) -> i64 { x }"}], **tags)
    sandbox.advance(2)
    before = call("GET", f"/pipelines/{pipeline_id}").json()
    changes = {
        "name": "other",
        "query": "SELECT 1",
        "udfs": [],
        "tags": {"owner": "b"},
        "state_url": "s3://x",
    }
    assert call("PATCH", f"/pipelines/{pipeline_id}", changes).status_code == 200
    sandbox.advance(2)
    assert call("GET", f"/pipelines/{pipeline_id}").json() == before
    assert call.job(pipeline_id)["run_id"] == 1
