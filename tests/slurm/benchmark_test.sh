#!/usr/bin/env bash
# slurm/benchmark.sbatch: a row a deck, the median of the steps after the fifth. Usage: benchmark_test.sh PROGRAM
source "$(dirname "$0")/scenario.sh" "$1"

# What belongs to training proper must not be in a benchmark's way.
sed -i -e 's/^lr = .*/&\nwarmup = 50/' -e 's/^sequence = .*/&\nvalidation = 1\nvalidate_every = 10/' "$scratch/deck.ini"
sed "s|^\[run\]|&\ndirectory = $scratch/unused|" "$scratch/deck.ini" >"$scratch/second.ini"
mv "$scratch/deck.ini" "$scratch/first.ini"
job=$(STEPS=8 submit benchmark --chdir="$scratch" "$source_dir/slurm/benchmark.sbatch" first.ini second.ini)
until_true 60 ended "$job" || fail benchmark "it did not end"
[ "$(job_result "$job")" = 'COMPLETED 0:0 0' ] || fail benchmark "$(scontrol show job "$job")"
table=$scratch/benchmark-$job/table.md
# Of steps 6, 7 and 8 the median is the second.
seconds=$(sed -nE '6,8s/.*"seconds": ([^,}]+).*/\1/p' "$scratch/benchmark-$job/first/metrics.jsonl" | sort -g | sed -n 2p)
grep -qF "| first | ${seconds:-none} | " "$table" || fail benchmark "no row of the first deck: $(cat "$table")"
grep -q '^| second | [0-9.e-]* | [0-9.e+]* | [0-9.e-]* | [0-9]* |$' "$table" ||
  fail benchmark "no row of the second deck: $(cat "$table")"
[ ! -e "$scratch/unused" ] || fail benchmark "the deck's own run directory was used"
[ "$failures" -eq 0 ] && echo "two rows"
