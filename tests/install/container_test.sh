#!/usr/bin/env bash
# tools/container/moesaic.def without a container: the files that it copies are enough to configure, it installs the list of
# packages that all others install, and its deck is there. Usage: container_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/common.sh"
cd "$(dirname "$0")/../.." || exit 1
definition=tools/container/moesaic.def

# section NAME: its lines, with the arguments' first values for {{ NAME }}.
section() {
  sed -n "/^%$1\$/,/^\$/p" "$definition" | sed -E '1d; s/\{\{ cuda \}\}/OFF/; s/\{\{ march \}\}/x86-64-v3/'
}

mkdir "$scratch/source"
for file in $(section files | awk '{ print $1 }'); do
  holds "copy $file" cp -r "$file" "$scratch/source/"
done
section post >"$scratch/post"
compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build_dir/CMakeCache.txt")
configure=$(sed -n '/cmake -G/,/[^\\]$/p' "$scratch/post" | sed "s|/opt/build|$scratch/build -DCMAKE_CXX_COMPILER=$compiler|")
configures() { cd "$scratch/source" && eval "$configure"; }

holds 'the command that configures' test -n "$configure"
holds 'it configures' configures
holds 'its packages are those of tools/packages.txt' grep -qx ' *tools/setup build' "$scratch/post"
holds 'the deck of its test' test -f "$(section test | grep -oE 'inputs/[a-z]*\.ini')"
finish
