#!/usr/bin/env python3
"""The tests that need an NVIDIA GPU, in one short table; what failed follows.

    scripts/test_gpu.py build-cuda [--filter PATTERN]

One process a test program, since each start on a GPU takes a second. Behind them scripts/check_sass.py reads the machine
code, where its tools are installed (not with --filter). Exits with 1 when a test or that check failed or when there was
no GPU to run on. LLAMITA_TEST_MODEL=FILE adds the comparison of a real model with the CPU and with transformers.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ["test_hw_cuda", "test_ops_cuda", "test_engine_gpu"]
CHECK_SASS = Path(__file__).resolve().parent / "check_sass.py"
SKIPPED = 77


def reasons(output):
    """Why tests were skipped, as GoogleTest prints it behind the place: each reason once."""
    lines = output.splitlines()
    return list(dict.fromkeys(lines[i + 1] for i, line in enumerate(lines[:-1]) if line.endswith(": Skipped")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--filter", default="*", help="as --gtest_filter has it")
    arguments = parser.parse_args()
    failures, ran, idle, found = [], 0, [], 0
    print("| program | tests | passed | skipped | failed | seconds |\n|---|---:|---:|---:|---:|---:|")
    for program in PROGRAMS:
        path = arguments.build / "tests" / program
        if not path.exists():
            sys.exit(f"{path} is missing: cmake --build {arguments.build} --target {' '.join(PROGRAMS)}")
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            begin = time.monotonic()
            done = subprocess.run([path, f"--gtest_filter={arguments.filter}", f"--gtest_output=json:{report.name}"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
            seconds = time.monotonic() - begin
            try:
                tests = [test for suite in json.load(report)["testsuites"] for test in suite["testsuite"]]
            except ValueError:  # it died
                tests = []
        failed = [test for test in tests if test.get("failures")]
        skipped = [test for test in tests if test.get("result") == "SKIPPED"]
        found += len(tests)
        ran += len(tests) - len(skipped)
        if tests and len(skipped) == len(tests):
            idle.append(f"{program} ({'; '.join(reasons(done.stdout)) or 'skipped'})")
        print(f"| {program} | {len(tests)} | {len(tests) - len(failed) - len(skipped)} | {len(skipped)} | {len(failed)} | "
              f"{seconds:.1f} |", flush=True)
        for test in failed:
            failures.append(f"{test['classname']}.{test['name']}:\n{test['failures'][0]['failure'][:1500]}")
        if done.returncode != 0 and not failed:
            failures.append(f"{program} ended with {done.returncode}:\n" + "\n".join(done.stdout.splitlines()[-15:]))
    if arguments.filter == "*":
        print(flush=True)
        if (status := subprocess.run([sys.executable, CHECK_SASS, arguments.build]).returncode) not in (0, SKIPPED):
            failures.append(f"check_sass.py left with {status}")
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    if not failures and found == 0:
        sys.exit(f"nothing ran: --filter {arguments.filter} names no test")
    if not failures and (idle or ran == 0):
        sys.exit(f"nothing ran of {', '.join(idle)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
