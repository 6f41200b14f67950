#!/usr/bin/env bash
# compute-sanitizer over small cases of every op on a GPU, and over steps of models with two layers: no access out
# of bounds (memcheck), no unordered access to shared memory (racecheck), no read of memory that nobody wrote
# (initcheck), no barrier that some threads miss (synccheck). Instrumented kernels run ten to a hundred times slower,
# so large cases are left to the ordinary tests, which compare results.
#
#   scripts/check_gpu_sanitizers.sh [BUILD] [TOOL...]       default: build-cuda, all four tools
#
# PROGRAMS="test_hw_cuda ..." takes only some of the test programs. One line a tool and program; the findings of those
# that have any follow. Exits with 1 when there are findings, with 2 when something is missing.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build-cuda}
shift $(($# > 0 ? 1 : 0))
tools=("$@")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck initcheck synccheck)

sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
[ -x "$sanitizer" ] || { echo "compute-sanitizer is missing: it is part of the CUDA toolkit" >&2; exit 2; }

# program -> its small cases
declare -A cases=(
  [test_hw_cuda]='*'
  [test_ops_cuda]='CudaDecoderLayers.HeadsOfEveryKind:CudaAttention.PromptsPrefixesAndMixedSteps:CudaAttention.SequencesWithoutRows:CudaAttention.SlidingWindows:CudaElementwise.*:CudaLinear.FusedPartsOfRaggedRows:CudaLinear.WeightsOfTheOtherTypeAndOddStrides:CudaLinear.TheResidualMayBeTheOutput:CudaLinear.AttnInOfLlamaQwenAndGpt2Shapes:CudaLinear.MlpInGatedAndNot:CudaSampling.ABrokenRowHasNoToken:CudaSampling.SmallVocabularies'
  [test_engine_gpu]='Families/GpuOverlap.MixedStepsEndOneByOneAndLeaveNothingBehind/llama:Families/GpuOverlap.MixedStepsEndOneByOneAndLeaveNothingBehind/gpt2:Files/GpuGguf.GivesTheCpusDistributions/llama_q4_1'
)
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed=0
printf '| %-9s | %-15s | %5s | %8s | seconds |\n|---|---|---:|---:|---:|\n' tool program tests findings
for tool in "${tools[@]}"; do
  for program in ${PROGRAMS:-test_hw_cuda test_ops_cuda test_engine_gpu}; do
    path=$build/tests/$program
    [ -x "$path" ] || { echo "$path is missing: build it (make test-gpu does)" >&2; exit 2; }
    out=$log/$tool-$program
    begin=$SECONDS
    "$sanitizer" --tool "$tool" --error-exitcode 99 --print-limit 20 "$path" --gtest_filter="${cases[$program]}" \
      > "$out" 2>&1
    code=$?
    tests=$(sed -n 's/^\[==========\] Running \([0-9]*\) test.*/\1/p' "$out")
    findings=$(sed -n 's/.*\(ERROR\|RACECHECK\) SUMMARY: \([0-9]*\) .*/\2/p' "$out" | tail -1)
    printf '| %-9s | %-15s | %5s | %8s | %7s |\n' "$tool" "$program" "${tests:-?}" "${findings:-?}" $((SECONDS - begin))
    if [ $code -ne 0 ] || grep -q 'SKIPPED' "$out" || [ "${tests:-0}" -eq 0 ]; then
      failed=1
      grep -E '^=========|FAILED|SKIPPED|Failure' "$out" | head -60 >> "$log/findings"
    fi
  done
done
[ $failed -eq 0 ] && exit 0
echo
cat "$log/findings"
exit 1
