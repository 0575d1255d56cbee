# shellcheck shell=bash
# Sourced by the tests of this folder that install; the path of the built program is their argument.
build_dir=$(cd "$(dirname "$1")" && pwd -P)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
checks=0 failures=0

# holds NAME COMMAND...: the command returns 0; else a failure, with what it said.
holds() {
  local name=$1
  checks=$((checks + 1))
  "${@:2}" >"$scratch/out" 2>&1 && return
  failures=$((failures + 1))
  echo "FAILED $name: ${*:2}; said:"
  tail -n 20 "$scratch/out" | sed 's/^/  /'
}

# says NAME PATTERN: a line of what the last command said matches.
says() {
  checks=$((checks + 1))
  grep -qE -- "$2" "$scratch/out" && return
  failures=$((failures + 1))
  echo "FAILED $1: no line matches /$2/; said:"
  tail -n 20 "$scratch/out" | sed 's/^/  /'
}

# installed PREFIX: the tree of this build, in an empty folder; without it there is nothing to test.
installed() {
  holds 'cmake --install' cmake --install "$build_dir" --prefix "$1"
  [ "$failures" -eq 0 ] || exit 1
}

finish() {
  echo "$((checks - failures)) passed, $failures failed"
  [ "$failures" -eq 0 ]
}
