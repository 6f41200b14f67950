#!/usr/bin/env bash
# The server against its own document: scripts/check_api.sh [BINARY] [EXAMPLES]. schemathesis makes requests that fit
# openapi.json, and requests that just do not, and holds every answer to it. The tiny model answers, because the answers'
# content does not matter; what is asked is the same in every run. Installs schemathesis from PyPI under .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/serve_for_checks.sh
binary=${1:-build/llamita}
examples=${2:-40}
venv=${VENV:-.venv/api}

if ! "$venv/bin/python" -c 'import schemathesis' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q 'schemathesis==4.*'
fi

key=$(python3 -c 'print("k" * 40)')
start_server "$binary" tiny --served-model-name tiny --api-key "$key" --context 2048 --request-timeout 0.5
for flag in $(grep -o '"x-flag": "[^"]*"' server/api/openapi.json | cut -d'"' -f4 | sort -u); do
  "$binary" serve --help | grep -q -- "$flag" || {
    echo "check_api: openapi.json speaks of $flag, which is no flag" >&2
    exit 1
  }
done
rm -rf .schemathesis  # what an earlier run found would be tried first
export SCHEMATHESIS_HOOKS=tests.e2e.openapi_checks PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1
timeout 240 "$venv/bin/schemathesis" run "$url/openapi.json" --header "Authorization: Bearer $key" \
  --checks all --exclude-checks positive_data_acceptance --max-examples "$examples" \
  --generation-deterministic --request-timeout 20 --workers 4 || {
  echo "check_api: schemathesis is not content" >&2
  exit 1
}
stop_server
echo "check_api: passed"
