"""The chat page in headless Chromium, against a server whose replies are known: page_check.py CHROMIUM FAKE_SERVE
[FOLDER for a screenshot]. Standard library only."""
import json
import re
import sys
import urllib.request
from pathlib import Path

from browser import CONTRAST, check_events, expect, fake_served, opened, send

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
DROP_PICTURE = """(() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(["x"], "a.png", {type: "image/png"}));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
})()"""


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

    # A picture that is dropped on a model without eyes neither goes lost in silence nor takes the page away.
    browser.run(DROP_PICTURE)
    browser.wait("document.getElementById('note').textContent === 'This model takes no pictures.'")

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


def check_panel(browser, url):
    """While a request runs, the panel says what /metrics says."""
    browser.call("Page.navigate", url=url)
    browser.wait("document.getElementById('model')?.textContent.includes('fake')")
    browser.run("document.getElementById('toggle-live').click()")
    send(browser, "again")
    browser.wait("document.querySelector('#live dd')?.textContent === '1'")
    metrics = urllib.request.urlopen(url + "metrics").read().decode()

    def metric(name):
        return float(re.search(rf"^(?:\w+:|llamita_){name}{{[^}}]*}} (\S+)$", metrics, re.M)[1])

    shown = json.loads(browser.run("JSON.stringify(Object.fromEntries([...document.querySelectorAll('#live dt')]"
                                   ".map(name => [name.textContent, name.nextSibling.textContent])))"))
    for label, name in (("Running", "num_requests_running"), ("Waiting", "num_requests_waiting"),
                        ("Prefill tokens, last step", "step_prefill_tokens"), ("Decode tokens, last step", "step_decode_tokens"),
                        ("Shared by sequences", "kv_blocks_shared")):
        expect(metric(name) > 0 and float(shown[label]) == metric(name), f"panel: {label}: {shown[label]}, not {metric(name)}")
    blocks = float(re.search(r'num_gpu_blocks="(\d+)"', metrics)[1])
    expect(shown["KV blocks used"] == f"{metric('kv_blocks_used'):.0f} of {blocks:.0f}", f"panel: {shown['KV blocks used']}")
    used = metric("kv_cache_usage_perc")
    meter = browser.run("document.querySelector('#live meter').value")
    expect(0 < used < 1 and abs(used - meter) < 1e-6, f"panel: the meter shows {meter}, not {used}")
    hits = 100 * metric("prefix_cache_hits_total") / metric("prefix_cache_queries_total")
    expect(shown["Prefix hits"] == f"{hits:.0f} %", f"panel: {shown['Prefix hits']}, not {hits}")


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


def main():
    chromium, fake_serve = sys.argv[1:3]
    with fake_served(fake_serve, 20000, REPLY) as (_, url), opened(chromium) as browser:
        check(browser, url, Path(sys.argv[3]) / "page.png" if len(sys.argv) > 3 else None)
    with fake_served(fake_serve, 400_000, REPLY) as (_, url), opened(chromium) as browser:  # ten seconds a reply
        check_panel(browser, url)
    print("page_check: passed")


if __name__ == "__main__":
    main()
