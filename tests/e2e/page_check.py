"""The chat page in headless Chromium, against a server whose replies are known: page_check.py CHROMIUM FAKE_SERVE
[SCREENSHOT.png]. Speaks Chromium's debugging protocol over a pipe; standard library only."""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time

REPLY = """# Title

Some **bold** text, <img src=x onerror="window.hurt=1"> and [a trap](javascript:window.hurt=1) and [a link](https://example.org/).

| a | b |
|---|---|
| 1 | <script>window.hurt=1</script> |

```js
let less = 1 < 2;
```

- one
- two"""
PATIENCE = 60
# WCAG's contrast ratio of a part's text against the nearest background.
CONTRAST = """(selector => {
  const part = document.querySelector(selector);
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  let under = part;
  while (under && (numbers(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
  const luminance = color => {
    const [r, g, b] = numbers(color).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [getComputedStyle(part).color, getComputedStyle(under).backgroundColor].map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
})(%s)"""


class Browser:
    def __init__(self, program, folder):
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        command_read, self.command = os.pipe()
        self.answer, answer_write = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                 f"--user-data-dir={folder}", "--no-first-run", "--window-size=1200,850", "about:blank"]
        shell = f'exec 3<&{command_read} 4>&{answer_write}; exec "$0" "$@"'
        self.process = subprocess.Popen(["bash", "-c", shell, program, *flags], pass_fds=(command_read, answer_write),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(command_read)
        os.close(answer_write)
        self.waiting, self.count, self.events, self.session = b"", 0, [], None
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in pages if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.waiting:
            piece = os.read(self.answer, 1 << 16)
            if not piece:
                raise AssertionError("the browser ended")
            self.waiting += piece
        text, self.waiting = self.waiting.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.count += 1
        command = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.command, json.dumps(command).encode() + b"\0")
        while (message := self.message()).get("id") != self.count:
            self.events.append(message)
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']}")
        return message["result"]

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition):
        end = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {condition}\n{self.run('document.body.innerText')}")
            time.sleep(0.05)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


def send(browser, text):
    browser.run("document.getElementById('input').focus()")
    browser.call("Input.insertText", text=text)
    browser.run("document.getElementById('compose').requestSubmit()")


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def check(browser, url, picture):
    browser.call("Page.navigate", url=url)
    browser.wait("document.getElementById('model')?.textContent.includes('fake')")
    browser.run("document.getElementById('toggle-live').click()")
    send(browser, "Hello <b>you</b>")
    browser.wait("document.querySelector('.assistant .tools')?.textContent.includes('Regenerate')")
    body = "document.querySelector('.assistant .body')"
    expect(browser.run("document.querySelector('.user .body').textContent") == "Hello <b>you</b>", "the question")
    for selector, text in (("strong", "bold"), ("td", "1"), ("pre code", "let less = 1 < 2;"), ("li", "one"), ("h3", "Title")):
        expect(browser.run(f"{body}.querySelector('{selector}').textContent") == text, f"markdown: {selector}")
    expect(browser.run(f"[...{body}.querySelectorAll('a')].map(a => a.href).join()") == "https://example.org/", "links")
    expect(browser.run(f"{body}.querySelectorAll('img,script').length") == 0, "a reply became HTML")
    expect(browser.run("window.hurt") is None, "a reply ran as a script")
    browser.wait("document.querySelector('#live dd')?.textContent !== '–'")

    # Probabilities on hover.
    browser.run("[...document.querySelectorAll('.assistant .tools button')].find(b => b.textContent === 'Tokens').click()")
    browser.run("document.querySelector('.tokens span').dispatchEvent(new MouseEvent('mouseenter'))")
    expect("%" in browser.run("document.getElementById('tip').textContent"), "probabilities of a token")
    if picture:
        browser.screenshot(picture)

    # Regenerate replaces; edit asks again; both are kept over a reload.
    browser.run("[...document.querySelectorAll('.assistant .tools button')].find(b => b.textContent === 'Regenerate').click()")
    browser.wait("document.querySelector('.assistant .tools')?.textContent.includes('Regenerate')")
    expect(browser.run("document.querySelectorAll('.turn').length") == 2, "regenerate")
    browser.run("document.querySelector('.user .tools button').click()")
    browser.run("document.querySelector('.user textarea').value = 'Other'")
    browser.run("document.querySelector('.user .tools button').click()")
    browser.wait("document.querySelector('.assistant .tools')?.textContent.includes('Regenerate')")
    expect(browser.run("document.querySelector('.user .body').textContent") == "Other", "edit")
    browser.call("Page.reload")
    browser.wait("document.querySelector('.user .body')?.textContent === 'Other'")

    # Stop keeps what came.
    browser.run("document.getElementById('new').click()")
    send(browser, "again")
    browser.wait("document.querySelector('.assistant .body')?.textContent.length > 3")
    browser.run("document.getElementById('stop').click()")
    browser.wait("!document.getElementById('send').hidden")

    check_conversations(browser)
    check_access(browser)

    # A phone: the list is out of the way until it is asked for.
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    expect(browser.run("getComputedStyle(document.getElementById('sidebar')).visibility") == "hidden", "the list on a phone")
    expect(browser.run("document.documentElement.scrollWidth") <= 390, "wider than a phone")
    check_events(browser, url)


