"""Pictures on the chat page: picked, pasted and dropped in headless Chromium, shown to a real model, which must say what is
on them: pictures_check.py CHROMIUM LLAMITA [FOLDER for screenshots]. Standard library only."""
import base64
import json
import sys
from pathlib import Path

import support
from browser import CONTRAST, check_events, expect, opened, send
from serve_test import served

MODEL = Path(__file__).resolve().parent.parent / "golden" / "tiny-llava"
PICTURES = MODEL / "pictures"
COUNTING = "How many red circles are there?"
THREE, ONE = "01.png", "03.png"  # what is on them
MOST, MOST_BYTES = 4, 200_000

# give(how, files) with files as {name, type, base64}, {name, type, zeros: N}, {name, type, noise: SIDE} or
# {name, type, drawn: URL, width, height}.
GIVE = """async (how, files) => {
  const made = await Promise.all(files.map(async file => {
    let content = new Uint8Array(file.zeros ?? 0);
    if (file.base64) content = Uint8Array.from(atob(file.base64), letter => letter.charCodeAt(0));
    if (file.drawn) {
      const image = new Image();
      image.src = file.drawn;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [file.width, file.height];
      canvas.getContext("2d").drawImage(image, 0, 0, file.width, file.height);
      content = await new Promise(resolve => canvas.toBlob(resolve, file.type, 0.8));
    }
    if (file.noise) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = file.noise;
      const pixels = new ImageData(file.noise, file.noise);
      let random = 1;
      pixels.data.forEach((_, i, data) => {
        random = random * 48271 % 2147483647;
        data[i] = i % 4 === 3 ? 255 : random >> 8 & 255;
      });
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      content = await new Promise(resolve => canvas.toBlob(resolve, file.type));
    }
    return new File([content], file.name, {type: file.type});
  }));
  const data = new DataTransfer();
  for (const file of made) data.items.add(file);
  const options = {bubbles: true, cancelable: true};
  const input = document.getElementById("input");
  if (how === "paste") {
    input.focus();
    input.dispatchEvent(new ClipboardEvent("paste", {...options, clipboardData: data}));
    return;
  }
  const over = new DragEvent("dragover", {...options, dataTransfer: data});
  document.getElementById("log").dispatchEvent(over);
  if (!over.defaultPrevented) throw new Error("a drop would leave the page");
  if (!document.body.classList.contains("dropping")) throw new Error("a drag is not shown");
  document.getElementById("log").dispatchEvent(new DragEvent("drop", {...options, dataTransfer: data}));
  if (document.body.classList.contains("dropping")) throw new Error("the drag is still shown");
}"""
# Leaves a few thousand characters for conversations.
FILL = """for (const name of Object.keys(localStorage)) if (name.startsWith("chat:")) localStorage.removeItem(name);
for (let size = 5300000; size > 0; size -= 2000) {
  try {
    localStorage.setItem("junk", "x".repeat(size));
    break;
  } catch {}
}"""
NOTE = "document.getElementById('note')"
WAITING = "document.querySelectorAll('#pictures img').length"
ANSWER = "[...document.querySelectorAll('.assistant .body')].pop()?.textContent.trim()"
ANSWERED = "[...document.querySelectorAll('.assistant .tools')].pop()?.textContent.includes('Regenerate')"
SHOWN = "[...document.querySelectorAll('.user .shown img')].filter(image => image.complete && image.naturalWidth > 0).length"

DISTORTED = """[...document.querySelectorAll('.shown img')].filter(image => {
  const [own, shown] = [image.naturalWidth / image.naturalHeight, image.clientWidth / image.clientHeight];
  return Math.abs(own / shown - 1) > 0.03;
}).length"""


def png(name):
    return {"name": name, "type": "image/png", "base64": base64.b64encode((PICTURES / name).read_bytes()).decode()}


def give(browser, how, *files):
    browser.run(f"({GIVE})({json.dumps(how)}, {json.dumps(files)})")


def pick(browser, *paths):
    field = browser.call("Runtime.evaluate", expression="document.getElementById('file')")["result"]["objectId"]
    browser.call("DOM.setFileInputFiles", files=[str(path) for path in paths], objectId=field)


def waits(browser, count):
    browser.wait(f"{WAITING} === {count} && document.getElementById('pictures').hidden === {json.dumps(count == 0)}")


def notes(browser, *parts):
    browser.wait(f"{NOTE}.textContent.includes({json.dumps(parts[0])})")
    for part in parts:
        expect(part in browser.run(f"{NOTE}.textContent"), f"the note says {browser.run(NOTE + '.textContent')}, not {part}")


