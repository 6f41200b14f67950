#!/usr/bin/env python3
"""Random expressions and snippets, rendered by Llamita and by Jinja2; every difference is printed.

Run: pip install jinja2==3.1.6; scripts/fuzz_templates.py [BUILD_DIR] [COUNT] [SEED]
A difference is another text, or an error on one side only. Exit status 1 when there is one.
"""

import json
import random
import subprocess
import sys

import jinja_oracle

ATOMS = [
    "0", "1", "2", "-3", "7", "10", "2.5", "-0.5", "1e20", "0.1", "1e-7", "true", "false", "none", "missing",
    "''", "'a'", "'Hello World'", "'  pad '", "'a,b,,c'", "\"it's\"", "'äöß€😀'", "'x\\ny\\n'", "'12'", "'3.7'", "'%s-%s'",
    "[]", "[1, 2, 3]", "['b', 'a', 'C']", "[[1, 'x'], [2, 'y']]", "(1,)", "(1, 'two')", "{}", "{'k': 'v', 'n': 1}",
    "{'b': 2, 'a': [1, {'z': none}]}", "messages", "messages[0]", "messages[0].content", "messages[-1]['role']",
    "range(4)", "people", "people[0].name", "messages[0].nothing", "text", "nested",
]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
FILTERS = [
    "length", "count", "upper", "lower", "title", "capitalize", "trim", "trim('ad ')", "string", "tojson",
    "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "tojson(ensure_ascii=true)", "join",
    "join(', ')", "join('-', attribute='name')", "first", "last", "list", "reverse|list", "reverse", "sort",
    "sort(reverse=true)", "sort(attribute='name')", "sort(case_sensitive=true)", "unique|list", "min", "max", "sum",
    "int", "int(5)", "float", "abs", "round", "round(1)", "round(-1)", "round(1, 'ceil')", "round(0, 'floor')",
    "default('d')", "d('x', true)", "items|list", "dictsort", "dictsort(true, 'value')", "replace('a', 'XY')",
    "replace('', '.')", "replace('l', 'L', 1)", "indent", "indent(2, true)", "indent('> ', blank=true)", "wordcount",
    "escape", "e", "safe", "batch(2)|list", "batch(2, 'f')|list", "slice(2)|list", "map('upper')|list", "map(attribute='name')|list",
    "map(attribute='age', default=0)|list", "select|list", "reject('none')|list", "select('string')|list",
    "selectattr('age', 'gt', 3)|list", "selectattr('role', 'equalto', 'user')|list", "rejectattr('name')|list",
    "groupby('name')", "center(9)", "truncate(5)", "truncate(7, true)", "format(1, 'z')", "attr('name')", "urlencode",
    "select('in', [1, 'a'])|list", "map('int')|list", "count", "map('length')|list", "items", "forceescape",
]
TESTS = [
    "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping",
    "iterable", "sequence", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "equalto 1", "eq('a')", "ne 2",
    "lt 3", "gt(0)", "ge 1", "le 2", "in [1, 'a']", "upper", "lower", "sameas none", "sameas true", "not none", "not string",
    "filter", "test", "escaped",
]
METHODS = [
    ".upper()", ".lower()", ".title()", ".capitalize()", ".strip()", ".lstrip()", ".rstrip('d ')", ".split()",
    ".split(',')", ".split('l', 1)", ".rsplit(' ', 1)", ".rsplit(none, 1)", ".split(maxsplit=1)", ".startswith('H')",
    ".startswith(('a', ' '))", ".endswith('d')", ".replace('l', '')", ".replace('a', 'b', 1)", ".find('o')", ".rfind('o')",
    ".index('a')", ".count('l')", ".isdigit()", ".isalpha()", ".isspace()", ".isupper()", ".islower()", ".isalnum()",
    ".splitlines()", ".partition(' ')", ".rpartition('l')", ".removeprefix('He')", ".removesuffix('ld')", ".zfill(5)",
    ".center(8)", ".center(9, '*')", ".ljust(6)", ".rjust(6, '0')", ".swapcase()", ".format(1, 2)", ".join(['x', 'y'])", ".keys()",
    ".values()", ".items()", ".get('k')", ".get('q', 'none')", ".append(1)", ".pop()", ".update({})", ".index(2)",
    ".count(1)", ".copy()", ".k", ".name", ".__class__", ".missing", "['k']", "[0]", "[-1]", "[1:]", "[:-1]", "[::-1]", "[::2]",
    "[-2:]", "[5:1:-1]", "[1:1]", "['missing']", "[none]", "[99]", ".0", ".istitle()", ".casefold()", ".items",
]
FORMATS = ["'%5s|%-5s'", "'%05d'", "'%.2f'", "'%x'", "'%r'", "'%+d'", "'%e'", "'%g'", "'%%'", "'%c'", "'%5.1f'", "'%s %s'", "'%i'"]
BRACES = ["'{}'", "'{0}{0}'", "'{:>5}'", "'{:05d}'", "'{:.2f}'", "'{!r}'", "'{:,}'", "'{:^7}|'", "'{:x}'", "'{:e}'", "'{:<4}|'", "'{:+}'", "'{:%}'", "'{:*^9}'", "'{:g}'"]

DATA = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello <|x|> 'you' & \"me\"\n"},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"a": 1.5, "b": [True, None]}}]},
    ],
    "tools": None,
    "options": {
        "bos_token": "<s>", "eos_token": "</s>", "text": "The quick brown Fox\njumps  over\r\n\tlazy dogs",
        "people": [{"name": "bob", "age": 5}, {"name": "Al", "age": 2}, {"name": "cy"}],
        "nested": {"a": {"b": [10, 20, {"c": "deep"}]}, "items": "shadow"},
    },
}


