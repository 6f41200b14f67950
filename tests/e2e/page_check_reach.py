"""The chat page within reach, in headless Chromium: on a phone, without a mouse, with a key, and with a server that goes and
comes back: page_check_reach.py CHROMIUM FAKE_SERVE [FOLDER for screenshots]. Standard library only."""
import contextlib
import json
import sys
from pathlib import Path

from browser import CONTRAST, check_events, expect, fake_served, opened, send

REPLY = "Llamas hum when they are content, and carry a quarter of their weight. " * 4
PHONE = (390, 844)
DRAWER = "(getComputedStyle(document.getElementById('sidebar')).visibility === 'visible')"
EXPANDED = "document.getElementById('toggle-list').getAttribute('aria-expanded')"
DONE = "document.querySelector('.assistant .tools')?.textContent.includes('Regenerate')"
MODEL = "(document.getElementById('model')?.textContent ?? '')"
ERROR = "document.querySelector('.assistant .error')?.textContent ?? ''"
SMALL = """(selector, least) => [...document.querySelectorAll(selector)].map(one => [one, one.getBoundingClientRect()])
  .filter(([one, r]) => r.width && Math.min(r.width, r.height) < least)
  .map(([one, r]) => `${one.id || one.textContent} ${r.width} x ${r.height}`)"""
CLICKED = "button, input:not([hidden], [type=checkbox]), select, textarea, label.check"


def go(browser, url):
    browser.call("Page.navigate", url=url)
    browser.wait(f"{MODEL}.includes('fake')")


class Looks:
    """Screenshots in both colour schemes; text stands out in both."""

    def __init__(self, browser, folder):
        self.browser, self.folder = browser, folder

    def __call__(self, name, *parts):
        for scheme in ("light", "dark"):
            self.browser.scheme(scheme)
            for part in parts:
                ratio = self.browser.run(CONTRAST % json.dumps(part))
                expect(ratio >= 4.5, f"{name}: {part} has a contrast of {ratio:.1f} in the {scheme} scheme")
            if self.folder:
                self.browser.screenshot(self.folder / f"{name}-{scheme}.png")
        self.browser.scheme(None)


def check_greeting(browser, looks):
    """An empty conversation says who answers and offers something to begin with."""
    expect("fake" in browser.run("document.querySelector('.greeting').textContent"), "the greeting does not name the model")
    expect(browser.run("document.querySelectorAll('.examples button').length") in (2, 3), "examples")
    looks("greeting", ".greeting h2", ".greeting p", ".examples button")
    browser.size(*PHONE, phone=True)
    looks("phone-greeting")
    browser.size(1200, 850)
    asked = browser.run("document.querySelector('.examples button').textContent")
    browser.click(".examples button")
    browser.wait(DONE)
    expect(browser.run("document.querySelector('.user .body').textContent") == asked, "an example is not what is asked")


def check_drawer(browser, looks):
    """On a phone the list opens, is out of the way again by each way out, and says so to a screen reader."""
    browser.size(*PHONE, phone=True)

    def closed(how):
        expect(not browser.run(DRAWER) and browser.run(EXPANDED) == "false", f"the list is open after {how}")
        expect(not browser.run("document.querySelector('main').inert"), f"the page is dead after {how}")

    ways = {
        "a tap outside": lambda: browser.click_at(PHONE[0] - 10, 400),
        "Esc": lambda: browser.press("Escape"),
        "its own button": lambda: browser.click("#close-list"),
        "picking": lambda: browser.click("#list .name"),
        "New chat": lambda: browser.click("#new"),
    }
    closed("the start")
    for how, leave in ways.items():
        browser.click("#toggle-list")
        expect(browser.run(DRAWER) and browser.run(EXPANDED) == "true", f"the list does not open before {how}")
        expect(browser.run("document.getElementById('sidebar').contains(document.activeElement)"), "the focus stays outside")
        if how == "Esc":
            looks("phone-list", "#list .name")
        leave()
        closed(how)
    browser.click("#toggle-list")
    browser.click("#list .name")
    browser.click("#toggle-live")
    gap = browser.run("document.getElementById('live').getBoundingClientRect().top - "
                      "document.querySelector('header').getBoundingClientRect().bottom")
    expect(gap >= 0, f"the panel lies {-gap} pixels over the header")
    browser.wait("document.querySelector('#live dd')?.textContent !== '–'")
    looks("phone-live", "#live dt")
    browser.click("#toggle-live")
    browser.size(1200, 850)


