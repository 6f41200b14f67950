"""What the chat page's settings do, in headless Chromium: the system prompt and how replies are sampled arrive in the requests
that the server gets, have their effect, and are kept within their bounds and over a reload; the speed that a reply shows is
the server's; and a server that is slow and says so in comments is waited for: page_check_settings.py CHROMIUM FAKE_SERVE.
Standard library only."""
import json
import re
import sys
import tempfile
from pathlib import Path

from browser import check_events, expect, fake_served, opened, send

WORDS = [f"word{i}" for i in range(30)]
STEP_US = 50_000  # 20 tokens a second
BODY = "document.querySelector('.assistant .body')?.textContent.trim() ?? ''"
TOOLS = "document.querySelector('.assistant .tools')?.textContent ?? ''"
SYSTEM = "You are a pirate.\nSay <b>arr</b>."
STANDARD = {"temperature": 0.7, "top_p": 0.95, "top_k": 0, "min_p": 0, "repetition_penalty": 1, "max_tokens": -1, "seed": None}


def go(browser, url):
    browser.call("Page.navigate", url=url)
    browser.wait("document.getElementById('model')?.textContent.includes('fake')")


def enter(browser, field, text):
    """Types over what a field of the settings holds, and leaves it."""
    browser.run(f"document.getElementById({json.dumps(field)}).focus(); document.getElementById({json.dumps(field)}).select()")
    if text:
        browser.call("Input.insertText", text=text)
    else:
        browser.press("Backspace")
        browser.run("document.execCommand('delete')")
    browser.run(f"document.getElementById({json.dumps(field)}).blur()")


def value(browser, field):
    return browser.run(f"document.getElementById({json.dumps(field)}).value")


def ask(browser, log, text):
    """A reply in a conversation of its own; returns what the server was asked for."""
    seen = len(log.read_text().splitlines()) if log.exists() else 0
    browser.click("#new")
    browser.wait("document.querySelector('.greeting')")
    send(browser, text)
    browser.wait(f"({TOOLS}).includes('Regenerate')")
    lines = log.read_text().splitlines()
    expect(len(lines) == seen + 1, f"{len(lines) - seen} requests for one question")
    return json.loads(lines[-1])


def same(asked, **wanted):
    for name, number in {**STANDARD, **wanted}.items():
        got = asked[name]
        good = got == number if number is None or isinstance(number, int) else abs(got - number) < 1e-6
        expect(good, f"{name} is {got} in the request, not {number}")


def check_what_is_sent(browser, log):
    asked = ask(browser, log, "plain")
    expect(asked["messages"] == [["user", "plain"]], f"a system prompt that nobody wrote: {asked['messages']}")
    same(asked)
    browser.click("#toggle-settings")
    enter(browser, "system", SYSTEM)
    for field, text in (("temperature", "0"), ("top_p", "0.5"), ("top_k", "7"), ("min_p", "0.25"), ("repetition_penalty", "1.5"),
                        ("max_tokens", "3"), ("seed", "42")):
        enter(browser, field, text)
    asked = ask(browser, log, "ahoy")
    expect(asked["messages"] == [["system", SYSTEM], ["user", "ahoy"]], f"the messages: {asked['messages']}")
    same(asked, temperature=0.0, top_p=0.5, top_k=7, min_p=0.25, repetition_penalty=1.5, max_tokens=3, seed=42)
    expect(browser.run(BODY) == "word0 word1 word2", f"three tokens were asked for: {browser.run(BODY)}")
    said = browser.run(TOOLS)
    expect("3 tokens" in said and "cut at its longest" in said, f"the reply's end: {said}")
    expect(browser.run("document.querySelector('.user .body').textContent") == "ahoy", "the question")


def check_they_are_kept(browser, log, url):
    go(browser, url)
    expect(value(browser, "system") == SYSTEM and value(browser, "temperature") == "0", "a reload forgets the settings")
    asked = ask(browser, log, "again")
    expect(asked["messages"][0] == ["system", SYSTEM], "a reload forgets the system prompt")
    same(asked, temperature=0.0, top_p=0.5, top_k=7, min_p=0.25, repetition_penalty=1.5, max_tokens=3, seed=42)


def check_bounds(browser, log):
    """What a field does not allow is not sent, and what is emptied is left to the server."""
    browser.click("#toggle-settings")
    for field, text, kept in (("temperature", "5", "2"), ("top_p", "3", "1"), ("max_tokens", "0", "1"), ("top_k", "2.6", "3")):
        enter(browser, field, text)
        expect(value(browser, field) == kept, f"{field}: {text} became {value(browser, field)}, not {kept}")
    same(ask(browser, log, "bounded"), temperature=2.0, top_p=1.0, top_k=3, min_p=0.25, repetition_penalty=1.5, max_tokens=1,
         seed=42)
    for field in ("system", "max_tokens", "seed"):
        enter(browser, field, "")
    asked = ask(browser, log, "emptied")
    expect(asked["messages"] == [["user", "emptied"]], f"an empty system prompt is sent: {asked['messages']}")
    same(asked, temperature=2.0, top_p=1.0, top_k=3, min_p=0.25, repetition_penalty=1.5)
    expect(asked["logprobs"] == 5, "token probabilities are on")
    browser.click("#logprobs")
    expect(ask(browser, log, "no probabilities")["logprobs"] == -1, "token probabilities are off")
    browser.click("#toggle-settings")


def check_speed(browser):
    """The last reply came whole, at the server's speed."""
    expect(browser.run(BODY) == " ".join(WORDS), f"the reply: {browser.run(BODY)}")
    said = browser.run(TOOLS)
    speed = re.search(r"([\d.]+) tok/s", said)
    expect(speed, f"no speed is shown: {said}")
    most = 1e6 / STEP_US
    expect(0.5 * most < float(speed[1]) < 1.1 * most, f"{speed[1]} tok/s are shown, the server gives {most}")
    expect(f"{len(WORDS)} tokens" in said and "first after" in said, f"tokens and the time to the first: {said}")


def check_pings(browser):
    """Comments between the events of a stream are no events."""
    browser.click("#new")
    browser.wait("document.querySelector('.greeting')")
    send(browser, "slowly")
    browser.wait(f"({TOOLS}).includes('Regenerate')")
    expect(browser.run(BODY) == "one two three", f"a reply with pings in it: {browser.run(BODY)}")
    expect(browser.run("document.querySelector('.assistant .error')") is None, "a ping is an error")


def main():
    chromium, fake_serve = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder, opened(chromium) as browser:
        log = Path(folder) / "asked"
        with fake_served(fake_serve, STEP_US, " ".join(WORDS), log=str(log)) as (_, url):
            go(browser, url)
            check_what_is_sent(browser, log)
            check_they_are_kept(browser, log, url)
            check_bounds(browser, log)
            check_speed(browser)
            check_events(browser, url)
        browser.events.clear()
        with fake_served(fake_serve, 400_000, "one two three") as (_, url):  # a ping comes after 100 ms
            go(browser, url)
            check_pings(browser)
            check_events(browser, url)
    print("page_check_settings: passed")


if __name__ == "__main__":
    main()
