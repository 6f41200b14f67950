#!/usr/bin/env bash
# A crowd at `llamita serve`: scripts/check_soak.sh [BINARY] [MODEL or "tiny"] [options of tests/e2e/soak.py]
# Readers that take nothing for 3 seconds are dropped here, so that two minutes see it happen. Of 200 clients 48 have a
# seat and the others wait, and a long prompt takes several steps, so that clients leave in every phase. The queue has
# room for all of them, those included whose leaving is not known yet: its limits have tests of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/serve_for_checks.sh
binary=${1:-build/llamita}
model=${2:-smollm2-135m-instruct}
shift $(($# < 2 ? $# : 2))

python3 tests/e2e/soak.py --self-test
# A cache that the warm-up fills: pages that were never used are no resident memory yet.
kv=$([[ $model == tiny ]] && echo 4 || echo 200)
start_server "$binary" "$model" --context 1024 --kv-memory "$kv" --write-timeout 3 --max-unread-bytes 65536 --send-buffer-bytes 16384 \
  --queue-timeout 120 --max-queue 1000 --max-queue-tokens 1000000 --max-batch-sequences 48 --max-batch-tokens 256
python3 tests/e2e/soak.py "$url" $server "$@" || {
  tail -n 20 "$work/log" >&2
  exit 1
}
stop_server
echo "check_soak: passed"
