"""Hugging Face's chat template environment, built from Jinja2 alone (pip install jinja2==3.1.6)."""

import datetime
import json

import jinja2
import jinja2.ext
import jinja2.sandbox


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def environment(now=None):
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(pattern):
        moment = datetime.datetime.fromtimestamp(now) if now is not None else datetime.datetime.now()
        return moment.strftime(pattern)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def render(source, data):
    """The prompt for {"messages", "tools", "options"}; raises what Jinja2 raises."""
    options = dict(data.get("options") or {})
    now = options.pop("now", None)
    variables = {"documents": None, "add_generation_prompt": True, **options}
    variables["messages"] = data.get("messages")
    variables["tools"] = data.get("tools")
    return environment(now).from_string(source).render(**variables)
