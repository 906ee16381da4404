"""Dead letters are replayed and discarded by a click, and by the keyboard alone."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.acceptance.browser import figure, focused, in_a_browser, press_until
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, in_a_browser]

#: What stands where there is no dead letter.
NONE = "None: nothing waits for MongoDB, and it refuses nothing."


def test_a_dead_letter_is_replayed_by_a_click(system, opened, letter):
    """It is found by a search, shown with its body and reason, and is in MongoDB once it was confirmed."""
    page = opened.open(system.stack.url, "dead-letters")
    expect(page.locator("nav .badge")).to_have_text("1")
    page.get_by_label("Search").fill("no such id")
    expect(page.locator(".empty")).to_have_text("None fits.")
    page.get_by_label("Search").fill("onerror")
    expect(page.get_by_role("link", name=f"events/{letter}")).to_be_visible()
    assert "E11000" in page.locator("tbody").inner_text()
    page.get_by_role("button", name=f"Show events/{letter}").click()
    shown = json.loads(page.locator(".json").inner_text())
    assert {"_id": letter, "mail": "taken@x", "n": 1} | system.fill == shown

    page.get_by_role("button", name=f"Replay events/{letter}").click()
    page.get_by_role("button", name="Cancel").click()
    assert 1 == system.status()["dead_letters"]
    page.get_by_role("button", name=f"Replay events/{letter}").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()

    expect(page.get_by_text("1 dead letter tried again.")).to_be_visible()
    wait_until(lambda: system.database["events"].find_one({"_id": letter}), "the document in MongoDB")
    expect(
        page.get_by_text("None: nothing waits for MongoDB, and it refuses nothing.").or_(
            page.get_by_text("None fits.")
        )
    ).to_be_visible()
    expect(page.locator("nav .badge")).to_have_count(0)
    if "preload" not in system.stack.variant:  # which is another server, with a log of its own
        logged = system.stack.data_dir / "log" / "web.log"
        wait_until(
            lambda: "administrative call: POST /admin/dead-letters/events/" in logged.read_text(), "the log"
        )


def test_a_dead_letter_that_is_refused_again_is_said_to_be(system, opened, letter):
    """Whoever has clicked hears that MongoDB has refused it once more, and never that all was taken."""
    system.database["events"].create_index("mail", unique=True)
    page = opened.open(system.stack.url, "dead-letters")
    page.get_by_role("button", name=f"Replay events/{letter}").click()
    said = page.evaluate_handle(
        """() => {
          const said = new Set();
          new MutationObserver(() => said.add(document.querySelector(".empty")?.textContent ?? "")).observe(
            document.body, { childList: true, subtree: true, characterData: true });
          return said;
        }"""
    )
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()

    expect(page.locator(".notice")).to_have_text("MongoDB has refused 1 document again.", timeout=20_000)
    expect(page.locator("tbody tr")).to_contain_text("Refused again")
    assert NONE not in said.evaluate("said => [...said]")


def test_a_dead_letter_is_discarded_by_the_keyboard_alone(system, opened, letter):
    """With the keys of a page that has no mouse: the way to the button, the question, and back to where it was."""
    page = opened.open(system.stack.url)
    expect(page.locator("h1")).to_have_text("All is in MongoDB but 1 dead letter")
    assert ("1", "not by itself") == (figure(page, "Only in Redis now"), figure(page, "Safe in"))
    press_until(page, "Tab", "Dead letters")
    page.keyboard.press("Enter")
    page.wait_for_selector("tbody tr")
    press_until(page, "Tab", f"Discard events/{letter}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert "Cancel" == focused(page)  # what cannot be undone is not one key away
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert f"Discard events/{letter}" == focused(page)
    assert 1 == system.status()["dead_letters"]
    page.keyboard.press("Enter")
    press_until(page, "Tab", "Discard")
    page.keyboard.press("Enter")

    expect(page.get_by_text("1 dead letter discarded.")).to_be_visible()
    assert 0 == system.status()["dead_letters"]
