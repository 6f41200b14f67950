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
# toolkit's). It has to be of 2026.1 or later, since older ones stall at kernels that wait for each other;
# `pip install nvidia-cuda-sanitizer-api` has one.
#
# What the tools do not follow, and a test of a few lines shows each:
#   racecheck: the barrier that counts the bytes of a bulk copy by address (BulkCopy.RowsOfManyLanesCountOnOneBarrier
#     checks every number and is reported), so that every read of what bulk_load brought is reported. Such reports are
#     counted as known where the read stands in that test or in the persistent kernel's multiply(); and so is the hint
#     `asked`, which prefetch_weights() reads as load_weights() writes it and which orders nothing.
#   initcheck: stores by tensor map (Tma.TheNextKernelReadsWhatAStoreWrote). It is left out, and models run on
#     gemm_sm80, which stores by itself.
# A line a tool and program; the findings of those that have any follow. Exits with 1 when there are findings that are
# not known, with 2 when something is missing.
set -u
cd "$(dirname "$0")/.." || exit 2
case ${1:-} in
  -h | --help)
    sed -n '2,/^set -u/{/^#/s/^# \{0,1\}//p}' "scripts/${0##*/}"
    exit 0
    ;;
  -*)
    echo "there is no option $1 (--help)" >&2
    exit 2
    ;;
