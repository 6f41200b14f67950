#!/usr/bin/env bash
# Installs the Debian packages that building Llamita needs and that are not here yet: Debian 12, Debian 13 and
# Ubuntu 24.04. Shows the apt line first. Root just runs it; a person at a terminal is asked before sudo is used;
# anything else prints the line and fails. `--dev` adds what CI and contributors use: clang, clang-format, fuzzing.
set -euo pipefail

packages=(build-essential cmake ninja-build ccache pkg-config python3 python3-venv python3-pip ca-certificates
  libpcre2-dev libutf8proc-dev libcli11-dev libedit-dev libbsd-dev libncurses-dev
  libpng-dev libjpeg-dev libwebp-dev libcurl4-openssl-dev libgtest-dev libbenchmark-dev)

system=unknown
if [[ -r /etc/os-release ]]; then
  system=$(. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")
fi
case $system in
  "debian 12") packages+=(libboost1.81-dev) ;;  # its libboost-dev is 1.74, which is too old
  *) packages+=(libboost-dev) ;;
esac
if [[ ${1:-} == --dev ]]; then
  case $system in
    "debian 12") packages+=(clang clang-format-14 libclang-rt-14-dev) ;;
    "ubuntu 24.04") packages+=(clang clang-format-14 libclang-rt-18-dev) ;;
    *) packages+=(clang libclang-rt-dev) ;;  # clang-format 14 is not packaged: pip install clang-format==14.0.6
  esac
fi

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is $system, and setup knows Debian 12, Debian 13 and Ubuntu 24.04 only." >&2
  echo "setup: install what these Debian packages hold, then run 'make SETUP=no …': ${packages[*]}" >&2
  exit 1
fi
case $system in
  "debian 12" | "debian 13" | "ubuntu 24.04") ;;
  *) echo "setup: $system is not tried; going on as on Debian" >&2 ;;
esac

# The query fails when one of them is unknown to dpkg; those are missing all the same.
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
  sed -n 's/ installed$//p' || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

line="apt-get install -y --no-install-recommends ${missing[*]}"
if [[ $(id -u) == 0 ]]; then
  echo "setup: $line"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  $line -qq >/dev/null
elif [[ -t 0 && -t 1 ]] && command -v sudo >/dev/null; then
  echo "These packages are missing. Llamita would run:"
  echo "    sudo apt-get update && sudo $line"
  read -r -p "Run it now? [y/N] " answer
  case $answer in
    y | Y | yes) ;;
    *)
      echo "setup: nothing was installed" >&2
      exit 1
      ;;
  esac
  sudo apt-get update -qq
  sudo $line
else
  echo "setup: packages are missing; as root run: apt-get update && $line" >&2
  exit 1
fi
