"""An Airflow API server with the pages, the sandboxes that it shows, and a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from scripts.local_airflow import LocalAirflow, LocalAirflowError, wait_until
from tests.support import ENDLESS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

BASE_PATH = "/air/flow"
"""The whole site is below a base path, since what works there also works at the root."""

USERS = {"admin": "admin", "jane": "viewer"}
DAGS = Path(__file__).parent / "dags"
SHOTS = Path(os.environ.get("ARROYO_UI_SHOTS") or "ui-shots")


class Site(LocalAirflow):
    """An API server without a scheduler, so that it starts in seconds.

    :param home: folder for everything that it writes.
    :param connections: Airflow connections of type Arroyo, by their ids, to the sandboxes at these addresses.
    """

    def __init__(self, home: Path, connections: dict[str, str]) -> None:
        env = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "arroyo", "host": url})
            for name, url in connections.items()
        }
        users = ",".join(f"{name}:{role}" for name, role in USERS.items())
        dags = home / "dags"
        super().__init__(
            home=home / "airflow",
            dags_folder=dags,
            env={
                **env,
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            },
        )
        shutil.copytree(DAGS, dags)
        self._env["AIRFLOW__API__BASE_URL"] = self.url + BASE_PATH
        self._env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{self.url}{BASE_PATH}/execution/"

    def start(self, *, timeout_seconds: float = 300.0) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.home / "simple_auth_manager_passwords.json.generated"
        passwords.write_text(json.dumps({name: name for name in USERS}))
        self.command("db", "migrate")
        self.command("dags", "reserialize")
        server = self.start_component("api-server")
        self.url += BASE_PATH

        def is_up() -> bool:
            if server.poll() is not None:
                raise LocalAirflowError(self.log_path("api-server").read_text(errors="replace")[-3000:])
            try:
                self._log_in()
            except OSError:
                return False
            return True

        try:
            wait_until(is_up, what="the API server", timeout_seconds=timeout_seconds)
        except BaseException:
            self.stop()
            raise

    def command(self, *arguments: str) -> None:
        """Run one of Airflow's commands and wait for its end."""
        subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self._env,
            cwd=self.home,
            check=True,
            capture_output=True,
            timeout=600,
        )

    def token(self, user: str) -> str:
        body = {"username": user, "password": user}
        return str(self.call("POST", "/auth/token", body, login=False)["access_token"])

    def run_with_xcoms(self, task_id: str, **xcoms: Any) -> str:
        """Create a run of the DAG in which a task has these XComs; return its id."""
        run_id = self.trigger("shop")
        for key, value in xcoms.items():
            path = f"{self._run('shop', run_id)}/taskInstances/{task_id}/xcomEntries"
            self.call("POST", path, {"key": key, "value": value, "map_index": -1})
        return run_id

    def audit(self, event: str) -> list[dict[str, Any]]:
        """Return the rows of Airflow's audit log about an event, newest first."""
        return list(self.call("GET", f"/api/v2/eventLogs?event={event}&order_by=-id")["event_logs"])