def answer(browser, expected, pictures):
    browser.wait(ANSWERED)
    said = browser.run(ANSWER)
    expect(said == expected, f"the model sees {said}, not {expected}")
    expect(browser.run(SHOWN) == pictures, f"the conversation shows {browser.run(SHOWN)} pictures, not {pictures}")


def ask(browser, expected, pictures=1, question=COUNTING):
    send(browser, question)
    browser.wait(f"{WAITING} === 0 && document.querySelector('.assistant')")
    answer(browser, expected, pictures)


def new_chat(browser):
    browser.run("document.getElementById('new').click()")
    browser.wait("!document.querySelector('.turn')")


def check_ways(browser):
    """Three ways in, the same right answers; a picture can be taken back before it is sent."""
    pick(browser, PICTURES / THREE)
    waits(browser, 1)
    ask(browser, "three")
    new_chat(browser)
    give(browser, "paste", png(ONE))
    waits(browser, 1)
    ask(browser, "one")
    new_chat(browser)
    give(browser, "drop", png(THREE), png(ONE))
    waits(browser, 2)
    browser.run("document.querySelector('#pictures button').click()")  # the three go
    waits(browser, 1)
    ask(browser, "one")
    # A question that is sent before its picture is read waits for it.
    new_chat(browser)
    give(browser, "drop", png(THREE))
    ask(browser, "three")


def check_kept(browser):
    """Conversations keep their pictures over a reload, and later questions and regenerated replies see them."""
    browser.call("Page.reload")
    browser.wait(f"{SHOWN} === 1 && !document.getElementById('pick').hidden")
    press(browser, ".assistant", "Regenerate")
    answer(browser, "three", 1)
    browser.run("document.querySelectorAll('#list .name')[2].click()")
    browser.wait(f"{SHOWN} === 1")
    press(browser, ".user", "Edit")
    press(browser, ".user", "Send")
    answer(browser, "one", 1)


def press(browser, turn, label):
    browser.run(f"[...document.querySelectorAll('{turn} .tools button')].find(b => b.textContent === '{label}').click()")


