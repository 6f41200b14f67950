#!/bin/sh
# Runs every fuzz target of a build for some seconds over a copy of its seeds, and fails when one finds something.
#
#   cmake --preset asan && cmake --build build-asan --target fuzz_targets
#   scripts/run_fuzz.sh SECONDS [BUILD_FOLDER] [TARGET...]
#
# What was found stays in out/fuzz/<name>/ (crash-*, timeout-*, oom-*); what was learnt in out/fuzz/<name>/corpus.
set -u
cd "$(dirname "$0")/.." || exit 2
seconds=${1:?usage: scripts/run_fuzz.sh SECONDS [BUILD_FOLDER] [TARGET...]}
build=${2:-build-asan}
[ $# -ge 2 ] && shift 2 || shift 1
targets=${*:-$(ls "$build"/tests/fuzz/*_fuzz 2>/dev/null | xargs -rn1 basename)}
if [ -z "$targets" ]; then
  echo "no fuzz target in $build/tests/fuzz: cmake --preset asan && cmake --build build-asan --target fuzz_targets" >&2
  exit 2
fi

failed=
for target in $targets; do
  name=${target%_fuzz}
  out=out/fuzz/$name
  mkdir -p "$out/corpus"
  if [ -d "tests/fuzz/corpus/$name" ]; then cp -R "tests/fuzz/corpus/$name/." "$out/corpus/"; fi
  dictionary=
  [ -f "tests/fuzz/$name.dict" ] && dictionary=-dict=tests/fuzz/$name.dict
  echo "== $target, $seconds s"
  if ! "$build/tests/fuzz/$target" "$out/corpus" -max_total_time="$seconds" -timeout=10 -malloc_limit_mb=256 \
    -rss_limit_mb=2048 -artifact_prefix="$out/" $dictionary -print_final_stats=1 >"$out/log" 2>&1; then
    failed="$failed $target"
    tail -n 40 "$out/log"
  fi
  grep -E "stat::number_of_executed_units|stat::peak_rss_mb" "$out/log"
done
if [ -n "$failed" ]; then
  echo "failed:$failed" >&2
  exit 1
fi
