#!/usr/bin/env bash
# Are all C++ files formatted as .clang-format says? `--fix` formats them. The version is fixed, because
# versions of clang-format disagree.
set -euo pipefail
cd "$(dirname "$0")/.."
version=14
tool=$(command -v "clang-format-$version" || command -v clang-format || true)
if [[ -z $tool ]] || ! "$tool" --version | grep -q "version $version\."; then
  echo "check_format: clang-format $version is not here: apt-get install clang-format-$version" >&2
  exit 1
fi
mapfile -d '' -t files < <(git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cc' '*.cu' '*.cuh')
existing=()
for file in "${files[@]}"; do [[ -f $file ]] && existing+=("$file"); done
if [[ ${1:-} == --fix ]]; then
  "$tool" -i --style=file "${existing[@]}"
else
  "$tool" --dry-run -Werror --style=file "${existing[@]}"
  echo "check_format: ${#existing[@]} files are formatted" >&2
fi
