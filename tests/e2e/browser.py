"""Headless Chromium for the checks of the chat page: speaks its debugging protocol over a pipe; standard library only."""
import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time

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
        self.attach(next(target["targetId"] for target in pages if target["type"] == "page"))

    def attach(self, target):
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
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

    def open_tab(self):
        """Commands go to a new tab from now on; returns its session, to be put into `session` to come back to it."""
        self.session = None
        self.attach(self.call("Target.createTarget", url="about:blank")["targetId"])
        return self.session

    def click(self, selector):
        """As a finger or a mouse does: whatever lies on top of the middle gets it."""
        x, y = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector({json.dumps(selector)})"
                        ".getBoundingClientRect())")
        self.click_at(x, y)

    def click_at(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.wait(f"innerWidth === {width}")
        # The page hears of a new size with its next frame; a click before that would be undone by it.
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def scheme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}] if name else [])

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


def check_events(browser, url):
    for event in browser.events:
        if event["method"] == "Network.requestWillBeSent":
            address = event["params"]["request"]["url"]
            expect(address.startswith((url, "about:", "data:")), f"the page asked for {address}")
        expect(event["method"] != "Runtime.exceptionThrown", f"an exception: {event}")
        if event["method"] == "Log.entryAdded":
            expect("Content Security Policy" not in event["params"]["entry"]["text"], f"against the policy: {event}")


@contextlib.contextmanager
def fake_served(program, step_us, reply, key=None, port=0, log=None):
    """The page in front of a server whose replies are known; yields the process and the page's address. `log`: the file
    that gets a line of JSON for each request."""
    environment = {**os.environ, **({"FAKE_SERVE_LOG": log} if log else {})}
    server = subprocess.Popen([program, str(port), str(step_us), reply, *([key] if key else [])],
                              stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield server, f"http://127.0.0.1:{server.stdout.readline().split()[1]}/"
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def opened(chromium):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(chromium, folder)
        try:
            yield browser
        finally:
            browser.process.kill()
            browser.process.wait()