class Visitor:
    """A user with a browser window."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.alarms: list[str] = []
        page.on("dialog", self._refuse)
        page.on("pageerror", lambda error: self.alarms.append(str(error)))

    def _refuse(self, dialog: Any) -> None:
        self.alarms.append(dialog.message)
        dialog.dismiss()

    def open(self, path: str = "plugin/arroyo?connection=arroyo_default") -> None:
        self.page.goto(f"{self.site.url}/{path}")

    def open_list(self, search: str = "", connection: str = "arroyo_default") -> None:
        """Open the list and wait until it has rows."""
        self.open(f"plugin/arroyo?connection={connection}{search}")
        self.page.locator("tr.row").first.wait_for()

    def open_page(self, pipeline_id: str, search: str = "") -> None:
        """Open the page of a pipeline and wait for its state."""
        self.open(f"plugin/arroyo/pipelines/{quote(pipeline_id, safe='')}?connection=arroyo_default{search}")
        self.section("States").locator(".track").first.wait_for()

    def section(self, title: str) -> Locator:
        """Return a part of a pipeline's page."""
        return self.page.get_by_role("region", name=title, exact=True)

    def row(self, name: str) -> Locator:
        return self.page.locator("tr.row").filter(has=self.page.locator(".name", has_text=name))

    def state(self, name: str) -> Locator:
        return self.row(name).locator(".word")

    def names(self) -> list[str]:
        return list(self.page.locator("tr.row .name").all_inner_texts())

    def choose(self, name: str, action: str) -> Locator:
        """Choose an action of a pipeline's menu; return the dialog that asks for confirmation."""
        self.row(name).get_by_role("button", name="Actions on").click()
        self.page.get_by_role("menuitem", name=action).click()
        dialog = self.page.get_by_role("dialog")
        dialog.wait_for()
        return dialog

    def act(self, name: str, action: str, button: str) -> None:
        """Choose an action of a pipeline's menu, confirm it, and wait until Arroyo has responded."""
        self.confirm(self.choose(name, action), button)

    @staticmethod
    def confirm(dialog: Locator, button: str) -> None:
        """Confirm an action, and wait until Arroyo has responded; until then the row shows the previous one."""
        dialog.get_by_role("button", name=button).click()
        dialog.wait_for(state="detached")

    def shot(self, name: str, *, whole: bool = False) -> None:
        """Take a screenshot of the page.

        :param whole: whether to include what is scrolled out of view.
        """
        SHOTS.mkdir(parents=True, exist_ok=True)
        before = self.page.viewport_size
        if whole and before:
            # Airflow scrolls only a part of its page, so a full-page screenshot does not include it.
            height = self.page.locator("main.page").evaluate("(main) => main.scrollHeight")
            self.page.set_viewport_size({"width": before["width"], "height": int(height) + 120})
        self.page.screenshot(path=SHOTS / f"{name}.png")
        if whole and before:
            self.page.set_viewport_size(before)

    def faults(self) -> list[str]:
        """Return the serious problems that axe finds in our part of the page, inside its shadow root."""
        self.page.evaluate(Path(os.environ["ARROYO_UI_AXE"]).read_text())
        result = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {node['target']} {node['html'][:200]}"
            for one in result["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
            if isinstance(node["target"][0], list)
        ]


@contextmanager
def logged_in(browser: Browser, site: Site, user: str = "admin") -> Iterator[BrowserContext]:
    """Log a user in. All windows of the user share one cache."""
    context = browser.new_context()
    context.add_cookies([{"name": "_token", "value": site.token(user), "url": site.url}])
    try:
        yield context
    finally:
        context.close()


@contextmanager
def window(
    context: BrowserContext, site: Site, *, width: int = 1440, dark: bool = False
) -> Iterator[Visitor]:
    """Open a window for a user who is logged in."""
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_default_timeout(30_000)
    visitor = Visitor(page, site)
    try:
        yield visitor
        assert visitor.alarms == []
    finally:
        # The next window starts without the choices made in this one.
        if page.url.startswith(site.url):
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
        page.close()


@contextmanager
def visiting(browser: Browser, site: Site, *, user: str = "admin") -> Iterator[Visitor]:
    """Log in a user who has never been there, and open a window."""
    with logged_in(browser, site, user) as context, window(context, site) as visitor:
        yield visitor


def id_of(sandbox: ArroyoSandbox, name: str) -> str:
    """Return the id of a pipeline by its name."""
    import requests

    pipelines = requests.get(f"{sandbox.url}/api/v1/pipelines?limit=1000", timeout=60).json()["data"]
    return next(str(pipeline["id"]) for pipeline in pipelines if pipeline["name"] == name)


def create(sandbox: ArroyoSandbox, name: str, **fields: Any) -> str:
    """Create a pipeline; return its id."""
    import requests

    body = {"name": name, "query": ENDLESS, "parallelism": 1, **fields}
    response = requests.post(f"{sandbox.url}/api/v1/pipelines", json=body, timeout=60)
    response.raise_for_status()
    return str(response.json()["id"])
