"""What the chat page keeps, in headless Chromium: replies that are cut by a reload, by a click elsewhere or by the longest
length, and the conversations of several tabs: page_check_kept.py CHROMIUM FAKE_SERVE. Standard library only."""
import json
import sys

from browser import check_events, expect, fake_served, opened, send

WORDS = [f"word{i}" for i in range(200)]
STEP_US = 25_000  # a reply takes five seconds
BODY = "document.querySelector('.assistant .body')?.textContent ?? ''"
TOOLS = "document.querySelector('.assistant .tools')?.textContent ?? ''"
UNDER_WAY = f"({BODY}).includes('word5') && !document.getElementById('stop').hidden"
IDLE = "document.getElementById('stop').hidden"
TITLES = "[...document.querySelectorAll('#list .name')].map(name => name.textContent)"
STORED = "Object.keys(localStorage).filter(name => name.startsWith('chat:')).map(name => JSON.parse(localStorage[name]))"


def go(browser, url):
    browser.call("Page.navigate", url=url)
    browser.wait("document.getElementById('model')?.textContent.includes('fake')")


def new_chat(browser):
    browser.click("#new")
    browser.wait("document.querySelector('.greeting')")


def pick(browser, title):
    browser.run(f"[...document.querySelectorAll('#list .name')].find(b => b.textContent === {json.dumps(title)}).click()")


def reload(browser):
    browser.run("window.before = true")
    browser.call("Page.reload")
    browser.wait("!window.before && document.querySelector('.user .body')")


def check_reload(browser):
    """Question and partial reply outlive a reload, and a crash loses two seconds at most."""
    send(browser, "reloaded")
    saved = browser.run(f"({STORED})[0].turns[0].content")
    expect(saved == "reloaded", f"the question is not stored when it is sent, but {saved}")
    browser.wait(f"({STORED})[0].turns[1].content.includes('word5')")  # while it streams
    browser.wait(f"({BODY}).includes('word120')")
    reload(browser)
    kept = browser.run(BODY)
    expect("word110" in kept and "word199" not in kept, f"of a reply that came up to word120 a reload kept: {kept[-60:]}")
    expect("unfinished" in browser.run(TOOLS), f"a reply that was cut looks whole: {browser.run(TOOLS)}")


def check_leaving(browser):
    """New chat, another conversation and deleting stop the reply, keep what came and go there."""
    new_chat(browser)
    send(browser, "left")
    browser.wait(UNDER_WAY)
    browser.click("#new")
    expect(browser.run(f"document.querySelector('.greeting') !== null && {IDLE}"), "New chat does nothing during a reply")
    send(browser, "left too")
    browser.wait(UNDER_WAY)
    pick(browser, "left")
    expect("word5" in browser.run(BODY) and "stopped" in browser.run(TOOLS), "the reply that was stopped for a new chat")
    expect(browser.run("document.querySelector('.user .body').textContent") == "left", "another conversation is not shown")
    pick(browser, "left too")
    expect("word5" in browser.run(BODY) and "stopped" in browser.run(TOOLS), "the reply that was stopped for another one")
    new_chat(browser)
    send(browser, "unwanted")
    browser.wait(UNDER_WAY)
    browser.click("#list .here .quiet")
    expect(browser.run(f"{IDLE} && !{TITLES}.includes('unwanted')"), "deleting the conversation under way")
    expect(browser.run(f"!({STORED}).some(one => one.title === 'unwanted')"), "a deleted conversation is still stored")


def limit(browser, tokens):
    browser.run(f"(f => {{ f.value = '{tokens}'; f.dispatchEvent(new Event('input')); }})(document.getElementById('max_tokens'))")


def check_longest(browser):
    """A reply that is cut at its longest says so to the end, and after a reload."""
    limit(browser, "3")
    new_chat(browser)
    send(browser, "short")
    browser.wait(f"({TOOLS}).includes('Regenerate')")
    expect("3 tokens" in browser.run(TOOLS) and "cut at its longest" in browser.run(TOOLS), f"cut: {browser.run(TOOLS)}")
    reload(browser)
    expect("cut at its longest" in browser.run(TOOLS), "a reload forgets that the reply was cut")


def check_tabs(browser, url):
    """Two tabs add conversations and show each other's at once; a third shows all; both going on with one lose nothing."""
    first, second = browser.session, browser.open_tab()
    go(browser, url)
    before = browser.run(f"{TITLES}.length")
    for tab, title in ((first, "of the first"), (second, "of the second")):
        browser.session = tab
        browser.call("Page.bringToFront")
        new_chat(browser)
        send(browser, title)
        browser.wait(IDLE)
    third = browser.open_tab()
    go(browser, url)
    for tab in (first, second, third):
        browser.session = tab
        browser.wait(f"{TITLES}.length === {before + 2}")
        titles = browser.run(TITLES)
        expect(titles[:2] == ["of the second", "of the first"], f"a tab shows {titles}")
    browser.call("Page.bringToFront")
    go_on_at_once(browser, third, first)
    browser.session = first
    browser.call("Page.bringToFront")
    browser.run("[...document.querySelectorAll('#list li')].find(one => one.textContent.startsWith('of the second'))"
                ".querySelector('.quiet').click()")
    for tab in (second, third):
        browser.session = tab
        browser.wait(f"!{TITLES}.includes('of the second')")
    browser.session = first


def go_on_at_once(browser, first, second):
    """A second tab goes on with a conversation while its reply still comes in the first: both replies are kept to their ends."""
    browser.session = first
    limit(browser, "")
    pick(browser, "of the first")
    send(browser, "asked early")
    browser.wait(f"!{IDLE}")
    browser.session = second
    browser.call("Page.bringToFront")
    limit(browser, "")
    pick(browser, "of the first")
    browser.wait("document.querySelectorAll('.turn').length === 4")  # it follows
    send(browser, "asked late")
    for tab in (first, second):
        browser.session = tab
        browser.wait(IDLE)
    for question in ("asked early", "asked late"):
        replies = browser.run(f"({STORED}).map(one => one.turns[one.turns.findIndex(turn => turn.content === "
                              f"{json.dumps(question)}) + 1].content)")
        expect(any(reply.endswith(WORDS[-1]) for reply in replies), f"the reply to what was {question} is lost")


def check_earlier(browser, url):
    """Conversations that an earlier page stored, all in one list, are still there."""
    browser.run("""localStorage.setItem("conversations", JSON.stringify([
      {title: "from before", turns: [{role: "user", content: "old"}, {role: "assistant", content: "reply"}]}]))""")
    go(browser, url)
    reload(browser)
    browser.wait(f"{TITLES}.filter(title => title === 'from before').length === 1")


def main():
    chromium, fake_serve = sys.argv[1:3]
    with fake_served(fake_serve, STEP_US, " ".join(WORDS)) as (_, url), opened(chromium) as browser:
        go(browser, url)
        check_reload(browser)
        check_leaving(browser)
        check_longest(browser)
        check_tabs(browser, url)
        check_earlier(browser, url)
        check_events(browser, url)
    print("page_check_kept: passed")


if __name__ == "__main__":
    main()
