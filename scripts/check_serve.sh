#!/usr/bin/env bash
# The official openai client against `llamita serve` with the default model: scripts/check_serve.sh [BINARY] [MODEL].
# Installs openai and prometheus-client from PyPI into a virtual environment under .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-build/llamita}
model=${2:-smollm2-135m-instruct}
venv=${VENV:-.venv/serve}

if ! "$venv/bin/python" -c 'import openai, prometheus_client' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q openai prometheus-client
fi

log=$(mktemp)
"$binary" serve "$model" --port 0 --max-n 8 2>"$log" &
server=$!
trap 'kill -9 $server 2>/dev/null || true; rm -f "$log"' EXIT
url=
for _ in $(seq 600); do
  url=$(sed -n 's/^llamita: listening on //p' "$log")
  if [[ -n $url ]] && "$venv/bin/python" -c "import urllib.request as u; u.urlopen('$url/health')" 2>/dev/null; then break; fi
  if ! kill -0 $server 2>/dev/null; then
    cat "$log" >&2
    exit 1
  fi
  sleep 0.2
done

"$venv/bin/python" tests/e2e/serve_conformance.py "$url"
kill -TERM $server
wait $server  # drains and exits 0
echo "check_serve: passed"
