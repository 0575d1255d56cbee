#!/usr/bin/env bash
# slurm/sites/moesaic.lua loaded by Lmod, from the installed tree and, with a prefix written into it, from a site's folder
# of modules. Usage: module_test.sh PROGRAM
set -uo pipefail
lmod=${LMOD_PKG:-/usr/share/lmod/lmod}/init/bash
if [ ! -r "$lmod" ]; then
  echo "skipped: no Lmod (Debian: lmod)"
  exit 77
fi
. "$(dirname "$0")/common.sh"
installed "$scratch/tree"

# loaded FOLDER NAME COMMAND...: in a shell that has loaded module NAME from FOLDER.
loaded() {
  # shellcheck disable=SC2016  # expanded by the inner shell
  env -u MOESAIC LMOD_SYSTEM_DEFAULT_MODULES= MODULEPATH="$1" bash -c '
    . "$1" && module load "$2" && shift 2 && "$@"' loaded "$lmod" "$2" "${@:3}"
}
settings() { printf '%s\n' "program $(command -v moesaic) and $MOESAIC" "$CMAKE_PREFIX_PATH" "$(ls "$MOESAIC_SHARE")"; }
unloaded() { module unload moesaic && [ -z "${MOESAIC:-}" ] && ! command -v moesaic; }
export -f settings unloaded

sites=$scratch/tree/share/moesaic/slurm/sites
holds 'load' loaded "$sites" moesaic settings
says 'PATH and MOESAIC' "^program $scratch/tree/bin/moesaic and $scratch/tree/bin/moesaic$"
says 'CMAKE_PREFIX_PATH' "^$scratch/tree(:|\$)"
says 'MOESAIC_SHARE' '^inputs$'
holds 'the program runs' loaded "$sites" moesaic moesaic --version
holds 'unload' loaded "$sites" moesaic unloaded
holds 'help' loaded "$sites" moesaic module --redirect help moesaic
says 'help says how to train' 'moesaic train DECK'

mkdir -p "$scratch/modules/moesaic"
sed "s|/opt/moesaic|$scratch/tree|" "$sites/moesaic.lua" >"$scratch/modules/moesaic/0.1.0.lua"
holds 'load by version' loaded "$scratch/modules" moesaic/0.1.0 moesaic --version
finish
