#!/usr/bin/env python3
"""Checks that the house stands as DESIGN says: who may include whom, file lengths, pragma once, READMEs.

    scripts/check_layers.py              check this repository; one line "file:line: what is wrong" a finding
    scripts/check_layers.py --self-test  prove on made-up trees that each rule finds what it should

Arrows are transitive: a folder may include whatever the folders it may include may include.
"""
import argparse
import re
import sys
import tempfile
from pathlib import Path

# folder -> the folders its arrow points to. The public headers ("include") use the standard library alone and
# may be included from everywhere.
ARROWS = {
    "include": [],
    "src/base": [],
    "src/tensor": ["src/base"],
    "src/formats": ["src/tensor"],
    "src/image": ["src/formats"],
    "src/hw/cpu": ["src/tensor"],
    "src/hw/cuda": ["src/tensor", "src/hw/cuda/device"],
    "src/hw/cuda/device": [],
    "src/comm": ["src/hw/cpu", "src/hw/cuda"],
    "src/hub": ["src/formats"],
    "src/quant": ["src/tensor"],
    "src/ops": ["src/hw/cpu", "src/hw/cuda", "src/quant", "src/comm"],
    "src/weights": ["src/ops", "src/formats"],
    "src/text": ["src/formats"],
    "src/nn": ["src/weights"],
    "src/models": ["src/nn"],
    "src/analysis": ["src/models"],
    "src/calibrate": ["src/models"],
    "src/kv": ["src/base"],
    "src/sched": ["src/kv"],
    "src/engine": ["src/analysis", "src/sched", "src/text", "src/image", "src/hub"],
    "server": ["src/text", "src/formats", "src/base"],
    "cli": ["src/engine", "src/hub", "server"],
    "python": [],
}

# Folders that use nothing but the standard library, the system and CUDA.
NO_THIRD_PARTY = ["include", "src/base", "src/tensor", "src/hw/cpu", "src/hw/cuda", "src/hw/cuda/device", "src/comm",
                  "src/quant", "src/ops"]
SYSTEM_HEADERS = re.compile(
    r"^(assert|ctype|dirent|dlfcn|endian|errno|fcntl|float|inttypes|limits|locale|math|poll|pthread|sched|signal|stdarg|"
    r"stddef|stdint|stdio|stdlib|string|termios|time|unistd|wchar|"
    r"immintrin|x86intrin|cpuid|arm_neon|sys/\w+|linux/\w+|asm/\w+)\.h$")
CUDA_HEADERS = re.compile(r"^(cuda\w*|cublas\w*|cooperative_groups|mma|nv\w*|nccl)(/[\w/]+)?(\.h|\.hpp|\.cuh)?$")

SOURCE_SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
ROOTS = ["include", "src", "server", "cli", "python", "tests", "bench", "examples", "lessons"]
MOST_LINES = 800
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def reachable(folder):
    """Every folder that `folder` may include: the closure of ARROWS, itself and the public headers."""
    seen, todo = {folder, "include"}, [folder]
    while todo:
        for target in ARROWS[todo.pop()]:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


REACHABLE = {folder: reachable(folder) for folder in ARROWS}


def folder_of(path):
    """The longest folder of ARROWS that holds `path` (posix, relative to the root), or None."""
    parts = path.split("/")[:-1]
    for length in range(len(parts), 0, -1):
        if "/".join(parts[:length]) in ARROWS:
            return "/".join(parts[:length])
    return None


def resolve(including, name, root):
    """The file in the tree that a quoted include means, or None when it is none of ours."""
    beside = str(Path(including).parent / name)
    for candidate in ["src/" + name, "include/" + name, name, beside]:
        if (root / candidate).is_file():
            return candidate
    return None


def check_includes(path, lines, root, report):
    folder = folder_of(path)
    if folder is None:
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        if quote == "<":
            standard = "." not in name and "/" not in name
            cuda = CUDA_HEADERS.match(name) and not standard
            if folder in NO_THIRD_PARTY and not standard and not SYSTEM_HEADERS.match(name):
                if not (cuda and folder != "include" and folder != "src/base"):
                    report(path, number, f"{folder} includes <{name}>; it may use the standard library only")
            elif folder == "include" and not standard:
                report(path, number, f"public headers include standard C++ headers only, not <{name}>")
            continue
        target = resolve(path, name, root)
        if target is None:
            report(path, number, f'"{name}" is no file under src/ or include/')
            continue
        target_folder = folder_of(target)
        if target_folder is None or target_folder not in REACHABLE[folder]:
            allowed = ", ".join(sorted(REACHABLE[folder] - {folder})) or "nothing else"
            report(path, number, f'{folder} must not include "{name}" ({target_folder}); it may include {allowed}')


def check_file(path, text, root, report):
    lines = text.splitlines()
    generated = any("Generated by scripts/" in line for line in lines[:5])
    if len(lines) > MOST_LINES and not generated:
        report(path, MOST_LINES + 1, f"{len(lines)} lines; files have at most {MOST_LINES}, better 300")
    if path.endswith((".h", ".cuh")) and not any(line.strip() == "#pragma once" for line in lines):
        report(path, 1, "no #pragma once")
    check_includes(path, lines, root, report)


