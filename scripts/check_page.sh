#!/usr/bin/env bash
# The chat page in headless Chromium (Debian's package chromium): scripts/check_page.sh [BUILD_FOLDER] [SCREENSHOT.png]
set -euo pipefail
cd "$(dirname "$0")/.."
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [[ -z $chromium ]]; then
  echo "check_page: no Chromium is here: apt-get install chromium" >&2
  exit 1
fi
exec timeout 300 python3 tests/e2e/page_check.py "$chromium" "${1:-build}/tests/fake_serve" ${2:+"$2"}