def check_kinds(browser):
    """Other kinds and sizes are turned into what the server takes, and the model still counts right."""
    new_chat(browser)
    source = "data:image/png;base64," + png(THREE)["base64"]
    width, height = browser.run(f"(async () => {{ const i = new Image(); i.src = {json.dumps(source)}; await i.decode(); "
                                "return [i.width, i.height]; })()")
    large = {"name": "large.jpg", "type": "image/jpeg", "drawn": source, "width": 1600, "height": 1600 * height // width}
    give(browser, "drop", large)
    waits(browser, 1)
    sides = browser.run("[...document.querySelectorAll('#pictures img')].map(i => Math.max(i.naturalWidth, i.naturalHeight))")
    expect(sides == [1024], f"a side of 1600 pixels became {sides}")
    ask(browser, "three")
    new_chat(browser)
    give(browser, "paste", {"name": "dot.gif", "type": "image/gif",
                            "base64": "R0lGODlhAQABAIAAAP8AAP8AACwAAAAAAQABAAACAkQBADs="})
    waits(browser, 1)
    expect(browser.run("document.querySelector('#pictures img').src").startswith("data:image/jpeg;base64,"), "a GIF")
    give(browser, "drop", {"name": "large.png", "type": "image/png", "noise": 300})  # 270 KB before it is made smaller
    waits(browser, 2)
    browser.run("document.getElementById('compose').requestSubmit()")  # a picture says enough
    browser.wait(ANSWERED)
    expect(browser.run("document.querySelector('.assistant .error')") is None, "a picture without words")


# The next request's picture comes to the server as bytes that are none; `sent` is the last body as the page wrote it.
SPOIL = """(real => { window.spoil = true; window.fetch = (url, options) => {
  if (options?.body) {
    window.sent = JSON.parse(options.body);
    if (window.spoil) options = {...options, body: options.body.replace(/base64,[^"]*/, "base64,AAAA")};
    window.spoil = false;
  }
  return real(url, options);
}; })(window.fetch)"""


def check_refused_by_the_server(browser):
    """A picture that the server refuses stays on the page, says so, and spoils no later question."""
    new_chat(browser)
    browser.run(SPOIL)
    give(browser, "drop", png(ONE))
    waits(browser, 1)
    send(browser, COUNTING)
    browser.wait(f"document.querySelector('.assistant .error') && {ANSWERED}")
    expect("image 1" in browser.run("document.querySelector('.assistant .error').textContent"), "what is wrong is not said")
    expect("refused" in browser.run("document.querySelector('.user .body').textContent"), "the question looks as if it counted")
    give(browser, "drop", png(THREE))
    waits(browser, 1)
    send(browser, COUNTING)
    browser.wait(f"document.querySelectorAll('.assistant').length === 2 && {ANSWERED}")
    expect(browser.run("window.sent.messages.length") == 1, "the refused question is sent again")
    expect(browser.run(ANSWER) == "three", f"behind a refused picture the model sees {browser.run(ANSWER)}")


def check_refusals(browser):
    """What cannot be taken is named, with what to do, and takes nothing else with it."""
    new_chat(browser)
    give(browser, "drop", {"name": "notes.txt", "type": "text/plain", "zeros": 10}, png(THREE))
    notes(browser, "notes.txt is no picture", "PNG, JPEG and WebP")
    waits(browser, 1)
    give(browser, "paste", {"name": "bad.png", "type": "image/png", "zeros": 10})
    notes(browser, "bad.png is broken")
    give(browser, "drop", {"name": "long.png", "type": "image/png", "noise": 900})
    notes(browser, "long.png has ", "at most 196 KiB")
    pick(browser, *[PICTURES / THREE] * MOST)
    notes(browser, "01.png was left out", f"at most {MOST} pictures")
    waits(browser, MOST)
    expect(browser.run(f"!{NOTE}.hidden && {NOTE}.role") == "alert", "the note is not said aloud")
    browser.run("document.querySelector('#pictures button').click()")
    expect(browser.run(f"{NOTE}.hidden"), "the note stays behind what it was about")


def check_looks(browser, folder):
    """Four pictures and a note in both colour schemes and on a phone; leaves screenshots."""
    give(browser, "drop", png(ONE), png("02.png"))
    notes(browser, "02.png was left out")
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        ratio = browser.run(CONTRAST % json.dumps("#note"))
        expect(ratio >= 4.5, f"the note has a contrast of {ratio:.1f} in the {scheme} scheme")
        browser.call("Emulation.setDeviceMetricsOverride", width=1200, height=850, deviceScaleFactor=1, mobile=False)
        shoot(browser, folder, f"pictures-{scheme}-waiting.png")
        browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        expect(browser.run("document.documentElement.scrollWidth") <= 390, "wider than a phone")
        shoot(browser, folder, f"pictures-{scheme}-phone-waiting.png")
    send(browser, COUNTING)
    browser.wait(ANSWERED)
    expect(browser.run(SHOWN) == MOST, "four pictures in one message")
    expect(browser.run(DISTORTED) == 0, "a picture is stretched")
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        expect(browser.run("document.documentElement.scrollWidth") <= 390, "wider than a phone")
        shoot(browser, folder, f"pictures-{scheme}-phone.png")
        browser.call("Emulation.setDeviceMetricsOverride", width=1200, height=850, deviceScaleFactor=1, mobile=False)
        shoot(browser, folder, f"pictures-{scheme}.png")
    browser.call("Emulation.setEmulatedMedia", features=[])
    # The conversation holds as many as it may.
    give(browser, "drop", png(ONE))
    notes(browser, "03.png was left out")


def shoot(browser, folder, name):
    if folder:
        browser.screenshot(folder / name)


def check_full_storage(browser):
    """Old conversations make room, the pictures of this one go last, and a reload says so."""
    browser.run(FILL)
    new_chat(browser)
    large = {"name": "large.jpg", "type": "image/jpeg", "drawn": "data:image/png;base64," + png(THREE)["base64"],
             "width": 1000, "height": 1000}
    give(browser, "drop", large)
    waits(browser, 1)
    send(browser, COUNTING)
    browser.wait(ANSWERED)
    expect(browser.run(SHOWN) == 1, "the picture goes before the page does")
    browser.call("Page.reload")
    browser.wait("document.querySelector('.user .body')?.textContent.includes('did not fit')")
    expect(browser.run("document.querySelectorAll('#list li').length") == 1, "older conversations")
    browser.run("localStorage.removeItem('junk')")


def check(browser, url, folder):
    browser.call("Page.navigate", url=url)
    browser.wait("document.getElementById('model')?.textContent.includes('tiny-llava') "
                 "&& !document.getElementById('pick').hidden")
    browser.run("(t => { t.value = 0; t.dispatchEvent(new Event('input')); })(document.getElementById('temperature'))")
    check_ways(browser)
    check_kept(browser)
    check_kinds(browser)
    check_refused_by_the_server(browser)
    check_refusals(browser)
    check_looks(browser, folder)
    check_full_storage(browser)
    check_events(browser, url)


def main():
    chromium, support.BINARY = sys.argv[1:3]
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with served("--max-images", MOST, "--max-image-bytes", MOST_BYTES, model=MODEL) as server, opened(chromium) as browser:
        check(browser, f"http://127.0.0.1:{server.port}/", folder)
    print("pictures_check: passed")


if __name__ == "__main__":
    main()
