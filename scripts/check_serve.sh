#!/usr/bin/env bash
# The official openai client against `llamita serve` with the default model: scripts/check_serve.sh [BINARY] [MODEL].
# Installs openai and prometheus-client from PyPI into a virtual environment under .venv, in versions that this check is written
# for: another one may ask for other things.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/serve_for_checks.sh
binary=${1:-build/llamita}
model=${2:-smollm2-135m-instruct}
venv=${VENV:-.venv/serve}

if ! "$venv/bin/python" -c 'import openai, prometheus_client; assert openai.__version__ == "3.57.0"' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q openai==3.57.0 prometheus-client==0.26.0
fi

start_server "$binary" "$model" --max-n 8
"$venv/bin/python" tests/e2e/serve_conformance.py "$url"
stop_server  # drains and exits 0
echo "check_serve: passed"
