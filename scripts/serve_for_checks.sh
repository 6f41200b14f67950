# Sourced by the checks of the server: starts `llamita serve` and sets `server` (its process) and `url`.
#   start_server BINARY MODEL [options]     MODEL "tiny": the tests' checkpoint with room for 4096 tokens
#   stop_server                             it must drain and exit 0
work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill -9 $server 2>/dev/null || true; rm -rf "$work"' EXIT

start_server() {
  local binary=$1 model=$2
  shift 2
  if [[ $model == tiny ]]; then
    model=$work/tiny
    python3 tests/e2e/tiny_model.py "$model"
  fi
  "$binary" serve "$model" --port 0 "$@" 2>"$work/log" &
  server=$!
  url=
  local _
  for _ in $(seq 600); do
    url=$(sed -n 's/^llamita: listening on //p' "$work/log")
    if [[ -n $url ]] && python3 -c "import urllib.request as u; u.urlopen('$url/health')" 2>/dev/null; then return; fi
    if ! kill -0 $server 2>/dev/null; then break; fi
    sleep 0.2
  done
  cat "$work/log" >&2
  exit 1
}

stop_server() {
  kill -TERM $server
  wait $server
  server=
}
