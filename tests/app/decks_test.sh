#!/usr/bin/env bash
# Every deck in inputs/ can be planned at the number of ranks that it names, fits there, and says what memory that takes to
# within a tenth. Usage: decks_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/common.sh"
cd "$source_dir" || exit 1

while read -r deck; do
  checks=$((checks + 1))
  ranks=$(sed -n 's/^# Ranks: \([0-9]*\).*/\1/p' "$deck")
  stated=$(sed -n 's/.*Memory: about \([0-9]*\) GiB.*/\1/p' "$deck")
  if ! "$program" plan "$deck" --ranks "${ranks:-4}" >"$scratch/out" 2>"$scratch/err"; then
    fail "$deck on ${ranks:-4} ranks"
    continue
  fi
  [ -n "$stated" ] || continue
  planned=$(awk '$1 == "together" { print $5 == "GiB" ? $4 : $2; exit }' "$scratch/out")
  awk -v a="$stated" -v b="$planned" 'BEGIN { exit !(a > 0.9 * b && a < 1.1 * b) }' ||
    fail "$deck states $stated GiB where the plan has $planned"
done < <(find inputs -name '*.ini' | sort)

finish
