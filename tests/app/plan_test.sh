#!/usr/bin/env bash
# What `moesaic plan` prints and refuses. Usage: plan_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/common.sh"
deck=$scratch/deck.ini
cd "$source_dir" || exit 1

# plans NAME STATUS PATTERN ARGUMENT...: that exit status and a line of output that matches PATTERN.
plans() {
  local name=$1 wanted=$2 pattern=$3 status
  shift 3
  checks=$((checks + 1))
  launch 0 plan "$@"
  status=$?
  if [ "$status" -ne "$wanted" ] || ! grep -qE -- "$pattern" "$scratch/out"; then
    fail "$name: status $status, wanted $wanted and /$pattern/"
  fi
}

# says NAME PATTERN: another line of the same output.
says() {
  checks=$((checks + 1))
  grep -qE -- "$2" "$scratch/out" || fail "$1: no /$2/"
}

# refuses NAME PATTERN ARGUMENT...: status 2 and one line of error that matches PATTERN.
refuses() {
  local name=$1 pattern=$2 status
  shift 2
  checks=$((checks + 1))
  launch 0 plan "$@"
  status=$?
  if [ "$status" -ne 2 ] || [ "$(grep -c . "$scratch/err")" -ne 1 ] || ! grep -qE -- "^error: .*$pattern" "$scratch/err"; then
    fail "$name: status $status, wanted 2 and /$pattern/"
  fi
}

four_stages=(inputs/quickstart.ini --ranks 4 grid.pipeline=4 grid.expert=1 train.global_batch=6 train.micro_batch=1)
plans 'four stages' 0 '^model +qwen3_moe, 4 layers and hidden 128: 3.41M parameters' "${four_stages[@]}"
says 'the active parameters' '^  active +[0-9.]+[MK] a token, with the input embedding '
says 'the grid' '^  dense +pipeline 4 x replicate 1 x shard 1 x context 1$'
says 'the stages' '^  stage 3 +[0-9.]+ % of the work: layer 3, head$'
says 'memory by term' '^  moments +[0-9.]+ MiB +[0-9.]+ MiB  '
says 'memory together' '^  together +[0-9.]+ MiB +[0-9.]+ MiB  with the gaps'
says 'FLOPs' '^  a token +6.8813 MFLOP$'
says 'the exchange' '^  pipeline +[0-9.]+ KiB  within a node$'
says 'the idle share' '^schedule 1f1b: 33.3 % idle'
says 'the drawing' '^stage 3 \| .  .  .  F0 B0--- F1 B1--- F2 B2--- F3 B3--- F4 B4--- F5 B5--- .  .  .  .  .  .$'
plans 'full receive buffers' 0 '^  experts at the bound +[0-9.]+ MiB +[0-9.]+ MiB  were all MoE layers at moe.receive_bound = 3$' \
  inputs/quickstart.ini --ranks 4 grid.expert=4 run.device=auto moe.receive_bound=3
plans 'without the input embedding' 0 '^  active +36\.6B a token, without the input embedding ' inputs/pretrain/deepseek-v3-256.ini \
  --ranks 256
says 'what is left out' '^  left out +multi-token prediction '
# Between what even routing takes (27 MiB) and what full receive buffers do (38).
plans 'too full receive buffers' 0 '^  experts at the bound ' inputs/quickstart.ini --ranks 4 grid.expert=4 run.device=auto \
  moe.receive_bound=3 run.device_memory=32Mi
checks=$((checks + 1))
grep -q '^warning: were all MoE layers at moe.receive_bound = 3, a rank would need ' "$scratch/err" ||
  fail 'no warning of full receive buffers'
