#!/usr/bin/env bash
# Whatever moesaic needs is known to CMake, to Debian's list, to the Spack recipe and to spack.yaml: what those files ask
# for is compared, both ways, with the rows of dependencies.txt, and the one file that is fetched by its hash has one hash.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
table=tests/install/dependencies.txt
recipe=tools/spack/spack_repo/moesaic/packages/moesaic/package.py
front_end=tools/spack/spack_repo/moesaic/packages/cudnn_frontend/package.py
failures=0

# column N: its names, one a line.
column() { awk -v column="$1" '!/^#/ && NF { print $column }' "$table" | tr ',' '\n' | grep -vx -- -; }

cmake_names() {
  grep -vhE '^ *#' CMakeLists.txt ./*/CMakeLists.txt cmake/*.cmake |
    grep -oE 'find_(package|path|library|program)\([A-Za-z0-9_]+' | cut -d '(' -f 2
}
debian_names() { sed -n '/^\[build\]/,/^$/ { s/[ \t]*#.*//; /^\[/d; /./p }' tools/packages.txt; }
recipe_names() { grep -oE 'depends_on\(f?"[a-z0-9-]+' "$recipe" | cut -d '"' -f 2; }
environment_names() { sed -nE '/^  specs:/,/^$/ s/^ *- "([a-z0-9-]+).*/\1/p' spack.yaml | grep -vx moesaic; }
# Spack takes from Debian what Debian installs; the compiler is found by `spack compiler find`.
external_names() { sed -nE '/^  packages:/,$ s/^    ([a-z0-9-]+):$/\1/p' tools/spack/debian.yaml | grep -vx all; }
from_debian() { awk '!/^#/ && $2 != "-" && $4 != "-" { print $4 }' "$table"; }

# compare FILE EXPECTED FOUND: two lists of names, in any order.
compare() {
  local difference
  difference=$(diff <(sort -u <<<"$2") <(sort -u <<<"$3"))
  [ -n "$3" ] && [ -z "$difference" ] && return
  failures=$((failures + 1))
  echo "FAILED $1 ('<' it lacks this, '>' only it has this; $table has a row for each dependency):"
  grep '^[<>]' <<<"$difference"
}

compare 'cmake/ and CMakeLists.txt' "$(column 1)" "$(cmake_names)"
compare 'tools/packages.txt' "$(column 2)" "$(debian_names)"
compare "$recipe" "$(column 3)" "$(recipe_names)"
compare 'spack.yaml' "$(column 4)" "$(environment_names)"
compare 'tools/spack/debian.yaml' "$(from_debian)" "$(external_names)"
compare "$front_end" "$(sed -nE 's/.*==([0-9.]+) --hash=sha256:([0-9a-f]+).*/\1\n\2/p' tools/cudnn_frontend.txt)" \
  "$(sed -nE 's/^ +("|sha256=")([0-9a-f.]+)",$/\2/p' "$front_end")"
echo "$((6 - failures)) passed, $failures failed"
[ "$failures" -eq 0 ]