def check_targets(browser, looks):
    """Everything that is clicked has 24 pixels each way at least, WCAG's measure; what a thumb meets most, 38."""
    for name, size, phone in (("phone", PHONE, True), ("wide", (1200, 850), False)):
        browser.size(*size, phone=phone)
        looks(f"{name}-chat", ".user .body", ".tools button", ".tools span")
        browser.click("#toggle-settings")
        for selector, least in ((CLICKED, 24), ("button", 38 if phone else 24)):
            small = browser.run(f"({SMALL})({json.dumps(selector)}, {least})")
            expect(not small, f"smaller than {least} pixels: {small}")
        expect(browser.run("document.documentElement.scrollWidth") <= size[0], "wider than the screen")
        looks(f"{name}-settings", "#settings label")
        browser.press("Escape")
        expect(browser.run("document.getElementById('settings').hidden && "
                           "document.getElementById('toggle-settings').getAttribute('aria-expanded') === 'false'"), "Esc")


def check_bounds(browser, url):
    """A number beyond what the server takes becomes the nearest that it takes."""
    browser.click("#toggle-settings")
    for field, typed, kept in (("temperature", "7", "2"), ("temperature", "-1", "0"), ("top_p", "1.5", "1"),
                               ("top_k", "2.4", "2"), ("temperature", "0.6", "0.6")):
        browser.run(f"document.getElementById('{field}').select()")
        browser.run(f"document.getElementById('{field}').focus()")
        browser.call("Input.insertText", text=typed)
        browser.press("Tab")
        browser.run(f"document.getElementById('{field}').blur()")
        value = browser.run(f"document.getElementById('{field}').value")
        expect(value == kept, f"{typed} as {field} became {value}, not {kept}")
        stored = browser.run("localStorage.settings")
        expect(json.loads(stored)[field] == kept, f"{field} is stored as {stored}")
    browser.press("Escape")
    expect(browser.run("document.querySelector('link[rel=icon]').href.startsWith('data:')"), "the icon is not in the page")


def check_server_goes(browser, fake_serve, url, server, looks):
    """The header says that the server is gone, in words for people, and that it is back."""
    browser.click("#new")
    send(browser, "cut")
    browser.wait("document.querySelector('.assistant .body')?.textContent.length > 20")
    server.kill()
    server.wait()
    browser.wait(DONE)
    expect("Llamas" in browser.run("document.querySelector('.assistant .body').textContent"), "what came is lost")
    expect("broke off" in browser.run(ERROR), f"a reply that breaks off says: {browser.run(ERROR)}")
    browser.wait(f"{MODEL}.includes('cannot be reached')")
    browser.click("#new")
    send(browser, "nobody there")
    browser.wait(DONE)
    expect("cannot be reached" in browser.run(ERROR), f"a server that is gone: {browser.run(ERROR)}")
    looks("gone", "#model", ".assistant .error")
    with fake_served(fake_serve, 1000, REPLY, port=url.rstrip("/").rpartition(":")[2]):
        browser.wait(f"{MODEL}.includes('fake')")
        browser.run("[...document.querySelectorAll('.assistant .tools button')]"
                    ".find(b => b.textContent === 'Regenerate').click()")
        browser.wait(f"{DONE} && document.querySelector('.assistant .body').textContent.includes('Llamas')")


def check_key(browser, fake_serve, looks):
    """A key that is needed is asked for where it is entered, wrong ones too, and then all works."""
    with fake_served(fake_serve, 1000, REPLY, key="secret") as (_, url):
        browser.call("Page.navigate", url=url)
        browser.wait(f"{MODEL}.includes('key') && document.activeElement.id === 'key'")
        send(browser, "without")
        browser.wait(DONE)
        said = browser.run(ERROR)
        expect("enter it under settings" in said and "header" not in said, f"without a key the page says: {said}")
        expect(not browser.run("document.getElementById('settings').hidden"), "the settings stay closed")
        looks("key", "#model", ".assistant .error")
        for key, outcome in (("wrong", f"{MODEL}.includes('key') && document.activeElement.id === 'key'"),
                             ("secret", f"{MODEL}.includes('fake') && document.getElementById('settings').hidden")):
            browser.run("document.getElementById('key').select()")
            browser.call("Input.insertText", text=key)
            browser.run("document.getElementById('key').blur()")
            browser.wait(outcome)
        browser.run("[...document.querySelectorAll('.assistant .tools button')]"
                    ".find(b => b.textContent === 'Regenerate').click()")
        browser.wait(f"{DONE} && !({ERROR})")
        check_events(browser, "http://127.0.0.1:")


def main():
    chromium, fake_serve = sys.argv[1:3]
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with contextlib.ExitStack() as stack:
        server, url = stack.enter_context(fake_served(fake_serve, 30_000, REPLY))
        browser = stack.enter_context(opened(chromium))
        looks = Looks(browser, folder)
        browser.size(1200, 850)
        go(browser, url)
        check_greeting(browser, looks)
        check_drawer(browser, looks)
        check_targets(browser, looks)
        check_bounds(browser, url)
        check_server_goes(browser, fake_serve, url, server, looks)
        check_key(browser, fake_serve, looks)
    print("page_check_reach: passed")


if __name__ == "__main__":
    main()