esac
build=${1:-build-cuda}
shift $(($# > 0 ? 1 : 0))
all_tools=(memcheck racecheck initcheck synccheck)
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=("${all_tools[@]}")
for tool in "${tools[@]}"; do
  [[ " ${all_tools[*]} " == *" $tool "* ]] || { echo "there is no tool $tool; there are ${all_tools[*]}" >&2; exit 2; }
done

sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
advice="2026.1 or later is wanted: pip install nvidia-cuda-sanitizer-api, then COMPUTE_SANITIZER=.../nvidia/cu13/bin/compute-sanitizer"
[ -x "$sanitizer" ] || { echo "compute-sanitizer is missing ($sanitizer), $advice" >&2; exit 2; }
version=$("$sanitizer" --version | sed -n 's/^Version \([0-9]*\.[0-9]*\).*/\1/p')
if [ "$(printf '%s\n' 2026.1 "$version" | sort -V | head -1)" != 2026.1 ]; then
  echo "compute-sanitizer is of ${version:-an unknown version}, $advice" >&2
  exit 2
fi

# program -> its small cases
declare -A cases=(
  [test_hw_cuda]='-Cuda.FailedCallsNameTheCallAndTheCause'
  [test_ops_cuda]='CudaDecoderLayers.HeadsOfEveryKind:CudaAttention.PromptsPrefixesAndMixedSteps:CudaAttention.SequencesWithoutRows:CudaAttention.SlidingWindows:CudaElementwise.*:CudaLinear.FusedPartsOfRaggedRows:CudaLinear.WeightsOfTheOtherTypeAndOddStrides:CudaLinear.TheResidualMayBeTheOutput:CudaLinear.AttnInOfLlamaQwenAndGpt2Shapes:CudaLinear.MlpInGatedAndNot:CudaGemm.EveryTileOfASmallProduct:CudaSkinny.EveryCutOfASmallProduct:CudaSkinny.APreparedNormInF16KeepsLargeAndSmallRows:CudaLinear.AttnInOfAPreparedNorm:CudaLinear.MlpInOfAPreparedNorm:CudaNoRows.*:CudaSampling.ABrokenRowHasNoToken:CudaSampling.SmallVocabularies'
  [test_engine_gpu]='Families/GpuOverlap.FewMixedStepsLeaveNothingBehind/llama:Families/GpuOverlap.FewMixedStepsLeaveNothingBehind/gpt2:Files/GpuGguf.GivesTheCpusDistributions/llama_q4_1:Formats/GpuBlockFormats.GivesTheCpusDistributions/Q4_K'
)
read -ra programs <<< "${PROGRAMS:-test_ops_cuda test_engine_gpu test_hw_cuda}"
for program in "${programs[@]}"; do
  [ -n "${cases[$program]:-}" ] || { echo "there are no cases of $program; there are of ${!cases[*]}" >&2; exit 2; }
  [ -x "$build/tests/$program" ] || { echo "$build/tests/$program is missing: build it (make test-gpu does)" >&2; exit 2; }
done
jobs=${JOBS:-$(nproc)}
[ "$jobs" -le 14 ] || jobs=14

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
export sanitizer build log

# How many of racecheck's reports in FILE are known ones. A report names an access, and on lines of their own those that
# race with it: each of the pairs has to be known.
known_races() {
  awk '
    function side(access) {
      if (access ~ /ptx::bulk_load\(/) return "copy"
      if (access ~ /persistent::load_weights\(/) return "asking"
      if (access !~ /Read access/) return "other"
      if (access ~ /persistent::multiply\(/ || access ~ /bulk_ring\(/) return "reader of copies"
      if (access ~ /persistent::prefetch_weights\(/) return "reader of asked"
      return "other"
    }
    function is_known(a, b) {
      return (a == "copy" && b == "reader of copies") || (a == "asking" && b == "reader of asked")
    }
    function finish() { if (pairs > 0 && good == pairs) known++; pairs = good = 0; open = 0 }
    /Race reported between/ { finish(); first = side($0); open = 1; next }
    open && /^=========  +and / { pairs++; second = side($0); good += is_known(first, second) || is_known(second, first); next }
    { finish() }
    END { finish(); print known + 0 }' "$1"
}

# One case: TOOL PROGRAM CASE. Leaves its output, and a line `tests findings known seconds verdict`.
check() {
  local out="$log/$1 $2 ${3//\//_}" begin=$SECONDS filter=$3 kernel='' verdict=ok code tests findings known=0
  if [ "$1" = initcheck ]; then
    [ "$2" != test_hw_cuda ] || filter=$3:Tma.TheNextKernelReadsWhatAStoreWrote  # behind the minus: without it
    [[ $3 != *GpuOverlap* ]] || kernel=linear=gemm_sm80,mlp_in=cuda_composition
  fi
  LLAMITA_KERNEL=$kernel timeout -k 5 "${CASE_SECONDS:-300}" "$sanitizer" --tool "$1" --error-exitcode 99 \
    --print-limit 500 "$build/tests/$2" --gtest_filter="$filter" > "$out.txt" 2>&1
  code=$?
  tests=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$out.txt")
  findings=$(sed -n 's/.*\(ERROR\|RACECHECK\) SUMMARY: \([0-9]*\) .*/\2/p' "$out.txt" | tail -1)
  [ "$1" != racecheck ] || known=$(known_races "$out.txt")
  [ "$code" -eq 0 ] || { [ "$code" -eq 99 ] && [ "$known" -eq "${findings:-0}" ]; } || verdict="code $code"
  [ -n "$findings" ] && [ "${tests:-0}" -gt 0 ] && ! grep -qE 'SKIPPED|FAILED' "$out.txt" || verdict="code $code"
  echo "${tests:-0} ${findings:-?} $known $((SECONDS - begin)) $verdict" > "$out.line"
}
export -f check known_races

begin=$SECONDS
for tool in "${tools[@]}"; do
  for program in "${programs[@]}"; do
    IFS=: read -ra list <<< "${cases[$program]}"
    for case in "${list[@]}"; do printf '%s\0%s\0%s\0' "$tool" "$program" "$case"; done
  done
done | xargs -0 -n 3 -P "$jobs" bash -c 'check "$@"' check

printf 'compute-sanitizer %s\n| %-9s | %-15s | %5s | %8s | %5s | longest case, s |\n|---|---|---:|---:|---:|---:|\n' \
  "$version" tool program tests findings known
for tool in "${tools[@]}"; do
  for program in "${programs[@]}"; do
    cat "$log/$tool $program "*.line | awk -v tool="$tool" -v program="$program" '
      { tests += $1; if ($2 == "?") unknown = "?"; else findings += $2; known += $3; if ($4 > longest) longest = $4 }
      END { printf "| %-9s | %-15s | %5d | %8s | %5d | %d |\n", tool, program, tests, findings unknown, known, longest }'
  done
done
echo "$((SECONDS - begin)) s"
failed=0
for line in "$log"/*.line; do
  read -r tests findings known seconds verdict < "$line"
  [ "$verdict" = ok ] && continue
  failed=1
  printf '\n%s: %s after %s s, %s findings, %s known\n' "$(basename "${line%.line}")" "$verdict" "$seconds" "$findings" "$known"
  grep -E '^=========|FAILED|SKIPPED|Failure' "${line%.line}.txt" | grep -v 'Host Frame' | head -40
done
exit $failed