def check_conversations(browser):
    """There are two; a click shows the other one, and deleting it leaves one."""
    expect(browser.run("document.querySelectorAll('#list li').length") == 2, "two conversations")
    browser.run("document.querySelectorAll('#list .name')[1].click()")
    expect(browser.run("document.querySelector('.user .body').textContent") == "Other", "the older conversation")
    browser.run("document.querySelector('#list li.here button.quiet').click()")
    expect(browser.run("document.querySelectorAll('#list li').length") == 1, "deleting a conversation")
    browser.run("document.querySelector('#list .name').click()")


def check_access(browser):
    """Every control has a name that a screen reader can say; text stands out in both colour schemes."""
    browser.run("document.getElementById('toggle-settings').click()")
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in
                ("button", "textbox", "searchbox", "spinbutton", "combobox", "checkbox", "link", "meter", "image")]
    nameless = [node["role"]["value"] for node in controls if not node.get("name", {}).get("value", "").strip()]
    expect(len(controls) > 15 and not nameless, f"of {len(controls)} controls these have no name: {nameless}")
    roles = {node["role"]["value"] for node in nodes}
    expect({"main", "log", "navigation", "complementary"} <= roles, f"landmarks: {sorted(roles)}")
    papers = set()
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        papers.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        for part in ("body", ".user .body", "#model", "#send"):
            ratio = browser.run(CONTRAST % json.dumps(part))
            expect(ratio >= 4.5, f"{part} has a contrast of {ratio:.1f} in the {scheme} scheme")
    expect(len(papers) == 2, "the dark scheme is the light one")
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.run("document.getElementById('toggle-settings').click()")


def check_events(browser, url):
    for event in browser.events:
        if event["method"] == "Network.requestWillBeSent":
            address = event["params"]["request"]["url"]
            expect(address.startswith((url, "about:", "data:")), f"the page asked for {address}")
        expect(event["method"] != "Runtime.exceptionThrown", f"an exception: {event}")
        if event["method"] == "Log.entryAdded":
            expect("Content Security Policy" not in event["params"]["entry"]["text"], f"against the policy: {event}")


def main():
    chromium, fake_serve = sys.argv[1:3]
    server = subprocess.Popen([fake_serve, "0", "20000", REPLY], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().split()[1]}/"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            browser = Browser(chromium, folder)
            try:
                check(browser, url, sys.argv[3] if len(sys.argv) > 3 else None)
            finally:
                browser.process.kill()
                browser.process.wait()
    finally:
        server.terminate()
        server.wait()
    print("page_check: passed")


if __name__ == "__main__":
    main()