refuses 'more stages' 'do: .*grid.pipeline=4' inputs/pretrain/qwen3-235b-a22b.ini --ranks 4096 run.device_memory=20e9
# The drawings of the documentation are the program's.
for schedule in 1f1b zero_bubble; do
  plans "drawing of $schedule" 0 "^schedule $schedule:" "${four_stages[@]}" grid.schedule="$schedule"
  checks=$((checks + 1))
  grep '^stage . |' "$scratch/out" | sed 's/^/    /' >"$scratch/drawing"
  if ! grep -qFf "$scratch/drawing" docs/parallelism.md ||
    [ "$(grep -cxFf "$scratch/drawing" docs/parallelism.md)" -ne 4 ]; then
    fail "docs/parallelism.md draws $schedule otherwise"
  fi
done
checks=$((checks + 1))
[ "$(grep -v '^stage . |' "$scratch/out" | awk 'length > 100' | wc -l)" -eq 0 ] || fail 'lines of more than 100 columns'

plans 'both values of reduce' 0 '^  step +[0-9.]+ [KM]iB  and ' inputs/quickstart.ini --ranks=4 train.micro_batch=1
says 'experts of a rank' '^a rank +2 of 8 experts a layer, 1/4 of each dense parameter, whole sequences$'
plans 'context' 0 '2 of 8 blocks of each sequence$' inputs/quickstart.ini --ranks 8 grid.context=4
plans 'a GPU unless the deck says otherwise' 0 '^storage +bf16;' "$deck" --ranks 2
plans 'the CPU' 0 '^storage +fp32;' "$deck" --ranks 2 run.device=cpu
plans 'thousands of ranks' 0 '^ranks +4096 on 512 nodes$' inputs/quickstart.ini --ranks 4096 train.global_batch=4096
plans 'neither weights nor tokens are read' 0 '^model' inputs/quickstart.ini --ranks 4 data.path=/nowhere
plans 'a node of four' 0 '^  expert +[0-9.]+ MiB  between nodes$' inputs/quickstart.ini --ranks 8 grid.expert=8 \
  --ranks-per-node 4
checks=$((checks + 1))
grep -q '^warning: an expert group of 8 ranks leaves the node of 4 ' "$scratch/err" || fail 'no warning of wide experts'
plans 'a node of eight' 0 '^  expert +[0-9.]+ MiB  within a node$' inputs/quickstart.ini --ranks 8 grid.expert=8
checks=$((checks + 1))
[ ! -s "$scratch/err" ] || fail 'a warning without reason'
checks=$((checks + 1))
[ ! -e "$scratch/run" ] || fail 'plan wrote something'

refuses 'no deck' 'needs a deck' --ranks 4
refuses 'no ranks' 'needs --ranks N' "$deck"
refuses 'ranks without a number' '--ranks is the last word' "$deck" --ranks
refuses 'no number of ranks' '--ranks = many is not an integer' "$deck" --ranks many
refuses 'no ranks at all' '--ranks = 0 is no number of ranks' "$deck" --ranks 0
refuses 'negative ranks' '--ranks = -4 is no number of ranks' "$deck" --ranks=-4
refuses 'too many ranks' '--ranks = 1e12 is no number of ranks' "$deck" --ranks 1e12
refuses 'two numbers of ranks' '--ranks is given twice' "$deck" --ranks 4 --ranks 5
refuses 'no node' '--ranks-per-node = 0 is no number' "$deck" --ranks 4 --ranks-per-node 0
refuses 'a missing deck' 'nothing.ini cannot be read' "$scratch/nothing.ini" --ranks 4
refuses 'an unknown key' 'did you mean train.steps' "$deck" --ranks 4 train.stesp=3
refuses 'a grid that cannot be' 'nearest legal' "$deck" --ranks 4 grid.pipeline=3
refuses 'experts that do not divide' 'grid.expert' "$deck" --ranks 3 grid.expert=3
refuses 'too small a device' 'needs .* and run.device_memory is 1.00 MiB \(largest: ' "$deck" --ranks 1 run.device_memory=1Mi
refuses 'too large a micro-batch' 'do: .*train.micro_batch=2048' "$deck" --ranks 1 train.global_batch=4096 train.micro_batch=4096 \
  run.device_memory=1e9

finish
