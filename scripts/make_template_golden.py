#!/usr/bin/env python3
"""Writes tests/golden/templates/*.json: every template of that folder rendered by Jinja2 over conversations.

Run: pip install jinja2==3.1.6; scripts/make_template_golden.py
The templates (*.jinja) are written for Llamita; each exercises some of the language. goldens.json holds a list of
{"template", "input", "output"} or, where Jinja2 refuses, {"template", "input", "error": true}.
"""

import json
import os
import pathlib
import time

import jinja_oracle

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "templates"

TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather <now> & \"later\"",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1.0}}, "required": ["city"]}}}]
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " You are a llama. "}, {"role": "user", "content": "Héllo 😀 <|im_end|>\n{{ 1 }}"},
     {"role": "assistant", "content": "<think>\nhm\n</think>\n\nSure"}, {"role": "user", "content": "Thanks"}],
    [{"role": "user", "content": "Weather in Zürich?"},
     {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "exact": True, "x": None, "y": [1.5, 1e20]}}}]},
     {"role": "tool", "name": "get_weather", "content": "{\"t\": 21}"}, {"role": "assistant", "content": "21 degrees"}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}],
    [],
]
OPTIONS = [
    {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", "now": 1700000000},
    {"add_generation_prompt": False, "bos_token": "<s>", "eos_token": "</s>", "now": 1700000000, "enable_thinking": False},
]


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    goldens = []
    for path in sorted(FOLDER.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for messages in CONVERSATIONS:
            for options in OPTIONS:
                for tools in (None, TOOLS):
                    data = {"messages": messages, "tools": tools, "options": options}
                    case = {"template": path.name, "input": data}
                    try:
                        case["output"] = jinja_oracle.render(source, data)
                    except Exception:
                        case["error"] = True
                    goldens.append(case)
    text = ",\n".join(json.dumps(case, ensure_ascii=False) for case in goldens)
    (FOLDER / "goldens.json").write_text("[\n" + text + "\n]\n", encoding="utf-8")
    print(f"{len(goldens)} cases, {sum('error' in case for case in goldens)} of them errors")


if __name__ == "__main__":
    main()
