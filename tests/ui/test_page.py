"""A pipeline's own page in a browser: from the list and back, charts and tables, actions, missing data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_arroyo.pipelines.ownership import Deployment, Owner, OwnershipLabel
from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import wait_until
from tests.support import ENDLESS

from .site import Site, Visitor, create, id_of, visiting, window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

expect = pytest.importorskip("playwright.sync_api").expect

SLOW = "payments_to_warehouse"
HOSTILE = "<img src=x onerror=alert(1)>"
CHARTS = ("States", "Graph", "Rates", "Checkpoints")


@pytest.fixture
def mine(demo: ArroyoSandbox) -> Iterator[str]:
    pipeline_id = create(demo, "of_its_own_page")
    yield pipeline_id
    demo.faults.delete(pipeline_id, after=0)


def drawn(visitor: Visitor) -> None:
    """Wait until every chart is there."""
    visitor.section("Graph").locator(".node").first.wait_for()
    visitor.section("Rates").locator("canvas").wait_for()
    visitor.section("Checkpoints").locator("canvas").wait_for()


def sideways(visitor: Visitor) -> float:
    """Return by how many pixels the page can be scrolled sideways."""
    return float(visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def test_from_the_list_to_a_pipeline_and_back(admin: Visitor, demo: ArroyoSandbox) -> None:
    page = admin.page
    admin.open_list("&state=Running&sort=-name")
    admin.row(SLOW).locator("a.name").click()
    page.wait_for_url(f"**/plugin/arroyo/pipelines/{id_of(demo, SLOW)}?**")
    expect(page.get_by_role("heading", name=SLOW)).to_be_focused()
    expect(page).to_have_title(f"{SLOW} - Arroyo - Airflow")
    expect(page.locator(".sentence")).to_contain_text("Running (run 1)")
    drawn(admin)
    expect(admin.section("Graph").locator(".node.high").first).to_be_visible()
    expect(admin.section("SQL").locator(".hljs-keyword").first).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("team=shop")
    assert admin.faults() == []

    page.get_by_role("link", name="All pipelines").click()
    expect(admin.row(SLOW).locator("a.name")).to_be_focused()
    expect(page).to_have_title("Arroyo - Airflow")
    assert "state=Running" in page.url
    assert "sort=-name" in page.url
    page.go_back()
    expect(page.get_by_role("heading", name=SLOW)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name=SLOW)).to_be_visible()
    # Airflow's own link, whose text does not name its target.
    entry = page.get_by_role("link", name="Arroyo", exact=True)
    menu = page.get_by_role("button", name="Plugins", exact=True)
    entry.or_(menu).first.wait_for()
    if menu.count():
        menu.click()
        entry = page.get_by_role("menuitem", name="Arroyo")
    entry.first.click()
    expect(page.get_by_role("heading", name="Arroyo", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name=SLOW)).to_be_visible()


def test_with_the_keyboard_the_focus_returns_to_the_row(admin: Visitor) -> None:
    page = admin.page
    admin.open_list("&sort=name", connection="arroyo_many")
    row = admin.row("pipeline-512").locator("a.name")

    def is_scrolled_to() -> bool:
        page.locator(".scroller").evaluate("(element) => { element.scrollTop = element.scrollHeight / 2; }")
        return bool(row.count())

    # The names arrive after the rows, which are then sorted by them.
    wait_until(is_scrolled_to, what="the row in the middle", timeout_seconds=120)
    row.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="pipeline-512")).to_be_focused()
    page.go_back()
    expect(row).to_be_focused()
    expect(row).to_be_in_viewport()
    # The page of a missing pipeline has a heading, too.
    admin.open("plugin/arroyo/pipelines/pl_none?connection=arroyo_many")
    expect(page.get_by_role("heading", name="pl_none")).to_be_visible()
    page.get_by_role("link", name="All pipelines").press("Enter")
    expect(page.get_by_role("heading", name="Arroyo", exact=True)).to_be_focused()


def test_each_chart_can_be_read_as_a_table_which_the_address_keeps(
    admin: Visitor, demo: ArroyoSandbox
) -> None:
    admin.open_page(id_of(demo, SLOW))
    drawn(admin)
    for title in CHARTS:
        admin.section(title).get_by_role("button", name="Table").click()
        expect(admin.section(title).locator("tbody tr").first).to_be_visible()
    expect(admin.section("Graph").locator("tbody")).to_contain_text("TumblingWindow")
    assert admin.faults() == []
    admin.shot("page-tables", whole=True)
    admin.page.reload()
    for title in CHARTS:
        expect(admin.section(title).locator("tbody tr").first).to_be_visible()
    admin.section("Graph").get_by_role("button", name="Table").click()
    expect(admin.section("Graph").locator(".node").first).to_be_visible()


def test_actions_work_on_the_page(admin: Visitor, site: Site, mine: str) -> None:
    page = admin.page
    admin.open_page(mine)
    state = page.locator(".page-head .badge .word")
    expect(state).to_have_text("Running")

    def act(button: str, confirm: str) -> None:
        page.locator(".page-head").get_by_role("button", name=button).click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("of_its_own_page")
        if button == "Change parallelism":
            dialog.get_by_label("Parallelism").fill("3")
        dialog.get_by_role("button", name=confirm).click()
        expect(dialog).to_have_count(0)

    act("Change parallelism", "Change parallelism")
    expect(page.locator(".progress.ok")).to_contain_text("running again")
    expect(admin.section("Graph").locator(".node-kind").first).to_contain_text("× 3")
    act("Stop", "Stop pipeline")
    expect(state).to_have_text("Stopped")
    # Each state is on the timeline, and in the table.
    admin.section("States").get_by_role("button", name="Table").click()
    expect(admin.section("States").locator("tbody")).to_contain_text("Stopped")
    expect(admin.section("Checkpoints").locator("canvas")).to_be_visible()
    act("Delete", "Delete pipeline")
    expect(page.locator(".notice.warning")).to_contain_text("it was deleted")
    expect(admin.section("SQL")).to_contain_text("impulse")
    expect(page.locator(".page-head button")).to_have_count(0)
    admin.shot("page-deleted")
    rows = site.audit("arroyo.rescale")
    assert json.loads(rows[0]["extra"])["pipeline_id"] == mine


def label(run_id: str, generation: int) -> dict[str, str]:
    owner = Owner(dag_id="shop", task_id="submit", run_id=run_id)
    deployment = Deployment(group="daily", name="deployed")
    written = OwnershipLabel(
        task=owner, try_number=1, package_version="1", deployment=deployment, generation=generation
    )
    return written.to_tags()


def test_a_deployment_shows_its_task_the_states_it_saw_and_the_diff(
    admin: Visitor, site: Site, demo: ArroyoSandbox
) -> None:
    changed = ENDLESS.replace("'10'", "'25'")
    seen = [
        {"at": f"2026-11-28T10:00:0{second}Z", "state": state, "run_id": 1, "job_id": "job_1"}
        for second, state in ((0, "Created"), (1, "Scheduling"), (4, "Running"))
    ]
    run_id = site.run_with_xcoms("submit", arroyo_transitions=seen)
    old = create(demo, "deployed", tags=label(run_id, 1))
    new = create(demo, "deployed", tags=label(run_id, 2), query=changed)
    try:
        admin.open_page(new)
        expect(admin.page.locator(".facts")).to_contain_text("daily / deployed, generation 2")
        diff = admin.section("What changed")
        expect(diff.locator(".added")).to_contain_text("'25'")
        expect(diff.locator(".removed")).to_contain_text("'10'")
        tasks = admin.section("Task instances")
        expect(tasks.get_by_role("link", name="shop.submit")).to_have_attribute(
            "href", f"{site.url}/dags/shop/runs/{run_id}/tasks/submit"
        )
        expect(admin.section("States").locator(".lane-name", has_text="shop.submit")).to_be_visible()
        assert admin.faults() == []
        admin.shot("page-deployed", whole=True)
        diff.get_by_role("link", name="The other generation").click()
        expect(admin.page.locator(".facts")).to_contain_text("daily / deployed, generation 1")
        admin.section("Task instances").get_by_role("link", name="shop.submit").click()
        admin.page.wait_for_url("**/dags/shop/runs/*/tasks/submit**")
    finally:
        for one in (old, new):
            demo.faults.delete(one, after=0)


def test_a_failed_pipeline_shows_the_reason(admin: Visitor, demo: ArroyoSandbox) -> None:
    admin.open_page(id_of(demo, "refunds_backfill"))
    expect(admin.page.locator(".notice.error").first).to_contain_text("no column amount")
    expect(admin.section("Graph").locator(".node").first).to_be_visible()
    assert admin.faults() == []
    admin.shot("page-failed", whole=True)


def test_an_address_without_a_pipeline_says_so(admin: Visitor) -> None:
    for address, words in {
        "pl_none?connection=arroyo_default": "There is no pipeline",
        "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E?connection=arroyo_default": "There is no pipeline",
        "a%2Fb?connection=arroyo_many": "There is no pipeline",
        "pl_1": "does not name a connection",
        "pl_1?connection=nowhere": "nowhere",
    }.items():
        admin.open(f"plugin/arroyo/pipelines/{address}")
        expect(admin.page.locator(".notice", has_text=words).first).to_be_visible()


def test_an_outage_is_shown_and_the_last_data_is_kept(admin: Visitor, demo: ArroyoSandbox, mine: str) -> None:
    admin.open_page(mine)
    drawn(admin)
    demo.faults.api_away()
    try:
        expect(admin.page.locator(".notice.warning").first).to_contain_text("old")
        expect(admin.section("SQL")).to_contain_text("impulse")
        admin.shot("page-away")
    finally:
        demo.faults.api_back()
    expect(admin.page.locator(".notice.warning")).to_have_count(0, timeout=60_000)


def test_hostile_texts_are_treated_as_text(admin: Visitor, demo: ArroyoSandbox) -> None:
    turned = "-- \u202e} \u2066if is_admin\u2069 \u2066 begin"
    query = ENDLESS.replace("CREATE TABLE impulse", f"-- {HOSTILE}\n{turned}\nCREATE TABLE impulse")
    hostile = create(demo, HOSTILE, tags={HOSTILE: HOSTILE, "n" * 300: "v" * 300}, query=query)
    try:
        admin.open_page(hostile)
        expect(admin.page.get_by_role("heading", name=HOSTILE)).to_be_visible()
        expect(admin.section("SQL")).to_contain_text(HOSTILE)
        expect(admin.section("SQL")).to_contain_text("-- U+202E} U+2066if is_adminU+2069 U+2066 begin")
        expect(admin.page.locator(".facts")).to_contain_text(f"{HOSTILE}={HOSTILE}")
        assert sideways(admin) <= 0
        admin.shot("page-hostile", whole=True)
    finally:
        demo.faults.delete(hostile, after=0)


def large(definition: dict[str, Any], nodes: int = 200) -> dict[str, Any]:
    """Return a pipeline's definition with a large graph and a megabyte of SQL."""
    edges = [{"from": max(0, n - 1 - n * 7 % 6), "to": n, "type": "Forward"} for n in range(1, nodes)]
    edges += [{"from": n, "to": n + 3 + n % 7, "type": "Shuffle"} for n in range(0, nodes - 10, 5)]
    graph = {
        "nodes": [
            {"id": n, "operator": "chained_op", "description": f"node {n}", "parallelism": 1}
            for n in range(nodes)
        ],
        "edges": edges,
        "truncated": False,
    }
    return {**definition, "graph": graph, "sql": "SELECT a, b FROM orders; -- a long line of SQL\n" * 22_000}


