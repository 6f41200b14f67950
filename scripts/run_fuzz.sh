#!/usr/bin/env bash
# Runs every fuzz target of a build for some seconds over a copy of its seeds, as many at once as there are cores, and
# fails when one finds something.
#
#   cmake --preset asan && cmake --build build-asan --target fuzz_targets
#   scripts/run_fuzz.sh SECONDS [BUILD_FOLDER] [TARGET...]
#
# What was found stays in out/fuzz/<name>/ (crash-*, timeout-*, oom-*); what was learnt in out/fuzz/<name>/corpus.
set -u
cd "$(dirname "$0")/.." || exit 2

run_one() {  # run_one TARGET SECONDS BUILD_FOLDER
  local target=$1 seconds=$2 build=$3 name=${1%_fuzz} dictionary=() status=0
  local out=out/fuzz/$name
  mkdir -p "$out/corpus"
  if [[ -d tests/fuzz/corpus/$name ]]; then cp -R "tests/fuzz/corpus/$name/." "$out/corpus/"; fi
  if [[ -f tests/fuzz/$name.dict ]]; then dictionary=("-dict=tests/fuzz/$name.dict"); fi
  "$build/tests/fuzz/$target" "$out/corpus" -max_total_time="$seconds" -timeout=10 -malloc_limit_mb=256 \
    -rss_limit_mb=2048 -artifact_prefix="$out/" "${dictionary[@]}" -print_final_stats=1 >"$out/log" 2>&1 || status=1
  {  # in one write, so that targets do not interleave
    if ((status != 0)); then tail -n 40 "$out/log"; fi
    printf '%s%s: %s runs, %s MB at most\n' "$target" "$( ((status == 0)) || echo " FAILED")" \
      "$(sed -n 's/stat::number_of_executed_units: *//p' "$out/log")" "$(sed -n 's/stat::peak_rss_mb: *//p' "$out/log")"
  } >"$out/summary"
  cat "$out/summary"
  return $status
}

if [[ ${1:-} == --one ]]; then
  shift
  run_one "$@"
  exit
fi
seconds=${1:?usage: scripts/run_fuzz.sh SECONDS [BUILD_FOLDER] [TARGET...]}
build=${2:-build-asan}
shift $(($# < 2 ? 1 : 2))
targets=("$@")
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(find "$build/tests/fuzz" -maxdepth 1 -name '*_fuzz' -printf '%f\n' 2>/dev/null | sort)
fi
if ((${#targets[@]} == 0)); then
  echo "no fuzz target in $build/tests/fuzz: cmake --preset asan && cmake --build build-asan --target fuzz_targets" >&2
  exit 2
fi
echo "== ${#targets[@]} fuzz targets, $seconds s each"
if ! printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' scripts/run_fuzz.sh --one '{}' "$seconds" "$build"; then
  echo "a fuzz target failed: see above and out/fuzz/" >&2
  exit 1
fi
