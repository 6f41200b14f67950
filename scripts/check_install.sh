#!/bin/sh
# Installs a build into a folder of its own, builds examples/hello.cc against nothing but that, and, when a model is
# given, lets it answer. Usage: scripts/check_install.sh [build folder] [model folder or .gguf file]
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=${1:-$source_dir/build}
model=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build_dir" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
cmake -S "$source_dir/examples" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/configure.log" ||
  { cat "$work/configure.log"; exit 1; }
cmake --build "$work/build"

# Nothing of the source tree may have been needed.
if grep -rqF "$source_dir" "$work/prefix/include" "$work/prefix"/lib*/cmake; then
  echo "check_install: the installed files name the source folder" >&2
  exit 1
fi
if [ -n "$model" ]; then
  "$work/build/hello" "$model"
else
  # Without a model: it must at least start and refuse in words.
  if "$work/build/hello" "$work/no-such-model" 2>"$work/error.log"; then exit 1; fi
  grep -q no-such-model "$work/error.log" || { cat "$work/error.log"; exit 1; }
fi
echo "check_install: ok"