def serve_large(visitor: Visitor) -> None:
    """Make the page get a large definition."""

    def enlarge(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=large(response.json()))

    visitor.page.route("**/arroyo/api/pipeline/definition?*", enlarge)


def test_a_large_graph_and_a_megabyte_of_sql_are_usable(admin: Visitor, mine: str) -> None:
    serve_large(admin)
    admin.open_page(mine)
    expect(admin.section("Graph").locator(".node")).to_have_count(200)
    expect(admin.section("SQL")).to_contain_text("a long line of SQL")
    admin.section("Graph").get_by_role("button", name="Fit the whole graph").click()
    # The page handles what was typed in the meantime: it does not hang.
    admin.section("Graph").get_by_role("button", name="Table").click()
    expect(admin.section("Graph").locator("tbody tr")).to_have_count(200)
    assert sideways(admin) <= 0


def test_a_user_without_rights_gets_a_reason_and_no_data(browser: Browser, site: Site, mine: str) -> None:
    with visiting(browser, site, user="jane") as jane:
        jane.open(f"plugin/arroyo/pipelines/{mine}?connection=arroyo_default")
        expect(jane.page.locator(".notice.error")).to_contain_text("may not read")
        expect(jane.page.locator(".card")).to_have_count(0)
        for part in ("live", "definition", "tasks"):
            query = f"connection_id=arroyo_default&pipeline_id={mine}"
            answer = jane.page.request.get(f"{site.url}/arroyo/api/pipeline/{part}?{query}")
            assert answer.status == 403


@pytest.mark.parametrize(
    "width, dark", [(400, True), (1024, False), (1440, False), (1440, True), (2560, False)]
)
def test_axe_finds_no_serious_problem_in_any_width_and_colour_scheme(
    admins: BrowserContext, site: Site, demo: ArroyoSandbox, width: int, dark: bool
) -> None:
    with window(admins, site, width=width, dark=dark) as visitor:
        visitor.open_page(id_of(demo, SLOW))
        drawn(visitor)
        assert visitor.faults() == []
        assert sideways(visitor) <= 0
        visitor.shot(f"page-{width}-{'dark' if dark else 'light'}", whole=True)
