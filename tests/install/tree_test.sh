#!/usr/bin/env bash
# The tree of `cmake --install`: installed into an empty folder and moved, it trains, and the library in it links into
# another project, with the source and the build out of reach. Usage: tree_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/common.sh"
source_dir=$(cd "$(dirname "$0")/../.." && pwd -P)

cp -r "$source_dir/tests/install/consumer" "$scratch/consumer"
installed "$scratch/first"
mv "$scratch/first" "$scratch/moved"
prefix=$scratch/moved

# away COMMAND...: with empty folders mounted over the source and the build, seen by this command only.
if unshare --mount true 2>/dev/null; then
  away() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    unshare --mount bash -c 'for dir in "$1" "$2"; do
      [ ! -d "$dir" ] || mount -t tmpfs none "$dir" || exit; done; shift 2; exec "$@"' away "$source_dir" "$build_dir" "$@"
  }
  holds 'the source is out of reach' away test ! -e "$source_dir/CMakeLists.txt"
else
  echo "no mount namespaces here: the source is not hidden"
  away() { "$@"; }
fi

trains() {
  cd "$prefix/share/moesaic" || return
  away env -u LD_LIBRARY_PATH mpirun -n 2 --oversubscribe --bind-to none \
    "$prefix/bin/moesaic" train inputs/smoke.ini run.directory="$scratch/run"
}
complete() { [ "$(cat "$scratch/run/status")" = 'complete 3' ]; }

for file in slurm/train.sbatch slurm/sites/example.env docs/design.md; do
  holds "there is $file" test -s "$prefix/share/moesaic/$file"
done
holds 'the job script can be executed' test -x "$prefix/share/moesaic/slurm/train.sbatch"
holds 'it trains' trains
holds 'the run is complete' complete

linked() { ! grep -rl -e "$source_dir" -e "$build_dir" "$prefix/lib/cmake"; }
holds 'the CMake package names no path of the build' linked
mapfile -t found < <(grep -E '^(CMAKE_(C|CXX|CUDA)_COMPILER|(NCCL|CUDNN)_[A-Z_]*):' "$build_dir/CMakeCache.txt" | sed 's/^/-D/')
holds 'find_package(moesaic)' away cmake -G Ninja -S "$scratch/consumer" -B "$scratch/consumer/build" \
  "${found[@]}" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
holds 'another project links' away cmake --build "$scratch/consumer/build"
holds 'one room alone runs' "$scratch/consumer/build/block"
says 'it is the second block of ten in four' '^block 3 6$'
holds 'all rooms run' "$scratch/consumer/build/consumer"
finish