def expression(rng, depth):
    if depth <= 0:
        return rng.choice(ATOMS)
    kind = rng.randrange(10)
    inner = lambda: expression(rng, depth - 1 - rng.randrange(2))
    if kind < 2:
        return f"{inner()} {rng.choice(BINARY)} {inner()}"
    if kind == 2:
        return f"({inner()})"
    if kind < 6:
        return f"({inner()})|{rng.choice(FILTERS)}"
    if kind == 6:
        return f"({inner()}) is {rng.choice(TESTS)}"
    if kind == 7:
        return f"({inner()}){rng.choice(METHODS)}"
    if kind == 8:
        return rng.choice([f"{inner()} if {inner()} else {inner()}", f"not {inner()}", f"-({inner()})", f"[{inner()}, {inner()}]",
                           f"{{'k': {inner()}}}", f"{inner()} < {inner()} <= {inner()}", f"{inner()} if {inner()}"])
    return rng.choice([f"{rng.choice(FORMATS)} % ({inner()})", f"{rng.choice(BRACES)}.format({inner()})",
                       f"({rng.choice(ATOMS)}){rng.choice(METHODS)}"])


def statement(rng, depth):
    e = lambda: expression(rng, rng.randrange(3))
    body = lambda: template(rng, depth - 1)
    dash = lambda: rng.choice(["", "", "-", "+"])
    space = lambda: rng.choice(["", " ", "\n", "\n  ", "x ", "\n\n"])
    tag = lambda text: space() + "{%" + dash() + " " + text + " " + dash() + "%}" + space()
    kind = rng.randrange(12)
    if kind == 0:
        return tag(f"if {e()}") + body() + tag(f"elif {e()}") + body() + tag("else") + body() + tag("endif")
    if kind == 1:
        return tag(f"for x in {e()}") + "{{ loop.index }}/{{ loop.length }}{{ loop.last }}:{{ x }};" + body() + tag("else") + "none" + tag("endfor")
    if kind == 2:
        return tag(f"set v = {e()}") + "{{ v }}"
    if kind == 3:
        return tag("set v") + body() + tag("endset") + "[{{ v|trim }}]"
    if kind == 4:
        return tag(f"for x in {e()} if x") + "{{ x }}{{ loop.previtem }}{{ loop.nextitem is defined }}" + tag(rng.choice(["break", "continue", "if loop.index > 1"])
               if False else "if loop.index > 1") + tag(rng.choice(["break", "continue"])) + tag("endif") + body() + tag("endfor")
    if kind == 5:
        return tag(f"macro m(a, b={e()})") + "{{ a }}-{{ b }}" + body() + tag("endmacro") + "{{ m(" + e() + ") }}{{ m(1, b=2) }}"
    if kind == 6:
        return tag("macro w()") + "<{{ caller() }}>" + tag("endmacro") + tag("call w()") + body() + tag("endcall")
    if kind == 7:
        return tag(f"filter {rng.choice(['upper', 'trim', 'indent(2)', 'replace(chr, 1)', 'length'])}") + body() + tag("endfilter")
    if kind == 8:
        return tag("set ns = namespace(n=0, t='')") + tag("for c in [1, 2, 3]") + tag("set ns.n = ns.n + c") + tag("set n = c") + tag("endfor") + "{{ ns.n }}{{ n }}"
    if kind == 9:
        return tag(f"with v = {e()}, w = 2") + "{{ v }}{{ w }}" + body() + tag("endwith") + "{{ w }}"
    if kind == 10:
        return tag("raw") + "{{ raw }} {% x %}" + tag("endraw") + "{#" + dash() + " comment " + dash() + "#}" + space()
    return tag("generation") + body() + tag("endgeneration")


def template(rng, depth):
    out = []
    for _ in range(rng.randrange(1, 3)):
        kind = rng.randrange(3)
        if kind == 0 or depth <= 0:
            out.append(rng.choice(["text", " ", "\n", "  a\n", ""]))
        if kind < 2:
            dash = lambda: rng.choice(["", "", "-"])
            out.append("{{" + dash() + " " + expression(rng, rng.randrange(1, 4)) + " " + dash() + "}}")
        elif depth > 0:
            out.append(statement(rng, depth))
    return "".join(out)


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    tool = subprocess.Popen([f"{build}/tests/render_template", "--lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    differences = compared = errors = 0
    for _ in range(count):
        source = template(rng, 2)
        try:
            expected = jinja_oracle.render(source, DATA)
        except Exception as error:
            expected = error
        # Addresses and Python's big integers are not ours to print.
        if isinstance(expected, str) and (" at 0x" in expected or "<generator" in expected or "<built-in" in expected or "<bound" in expected):
            continue
        tool.stdin.write(json.dumps({"template": source, "input": DATA}) + "\n")
        tool.stdin.flush()
        line = tool.stdout.readline()
        if not line:
            print("the tool died on:", repr(source))
            return 1
        got = json.loads(line)
        compared += 1
        if isinstance(expected, Exception):
            errors += 1
            same = "error" in got
        else:
            same = got.get("output") == expected or "64 bit" in got.get("error", "")
        if not same:
            differences += 1
            print(f"template: {source!r}\n  jinja2:  {expected!r}\n  llamita: {got}")
    print(f"{compared} templates compared, {errors} of them errors on purpose, {differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
