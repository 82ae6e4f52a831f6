"""The list in a browser: filters, order, addresses, reasons; light, dark, narrow and wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .site import Site, Visitor, create, visiting, window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

expect = pytest.importorskip("playwright.sync_api").expect


def test_the_navigation_leads_to_the_list(admin: Visitor) -> None:
    admin.open("")
    entry = admin.page.get_by_role("link", name="Arroyo", exact=True)
    # Before Airflow 3.3, the pages of plugins are in a menu.
    menu = admin.page.get_by_role("button", name="Plugins", exact=True)
    entry.or_(menu).first.wait_for()
    if menu.count():
        menu.click()
        entry = admin.page.get_by_role("menuitem", name="Arroyo")
    entry.first.click()
    expect(admin.page.get_by_role("heading", name="Arroyo", exact=True)).to_be_visible()
    # There are two connections, so neither is preselected.
    admin.page.get_by_label("Connection").select_option("arroyo_default")
    expect(admin.state("refunds_backfill")).to_have_text("Failed")
    assert "connection=arroyo_default" in admin.page.url


def test_each_pipeline_is_listed_with_its_state_and_details(admin: Visitor) -> None:
    admin.open_list()
    for name, state in {
        "refunds_backfill": "Failed",
        "orders_per_minute": "Running",
        "clicks_per_day": "Stopped",
        "inventory_snapshot": "Finished",
        "fraud_scores": "Scheduling",
    }.items():
        expect(admin.state(name)).to_have_text(state)
    orders = admin.row("orders_per_minute")
    expect(orders.locator(".c-rates")).to_contain_text("→")
    expect(orders.locator(".spark canvas")).to_have_count(1)
    expect(orders.locator(".c-checkpoint")).to_contain_text("took")
    expect(admin.row("payments_to_warehouse").locator(".pressure.high")).to_be_visible()
    expect(admin.row("refunds_backfill").locator(".reason")).to_contain_text("no column amount")
    link = orders.get_by_role("link", name="orders_per_minute in Arroyo's console")
    assert "/pipelines/" in str(link.get_attribute("href"))
    expect(admin.page.locator(".freshness")).to_contain_text("since")


def test_a_flapping_pipeline_shows_its_restarts(admin: Visitor, demo: ArroyoSandbox) -> None:
    admin.open_list()
    admin.row("sessions_flapping").wait_for()
    demo.advance(45)
    expect(admin.row("sessions_flapping").locator(".c-restarts .strong")).to_be_visible()


def test_filters_and_order_are_in_the_address_and_survive_a_reload(admin: Visitor) -> None:
    admin.open_list()
    admin.page.get_by_role("button", name="Stopped").click()
    admin.page.get_by_role("button", name="Finished").click()
    admin.page.get_by_role("button", name="Pipeline").click()
    admin.page.get_by_role("button", name="Pipeline").click()
    expect(admin.page.locator("tr.row")).to_have_count(2)
    assert admin.names() == ["inventory_snapshot", "clicks_per_day"]
    admin.page.reload()
    expect(admin.page.locator("tr.row")).to_have_count(2)
    assert admin.names() == ["inventory_snapshot", "clicks_per_day"]
    expect(admin.page.locator("th[aria-sort=descending]")).to_have_text("Pipeline ↓")
    admin.page.get_by_label("Search pipelines").fill("clicks")
    expect(admin.page.locator("tr.row")).to_have_count(1)
    assert "q=clicks" in admin.page.url
    admin.page.get_by_role("button", name="Clear filters").click()
    expect(admin.state("refunds_backfill")).to_have_text("Failed")


def test_the_reason_of_a_failure_can_be_read_in_full(admin: Visitor) -> None:
    admin.open_list()
    admin.row("refunds_backfill").locator(".reason").click()
    dialog = admin.page.get_by_role("dialog")
    expect(dialog).to_contain_text("the table refunds has no column amount")
    expect(dialog).to_contain_text("its SQL, its options, or its data")
    admin.shot("reason")
    admin.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


@pytest.mark.parametrize(
    "width, dark", [(400, False), (400, True), (1024, False), (1440, False), (1440, True), (2560, True)]
)
def test_axe_finds_no_serious_problem_in_any_width_and_colour_scheme(
    admins: BrowserContext, site: Site, width: int, dark: bool
) -> None:
    with window(admins, site, width=width, dark=dark) as visitor:
        visitor.open_list()
        expect(visitor.row("refunds_backfill")).to_be_visible()
        # In its own column, or below the rates if there is no room.
        pressure = ".pressure:visible, .pressure-below:visible"
        expect(visitor.row("payments_to_warehouse").locator(pressure)).to_be_visible()
        assert visitor.faults() == []
        # The page itself never scrolls sideways.
        assert visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        visitor.shot(f"list-{width}-{'dark' if dark else 'light'}")


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "'\"><script>alert(2)</script>",
    "javascript:alert(3)",
    "\u202egnirts desrever",
    "n" * 5000,
    "a\nb\tc",
)


def test_hostile_names_are_text(admin: Visitor, demo: ArroyoSandbox) -> None:
    ids = [create(demo, name) for name in HOSTILE]
    try:
        admin.open_list()
        expect(admin.row(HOSTILE[0])).to_be_visible()
        expect(admin.row("<script>alert(2)")).to_be_visible()
        admin.shot("hostile")
        dialog = admin.choose(HOSTILE[0], "Stop")
        expect(dialog.locator(".named")).to_have_text(HOSTILE[0])
        assert admin.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    finally:
        for one in ids:
            demo.faults.delete(one, after=0)


def test_an_outage_is_shown_and_the_last_data_is_kept(admin: Visitor, demo: ArroyoSandbox) -> None:
    admin.open_list()
    expect(admin.state("refunds_backfill")).to_have_text("Failed")
    demo.faults.api_away()
    try:
        expect(admin.page.locator(".notice.warning")).to_contain_text("old")
        expect(admin.state("refunds_backfill")).to_have_text("Failed")
        admin.shot("away")
        assert admin.faults() == []
    finally:
        demo.faults.api_back()
    expect(admin.page.locator(".notice.warning")).to_have_count(0, timeout=60_000)


def test_a_user_without_rights_gets_an_explanation_and_no_data(browser: Browser, site: Site) -> None:
    with visiting(browser, site, user="jane") as jane:
        jane.open("plugin/arroyo")
        expect(jane.page.locator(".notice")).to_contain_text(
            "no Airflow connection of type Arroyo that you may read"
        )
        jane.open("plugin/arroyo?connection=arroyo_default")
        expect(jane.page.locator(".notice.error")).to_contain_text("may not read")
        expect(jane.page.locator("tr.row")).to_have_count(0)
        answer = jane.page.request.post(
            f"{site.url}/arroyo/api/actions/stop?connection_id=arroyo_default&pipeline_id=x",
            data={},
            headers={"X-Arroyo-Action": "1"},
        )
        assert answer.status == 403


def test_a_user_who_may_only_read_sees_no_buttons(admin: Visitor) -> None:
    def read_only(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "may_act": False})

    admin.page.route("**/arroyo/api/pipelines?*", read_only)
    admin.open_list()
    expect(admin.state("refunds_backfill")).to_have_text("Failed")
    expect(admin.page.get_by_role("button", name="Actions on")).to_have_count(0)
