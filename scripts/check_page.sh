#!/usr/bin/env bash
# The chat page in headless Chromium: scripts/check_page.sh [BUILD_FOLDER] [FOLDER for screenshots]. First with replies that
# are known (what is shown; what the settings do; what is kept over reloads, clicks elsewhere and tabs; what a phone, a keyboard,
# a missing key and a server that goes make of it), then with pictures and the tiny LLaVA, which must see what is on them.
# Root installs Debian's package chromium where there is none; anybody else is told to.
set -euo pipefail
cd "$(dirname "$0")/.."
find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }
chromium=$(find_chromium)
if [[ -z $chromium && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "check_page: apt-get install -y --no-install-recommends chromium"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y --no-install-recommends -qq chromium >/dev/null
  chromium=$(find_chromium)
fi
if [[ -z $chromium ]]; then
  echo "check_page: no Chromium is here: apt-get install chromium" >&2
  exit 1
fi
build=${1:-build}
if [[ -n ${2:-} ]]; then mkdir -p "$2"; fi
for check in page_check page_check_settings page_check_kept page_check_reach; do
  timeout 300 python3 "tests/e2e/$check.py" "$chromium" "$build/tests/fake_serve" ${2:+"$2"}
done
timeout 300 python3 tests/e2e/pictures_check.py "$chromium" "$build/llamita" ${2:+"$2"}
