"""A headless browser, and pages whose requests and complaints are all noted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Locator, Page, sync_playwright

#: Names under which Chromium may be installed.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed: `apt-get install chromium` brings one"
)
#: Desktop, and a telephone.
WIDE, NARROW = (1360, 900), (390, 844)
_OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"]
#: Chromium's own word on an answer that is no success, which a page cannot keep it from.
_NETWORK = "Failed to load resource"
#: Faults that keep people from using a page.
_GRAVE = {"serious", "critical"}
#: Rules of axe-core about colours.
COLOURS = ("color-contrast", "link-in-text-block")


@dataclass
class Tab:
    """A page, with all that it has asked for, and all that it has complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, url: str, view: str = "now") -> Page:
        """Show a view of the console of an API, once it has figures."""
        self.page.goto("about:blank")  # or another view of the same page would be no load
        self.page.goto(f"{url}/console#{view}")
        self.page.wait_for_selector(".pulse.on")
        return self.page

    def hosts(self) -> set[str | None]:
        """The hosts that it has asked."""
        return {urlsplit(one).hostname for one in self.requests if not one.startswith(("data:", "about:"))}

    def faults(self, *rules: str) -> list[str]:
        """Grave faults for people who see, hear or move in another way, as axe-core finds them.

        Args:
            rules: those that are asked. By default all.
        """
        if not self.page.evaluate("'axe' in globalThis"):
            self.page.evaluate(AXE_SCRIPT)
        only = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
        options = {"resultTypes": ["violations"], **only}
        found = self.page.evaluate("options => axe.run(document, options)", options)["violations"]
        return [
            f"{one['id']} ({one['impact']}): {[node['target'] for node in one['nodes']]}"
            for one in found
            if one["impact"] in _GRAVE
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, for as long as the block lasts."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS)
        try:
            yield started
        finally:
            started.close()


@contextmanager
def tab(
    started: Browser, size: tuple[int, int] = WIDE, scheme: str = "light", *, outage: bool = False
) -> Iterator[Tab]:
    """A page of its own, which asks nobody but this machine and has nothing to complain of.

    Args:
        started: the browser.
        size: of the window.
        scheme: the colours that a person prefers.
        outage: whether answers may be no success.
    """
    width, height = size
    context = started.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(30_000)
    opened = Tab(context.new_page())
    context.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
    opened.page.on(
        "console",
        lambda said: (
            said.type in {"error", "warning"}
            and not (outage and _NETWORK in said.text)
            and opened.complaints.append(f"{said.type}: {said.text}")
        ),
    )
    opened.page.on(
        "dialog", lambda dialog: (opened.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss())
    )
    try:
        yield opened
        assert [] == opened.complaints, opened.complaints
        assert {"127.0.0.1"} >= opened.hosts(), opened.hosts()
    finally:
        # An answer that a test changes may be on its way: what it fails with would be the next test's.
        opened.page.unroute_all(behavior="ignoreErrors")
        context.close()


def figure(page: Page, name: str) -> str:
    """A large figure of the first view."""
    return page.locator(".verdict .figure").filter(has_text=name).locator(".value").inner_text()


#: The time until the heading begins with something, seconds.
TOOK = """(wanted) => new Promise((told) => {
  const began = performance.now();
  const look = () => document.querySelector("h1").textContent.startsWith(wanted)
    ? told((performance.now() - began) / 1000) : setTimeout(look, 20);
  look();
})"""


def chart(page: Page, name: str) -> Locator:
    """The chart whose title begins so: while somebody points at it, that has the time as well."""
    return page.locator(".chart").filter(has=page.get_by_role("heading", name=re.compile(f"^{name}")))


def title(page: Page) -> str:
    return page.locator("h1").inner_text()


def focused(page: Page) -> str:
    """The name of what has the focus."""
    return page.evaluate(
        "document.activeElement.getAttribute('aria-label') ?? document.activeElement.firstChild?.textContent ?? ''"
    )


def press_until(page: Page, key: str, name: str) -> None:
    """Press a key until what has this name has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        if focused(page) == name:
            return
    pytest.fail(f"{key} does not lead to {name!r}")
