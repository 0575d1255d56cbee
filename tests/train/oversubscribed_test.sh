#!/usr/bin/env bash
# 64 ranks on one machine, all cuts at once: pipeline 4 x context 2 x shard 8, experts over 8. One step has the loss of one
# rank, within 5e-6. Usage: oversubscribed_test.sh PROGRAM
set -uo pipefail
. "$(dirname "$0")/../app/common.sh"
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1

cat >"$scratch/small.json" <<JSON
{
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
  "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
  "num_local_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "intermediate_size": 32, "norm_topk_prob": true,
  "decoder_sparse_step": 1, "mlp_only_layers": [], "hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-6,
  "max_position_embeddings": 64, "rope_theta": 10000.0, "tie_word_embeddings": false, "router_aux_loss_coef": 0.01
}
JSON

# loss RANKS KEY=VALUE...: of one step of 16 sequences.
loss() {
  local ranks=$1
  shift
  launch "$ranks" train "$scratch/deck.ini" model.init=random model.config="$scratch/small.json" data.sequence=16 \
    train.steps=1 train.global_batch=16 run.directory="$scratch/run$ranks" run.watchdog=300 "$@" || return
  sed -E 's/.*"loss": ([^,]+),.*/\1/' "$scratch/run$ranks/metrics.jsonl"
}

renice -n 19 $$ >/dev/null # its children too: 64 ranks must not take the machine from others
checks=1
one=$(loss 1) || fail "one rank does not train"
many=$(loss 64 grid.pipeline=4 grid.context=2 grid.expert=8 grid.shard=8) || fail "64 ranks do not train"
awk -v one="$one" -v many="$many" 'BEGIN { error = many / one - 1; exit !(one > 1 && error < 5e-6 && error > -5e-6) }' ||
  fail "loss $many on 64 ranks, $one on one"
echo "loss $many on 64 ranks, $one on one"
finish
