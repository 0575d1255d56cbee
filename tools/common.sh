# shellcheck shell=bash
# Sourced by the scripts of this folder: where things are, and Open MPI on any machine.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cores=$(nproc)
cd "$repository"

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Prints the preset that suits this machine.
default_preset() {
  if command -v nvcc >/dev/null; then echo hopper; else echo reference; fi
}

# configure_and_build PRESET [TARGET]: everything without a target. Reports go to stderr.
configure_and_build() {
  local preset=$1 target=${2:-all}
  say "building $target in build/$preset"
  cmake --preset "$preset" >&2
  cmake --build "build/$preset" --parallel "$cores" --target "$target" >&2
}

# More ranks than cores, as root in a container, without looking for displays. Values that are set already win.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle-1}"
export HWLOC_COMPONENTS="${HWLOC_COMPONENTS--gl}"
# A filter of system calls (most containers have one) may forbid one rank to read the memory of another.
if grep -qs '^Seccomp:[[:space:]]*2' /proc/self/status; then
  export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism-none}"
fi
