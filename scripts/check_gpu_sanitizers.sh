#!/usr/bin/env bash
# compute-sanitizer over small cases of every op on a GPU, and over steps of models with two layers: no access out
# of bounds (memcheck), no unordered access to shared memory (racecheck), no read of memory that nobody wrote
# (initcheck), no barrier that some threads miss (synccheck). Instrumented kernels run ten to a hundred times slower,
# so large cases are left to the ordinary tests, which compare results, and every case is a process of its own.
#
#   scripts/check_gpu_sanitizers.sh [BUILD] [TOOL...]       default: build-cuda, all four tools
#
# JOBS=N processes at once (default: as many as cores, 14 at most), PROGRAMS="test_hw_cuda ..." only some of the test
# programs, CASE_SECONDS=N for one case (default 300), COMPUTE_SANITIZER=FILE (default: the one on the PATH, or the
# toolkit's). It has to be of 2026.1 or later: older ones neither follow what the copy engine writes (initcheck) nor
# the barriers that count its bytes (racecheck), and report reads that are right. `pip install nvidia-cuda-sanitizer-api`
# has one. A line a tool and program; the findings of those that have any follow. Exits with 1 when there are
# findings, with 2 when something is missing.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build-cuda}
shift $(($# > 0 ? 1 : 0))
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck initcheck synccheck)

sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
[ -x "$sanitizer" ] || { echo "compute-sanitizer is missing: it is part of the CUDA toolkit" >&2; exit 2; }
version=$("$sanitizer" --version | sed -n 's/^Version \([0-9]*\.[0-9]*\).*/\1/p')
if [ "$(printf '%s\n' 2026.1 "$version" | sort -V | head -1)" != 2026.1 ]; then
  echo "compute-sanitizer is of ${version:-an unknown version}, 2026.1 or later is wanted:" \
    "pip install nvidia-cuda-sanitizer-api, then COMPUTE_SANITIZER=.../nvidia/cu13/bin/compute-sanitizer" >&2
  exit 2
fi

# program -> its small cases
declare -A cases=(
  [test_hw_cuda]='*'
  [test_ops_cuda]='CudaDecoderLayers.HeadsOfEveryKind:CudaAttention.PromptsPrefixesAndMixedSteps:CudaAttention.SequencesWithoutRows:CudaAttention.SlidingWindows:CudaElementwise.*:CudaLinear.FusedPartsOfRaggedRows:CudaLinear.WeightsOfTheOtherTypeAndOddStrides:CudaLinear.TheResidualMayBeTheOutput:CudaLinear.AttnInOfLlamaQwenAndGpt2Shapes:CudaLinear.MlpInGatedAndNot:CudaSampling.ABrokenRowHasNoToken:CudaSampling.SmallVocabularies:CudaFeedBack.*'
  [test_engine_gpu]='Families/GpuOverlap.FewMixedStepsLeaveNothingBehind/llama:Families/GpuOverlap.FewMixedStepsLeaveNothingBehind/gpt2:Files/GpuGguf.GivesTheCpusDistributions/llama_q4_1'
)
read -ra programs <<< "${PROGRAMS:-test_ops_cuda test_engine_gpu test_hw_cuda}"
for program in "${programs[@]}"; do
  [ -x "$build/tests/$program" ] || { echo "$build/tests/$program is missing: build it (make test-gpu does)" >&2; exit 2; }
done
jobs=${JOBS:-$(nproc)}
[ "$jobs" -le 14 ] || jobs=14

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
export sanitizer build log

# One case: TOOL PROGRAM CASE. Leaves its output, and a line `tests findings seconds verdict`.
check() {
  local out="$log/$1 $2 ${3//\//_}" begin=$SECONDS verdict=ok code tests findings
  timeout -k 5 "${CASE_SECONDS:-300}" "$sanitizer" --tool "$1" --error-exitcode 99 --print-limit 20 \
    "$build/tests/$2" --gtest_filter="$3" > "$out.txt" 2>&1
  code=$?
  tests=$(sed -n 's/^\[==========\] Running \([0-9]*\) test.*/\1/p' "$out.txt")
  findings=$(sed -n 's/.*\(ERROR\|RACECHECK\) SUMMARY: \([0-9]*\) .*/\2/p' "$out.txt" | tail -1)
  [ "$code" -eq 0 ] && ! grep -q SKIPPED "$out.txt" && [ "${tests:-0}" -gt 0 ] && [ -n "$findings" ] || verdict="code $code"
  echo "${tests:-0} ${findings:-?} $((SECONDS - begin)) $verdict" > "$out.line"
}
export -f check

begin=$SECONDS
for tool in "${tools[@]}"; do
  for program in "${programs[@]}"; do
    IFS=: read -ra list <<< "${cases[$program]}"
    for case in "${list[@]}"; do printf '%s\0%s\0%s\0' "$tool" "$program" "$case"; done
  done
done | xargs -0 -n 3 -P "$jobs" bash -c 'check "$@"' check

printf 'compute-sanitizer %s\n| %-9s | %-15s | %5s | %8s | longest case, s |\n|---|---|---:|---:|---:|\n' "$version" tool program tests findings
for tool in "${tools[@]}"; do
  for program in "${programs[@]}"; do
    cat "$log/$tool $program "*.line | awk -v tool="$tool" -v program="$program" '
      { tests += $1; if ($2 == "?") unknown = "?"; else findings += $2; if ($3 > longest) longest = $3 }
      END { printf "| %-9s | %-15s | %5d | %8s | %7d |\n", tool, program, tests, findings unknown, longest }'
  done
done
echo "$((SECONDS - begin)) s"
failed=0
for line in "$log"/*.line; do
  read -r tests findings seconds verdict < "$line"
  [ "$verdict" = ok ] && continue
  failed=1
  printf '\n%s: %s after %s s, %s findings\n' "$(basename "${line%.line}")" "$verdict" "$seconds" "$findings"
  grep -E '^=========|FAILED|SKIPPED|Failure' "${line%.line}.txt" | grep -v 'Host Frame' | head -40
done
exit $failed