def check_readmes(paths, root, report):
    """Each folder of src/ that has sources says in a README.md what lives there."""
    for folder in sorted({folder_of(path) or path.rsplit("/", 1)[0] for path in paths if path.startswith("src/")}):
        if folder not in ARROWS:
            report(folder, 1, "is no folder of the design: add it to the table in scripts/check_layers.py")
        elif not (root / folder / "README.md").is_file():
            report(folder, 1, "has sources and no README.md")


def check_tree(root):
    findings = []

    def report(path, line, message):
        findings.append(f"{path}:{line}: {message}")

    paths = []
    for top in ROOTS:
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SOURCE_SUFFIXES and file.is_file():
                paths.append(file.relative_to(root).as_posix())
    for path in paths:
        check_file(path, (root / path).read_text(encoding="utf-8", errors="replace"), root, report)
    check_readmes(paths, root, report)
    return paths, findings


def self_test():
    """Each case: files of a tree, and what one finding must say (None: there must be none)."""
    good = {
        "include/llamita/error.h": "#pragma once\n#include <string>\n",
        "src/base/log.h": '#pragma once\n#include <string>\n#include <sys/mman.h>\n#include "llamita/error.h"\n',
        "src/base/README.md": "base\n",
        "src/tensor/tensor.h": '#pragma once\n#include "base/log.h"\n',
        "src/tensor/README.md": "tensor\n",
        "src/quant/blocks.h": '#pragma once\n#include "base/log.h"\n#include "tensor/tensor.h"\n',
        "src/quant/README.md": "quant\n",
        "src/ops/linear/linear.cc": '#include <immintrin.h>\n#include "ops/linear/linear.h"\n#include "quant/blocks.h"\n',
        "src/ops/linear/linear.h": "#pragma once\n",
        "src/ops/README.md": "ops\n",
        "src/text/tokenizer.cc": '#include <pcre2.h>\n#include "base/log.h"\n',
        "src/text/README.md": "text\n",
        "src/kv/pool.h": '#pragma once\n#include "base/log.h"\n',
        "src/kv/README.md": "kv\n",
        "cli/main.cc": '#include <CLI/CLI.hpp>\n#include "cli/run.h"\n#include "text/tokenizer.h"\n',
        "cli/run.h": "#pragma once\n",
        "src/text/tokenizer.h": "#pragma once\n",
    }
    cases = [
        ({}, None),
        ({"src/base/up.h": '#pragma once\n\n#include "tensor/tensor.h"\n'}, "src/base/up.h:3: src/base must not"),
        ({"src/kv/bad.cc": '#include "tensor/tensor.h"\n'}, "src/kv must not include"),
        ({"src/quant/bad.cc": '#include "text/tokenizer.h"\n'}, "src/quant must not include"),
        ({"src/ops/bad.cc": "#include <nlohmann/json.hpp>\n"}, "standard library only"),
        ({"src/base/bad.cc": "#include <cuda_runtime.h>\n"}, "standard library only"),
        ({"src/ops/good.cu": "#include <cuda_runtime.h>\n"}, None),
        ({"include/llamita/bad.h": '#pragma once\n#include "base/log.h"\n'}, "include must not include"),
        ({"include/llamita/bad.h": "#pragma once\n#include <nlohmann/json.hpp>\n"}, "standard library only"),
        ({"src/text/bad.cc": '#include "text/absent.h"\n'}, "is no file"),
        ({"src/base/bare.h": "int x;\n"}, "no #pragma once"),
        ({"src/base/long.cc": "int x;\n" * 801}, "801 lines"),
        ({"src/base/limit.cc": "int x;\n" * 800}, None),
        ({"src/text/table.cc": "// Generated by scripts/make_table.py\n" + "int x;\n" * 900}, None),
        ({"src/nn/linear.cc": "int x;\n"}, "src/nn:1: has sources and no README.md"),
        ({"src/attic/old.cc": "int x;\n"}, "no folder of the design"),
    ]
    for number, (extra, expected) in enumerate(cases):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for path, text in {**good, **extra}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            findings = check_tree(root)[1]
        passed = findings == [] if expected is None else len(findings) == 1 and expected in findings[0]
        if not passed:
            print(f"self-test {number} ({', '.join(extra)}): wanted {expected!r}, found {findings}", file=sys.stderr)
            return 1
    print(f"check_layers: {len(cases)} self-tests passed")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--self-test", action="store_true", help="test the checker itself")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    arguments = parser.parse_args()
    if arguments.self_test:
        return self_test()
    paths, findings = check_tree(arguments.root)
    print(*findings, sep="\n", end="\n" if findings else "")
    if not paths:
        print(f"check_layers: no sources under {arguments.root}", file=sys.stderr)
        return 1
    print(f"check_layers: {len(paths)} files, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
