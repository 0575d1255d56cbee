"""Makes the case glm4_moe: a small GLM-4.5 (arXiv 2508.06471) of Hugging Face Transformers, in float64.

    python3 make_glm4_moe.py FOLDER [SEED]
"""
import math
import os
import sys

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

BATCH, LENGTH = 2, 64
CONFIG = transformers.Glm4MoeConfig(
    architectures=["Glm4MoeForCausalLM"], attention_bias=True, dtype="float32", first_k_dense_replace=1, head_dim=8,
    hidden_size=32, intermediate_size=48, max_position_embeddings=128, moe_intermediate_size=16, n_routed_experts=8,
    num_attention_heads=4, num_experts_per_tok=2, num_hidden_layers=3, num_key_value_heads=2, num_mtp_layers=0,
    routed_scaling_factor=2.0, use_qk_norm=True, vocab_size=64, rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))
FUSED = {".mlp.experts.gate_up_proj": ("gate_proj", "up_proj"), ".mlp.experts.down_proj": ("down_proj",)}


def as_on_the_hub(tensors):
    """A tensor an expert and projection, where the model has one for all."""
    found = {}
    for name, tensor in tensors.items():
        parts = next((parts for ending, parts in FUSED.items() if name.endswith(ending)), None)
        if parts is None:
            found[name] = tensor
            continue
        for expert, matrix in enumerate(tensor):
            for part, rows in zip(parts, matrix.chunk(len(parts))):
                found[f"{name.rsplit('.', 1)[0]}.{expert}.{part}.weight"] = rows
    return {name: tensor.detach().float().contiguous().clone() for name, tensor in found.items()}


def draw(model, generator):
    """Rounded to float32, as they are stored. Scaled so that every part of the model matters."""
    for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
        if "inv_freq" in name:
            continue
        values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith(".bias"):
            values *= 0.2
        elif name.endswith("e_score_correction_bias"):
            values *= 0.05
        elif tensor.dim() == 1:
            values = 1 + 0.1 * values
        else:
            values *= 0.5 if "embed" in name else (1.5 if "gate.weight" in name else 1) / math.sqrt(tensor.shape[-1])
        with torch.no_grad():
            tensor.copy_(values.float())


def closest_choice(model, ids):
    """By how much the last chosen expert is ahead of the next."""
    margins = []

    def listen(router, inputs, outputs):
        scores = outputs[0].sigmoid() + router.e_score_correction_bias
        best = scores.topk(router.top_k + 1).values
        margins.append((best[:, -2] - best[:, -1]).min().item())

    hooks = [layer.mlp.gate.register_forward_hook(listen) for layer in model.model.layers if hasattr(layer.mlp, "gate")]
    model(ids)
    for hook in hooks:
        hook.remove()
    return min(margins)


def main(folder, seed):
    generator = torch.Generator().manual_seed(seed)
    model = transformers.Glm4MoeForCausalLM._from_config(
        CONFIG, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64).double()
    draw(model, generator)
    ids = torch.randint(0, CONFIG.vocab_size, (BATCH, LENGTH + 1), generator=generator)
    out = model(ids[:, :-1], output_hidden_states=True)
    loss = cross_entropy(out.logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    norm = math.sqrt(sum((g * g).sum().item() for g in gradients.values()))
    print(f"Transformers {transformers.__version__}, seed {seed}: loss {loss.item():.6f}, gradient norm {norm:.6f}, "
          f"closest choice {closest_choice(model, ids[:, :-1]):.1e}")

    reference = {f"hidden.{i}": hidden.detach().float() for i, hidden in enumerate(out.hidden_states)}
    reference.update(input_ids=ids[:, :-1].int(), labels=ids[:, 1:].int(), logits=out.logits.detach().float(),
                     loss=loss.detach(), grad_norm=torch.tensor(norm, dtype=torch.float64))
    os.makedirs(os.path.join(folder, "grads"), exist_ok=True)
    CONFIG.dtype = "float32"  # as stored
    CONFIG.to_json_file(os.path.join(folder, "config.json"))
    state = {name: tensor for name, tensor in model.state_dict().items() if "inv_freq" not in name}
    save_file(as_on_the_hub(state), os.path.join(folder, "model.safetensors"))
    save_file(as_on_the_hub(gradients), os.path.join(folder, "grads", "model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in reference.items()},
              os.path.join(folder, "reference.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
