"""Makes the case multi_token_prediction: DeepSeek-V3 with one depth of multi-token prediction (arXiv 2412.19437, section 2.2).

Everything is written out here in float64, from the papers, so that it can be checked line by line; gradients come from
PyTorch's autograd. Where Transformers is installed, the main model is compared with it; it has no such depth itself.

    python3 make_multi_token_prediction.py FOLDER [SEED]
"""
import json
import math
import os
import sys

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, linear, silu

WEIGHT = 0.3  # of the prediction's loss
BATCH, LENGTH, STEPS = 2, 64, 20
CONFIG = dict(
    architectures=["DeepseekV3ForCausalLM"], attention_bias=False, attention_dropout=0.0, bos_token_id=0, dtype="float32",
    eos_token_id=1, first_k_dense_replace=1, hidden_act="silu", hidden_size=32, initializer_range=0.02,
    intermediate_size=64, kv_lora_rank=16, max_position_embeddings=512, model_type="deepseek_v3", moe_intermediate_size=16,
    moe_layer_freq=1, n_group=4, n_routed_experts=8, n_shared_experts=1, norm_topk_prob=True, num_attention_heads=4,
    num_experts_per_tok=2, num_hidden_layers=2, num_key_value_heads=4, num_nextn_predict_layers=1, q_lora_rank=24,
    qk_nope_head_dim=8, qk_rope_head_dim=8, rms_norm_eps=1e-6, rope_theta=10000.0,
    rope_scaling=dict(beta_fast=32, beta_slow=1, factor=4.0, mscale=1.0, mscale_all_dim=1.0,
                      original_max_position_embeddings=128, type="yarn"),
    routed_scaling_factor=2.5, scoring_func="sigmoid", tie_word_embeddings=False, topk_group=2, topk_method="noaux_tc",
    v_head_dim=8, vocab_size=128)
LAYERS = CONFIG["num_hidden_layers"]
HIDDEN, VOCABULARY, EXPERTS = CONFIG["hidden_size"], CONFIG["vocab_size"], CONFIG["n_routed_experts"]
HEADS, PLAIN, ROTARY, VALUE = (CONFIG[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
DEPTH = f"model.layers.{LAYERS}."  # where the hub keeps the weights of the extra depth
COPIES = {DEPTH + "embed_tokens.weight": EMBEDDING, DEPTH + "shared_head.head.weight": HEAD}  # the hub stores them twice
margins = []  # by how much each choice of experts or groups was made


def shapes():
    """Of all tensors but the copies."""
    rank_q, rank_kv = CONFIG["q_lora_rank"], CONFIG["kv_lora_rank"]
    found = {EMBEDDING: (VOCABULARY, HIDDEN), HEAD: (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}

    def swiglu(at, width):
        found.update({at + "gate_proj.weight": (width, HIDDEN), at + "up_proj.weight": (width, HIDDEN),
                      at + "down_proj.weight": (HIDDEN, width)})

    for layer in range(LAYERS + 1):
        at = f"model.layers.{layer}."
        found.update({
            at + "input_layernorm.weight": (HIDDEN,), at + "post_attention_layernorm.weight": (HIDDEN,),
            at + "self_attn.q_a_proj.weight": (rank_q, HIDDEN), at + "self_attn.q_a_layernorm.weight": (rank_q,),
            at + "self_attn.q_b_proj.weight": (HEADS * (PLAIN + ROTARY), rank_q),
            at + "self_attn.kv_a_proj_with_mqa.weight": (rank_kv + ROTARY, HIDDEN),
            at + "self_attn.kv_a_layernorm.weight": (rank_kv,),
            at + "self_attn.kv_b_proj.weight": (HEADS * (PLAIN + VALUE), rank_kv),
            at + "self_attn.o_proj.weight": (HIDDEN, HEADS * VALUE)})
        if layer < CONFIG["first_k_dense_replace"]:
            swiglu(at + "mlp.", CONFIG["intermediate_size"])
            continue
        found.update({at + "mlp.gate.weight": (EXPERTS, HIDDEN), at + "mlp.gate.e_score_correction_bias": (EXPERTS,)})
        swiglu(at + "mlp.shared_experts.", CONFIG["moe_intermediate_size"])
        for expert in range(EXPERTS):
            swiglu(at + f"mlp.experts.{expert}.", CONFIG["moe_intermediate_size"])
    found.update({DEPTH + "enorm.weight": (HIDDEN,), DEPTH + "hnorm.weight": (HIDDEN,),
                  DEPTH + "eh_proj.weight": (HIDDEN, 2 * HIDDEN), DEPTH + "shared_head.norm.weight": (HIDDEN,)})
    return found


def norm(x, weight):
    return weight * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def yarn_angles(length):
    """[length, ROTARY / 2] (YaRN, arXiv 2309.00071); the factors of both mscales cancel in cosine and sine."""
    scaling, base = CONFIG["rope_scaling"], CONFIG["rope_theta"]
    pair = torch.arange(ROTARY // 2, dtype=torch.float64)
    frequency = base ** (-2 * pair / ROTARY)

    def pair_of(rotations):
        return ROTARY * math.log(scaling["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_of(scaling["beta_fast"])), 0)
    high = min(math.ceil(pair_of(scaling["beta_slow"])), ROTARY - 1)
    ramp = ((pair - low) / (high - low)).clamp(0, 1)
    frequency = frequency * (1 - ramp) + frequency / scaling["factor"] * ramp
    return torch.arange(length, dtype=torch.float64)[:, None] * frequency


def rotate(x, angles):
    """Interleaved pairs; x: [batch, length, heads, ROTARY]."""
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


def attention(w, at, x, visible):
    batch, length, _ = x.shape
    angles = yarn_angles(length)
    queries = linear(norm(linear(x, w[at + "q_a_proj.weight"]), w[at + "q_a_layernorm.weight"]), w[at + "q_b_proj.weight"])
    queries = queries.view(batch, length, HEADS, PLAIN + ROTARY)
    latents, rotary_keys = linear(x, w[at + "kv_a_proj_with_mqa.weight"]).split([CONFIG["kv_lora_rank"], ROTARY], -1)
    up = linear(norm(latents, w[at + "kv_a_layernorm.weight"]), w[at + "kv_b_proj.weight"])
    keys, values = up.view(batch, length, HEADS, PLAIN + VALUE).split([PLAIN, VALUE], -1)
    queries = torch.cat((queries[..., :PLAIN], rotate(queries[..., PLAIN:], angles)), -1)
    rotary_keys = rotate(rotary_keys[:, :, None], angles).expand(-1, -1, HEADS, -1)
    keys = torch.cat((keys, rotary_keys), -1)
    mscale = 0.1 * CONFIG["rope_scaling"]["mscale_all_dim"] * math.log(CONFIG["rope_scaling"]["factor"]) + 1
    scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys) * (mscale * mscale / math.sqrt(PLAIN + ROTARY))
    weights = scores.masked_fill(~visible[:, None], -math.inf).softmax(-1)
    return linear(torch.einsum("bhqk,bkhd->bqhd", weights, values).flatten(-2), w[at + "o_proj.weight"])


def swiglu(w, at, x):
    return linear(silu(linear(x, w[at + "gate_proj.weight"])) * linear(x, w[at + "up_proj.weight"]), w[at + "down_proj.weight"])


def best(scores, count):
    """The `count` best of each row, and how close the choice was."""
    ordered = scores.detach().sort(-1, descending=True).values
    margins.append((ordered[:, count - 1] - ordered[:, count]).min().item())
    return scores.topk(count, -1).indices


def experts(w, at, x):
    scores = linear(x, w[at + "gate.weight"]).sigmoid()
    choice = (scores + w[at + "gate.e_score_correction_bias"]).detach()
    groups = choice.view(len(x), CONFIG["n_group"], -1)
    kept = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter_(1, best(groups.topk(2, -1).values.sum(-1), CONFIG["topk_group"]), True)
    choice = groups.masked_fill(~kept[..., None], -1.0).flatten(1)
    chosen = best(choice, CONFIG["num_experts_per_tok"])
    weights = scores.gather(1, chosen)
    weights = CONFIG["routed_scaling_factor"] * weights / weights.sum(-1, keepdim=True)
    y = swiglu(w, at + "shared_experts.", x)
    for expert in range(EXPERTS):
        token, slot = (chosen == expert).nonzero(as_tuple=True)
        y = y.index_add(0, token, weights[token, slot, None] * swiglu(w, at + f"experts.{expert}.", x[token]))
    return y


def block(w, layer, x, visible):
    at = f"model.layers.{layer}."
    x = x + attention(w, at + "self_attn.", norm(x, w[at + "input_layernorm.weight"]), visible)
    inner = norm(x, w[at + "post_attention_layernorm.weight"])
    if layer < CONFIG["first_k_dense_replace"]:
        return x + swiglu(w, at + "mlp.", inner)
    return x + experts(w, at + "mlp.", inner.flatten(0, 1)).view_as(x)


def main_model(w, ids, visible):
    """Hidden states (the last one after the final norm) and logits."""
    out = {}
    x = w[EMBEDDING][ids]
    for layer in range(LAYERS):
        out[f"hidden.{layer}"] = x
        x = block(w, layer, x, visible)
    x = out[f"hidden.{LAYERS}"] = norm(x, w["model.norm.weight"])
    out["logits"] = linear(x, w[HEAD])
    return out


def losses(w, tokens, documents=None, counted=None):
    """tokens [batch, length + 1]. Label t + 1 counts when it is marked and its document is that of t; for the extra depth
    token t + 2, when t, t + 1 and t + 2 are of one document."""
    ids, following = tokens[:, :-1], tokens[:, 1:]
    counts = torch.ones_like(following, dtype=torch.bool) if counted is None else counted[:, 1:].bool()
    same = torch.ones_like(counts) if documents is None else documents[:, 1:] == documents[:, :-1]
    labels = following.masked_fill(~(counts & same), -100)
    further = torch.full_like(labels, -100)
    further[:, :-1] = labels[:, 1:].masked_fill(~same[:, :-1], -100)

    length = ids.shape[1]
    visible = torch.ones(length, length).tril().bool().expand(len(ids), -1, -1)
    if documents is not None:
        visible = visible & (documents[:, :length, None] == documents[:, None, :length])

    out = main_model(w, ids, visible)
    out["loss"] = cross_entropy(out["logits"].flatten(0, 1), labels.flatten())
    # h' = M [norm(Emb(t_{i+1})); norm(h_i)]: h_i behind the main model's last norm, in the order of the hub's weights
    joined = torch.cat((norm(w[EMBEDDING][following], w[DEPTH + "enorm.weight"]),
                        norm(out[f"hidden.{LAYERS}"], w[DEPTH + "hnorm.weight"])), -1)
    x = block(w, LAYERS, linear(joined, w[DEPTH + "eh_proj.weight"]), visible)
    out["prediction.hidden"] = norm(x, w[DEPTH + "shared_head.norm.weight"])
    out["prediction.logits"] = linear(out["prediction.hidden"], w[HEAD])
    out["prediction.loss"] = cross_entropy(out["prediction.logits"].flatten(0, 1), further.flatten())
    out["total"] = out["loss"] + WEIGHT * out["prediction.loss"]
    return out


def gradients(w, *batch):
    for value in w.values():
        value.grad = None
    out = losses(w, *batch)
    out["total"].backward()
    learned = {name: value for name, value in w.items() if value.requires_grad}
    out["grad_norm"] = torch.sqrt(sum((value.grad**2).sum() for value in learned.values()))
    return {name: value.detach() for name, value in out.items()}, learned


def train(w, tokens):
    """AdamW, lr 1e-3, betas 0.9 and 0.95, eps 1e-8, decay 0.1 on every parameter, clipping at 1."""
    curve = {"train.loss": [], "train.prediction_loss": [], "train.grad_norm": []}
    first, second = {}, {}
    for step in range(1, STEPS + 1):
        out, learned = gradients(w, tokens[step - 1])
        for key, name in zip(curve, ("loss", "prediction.loss", "grad_norm")):
            curve[key].append(out[name].item())
        scale = min(1.0, 1.0 / (out["grad_norm"].item() + 1e-6))
        with torch.no_grad():
            for name, value in learned.items():
                g = scale * value.grad
                first[name] = 0.9 * first.get(name, 0) + 0.1 * g
                second[name] = 0.95 * second.get(name, 0) + 0.05 * g * g
                value *= 1 - 1e-3 * 0.1
                value -= 1e-3 * (first[name] / (1 - 0.9**step)) / (torch.sqrt(second[name] / (1 - 0.95**step)) + 1e-8)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in curve.items()}


def initial(seed):
    """Rounded to float32, as they are stored. Scaled so that every part of the model matters."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name, shape):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("e_score_correction_bias"):
            return 0.05 * values
        if len(shape) == 1:
            return 1 + 0.1 * values
        return values * (0.5 if "embed" in name else 1.5 if "gate.weight" in name else 1) / math.sqrt(shape[1] if "embed" not in name else 1)

    w = {name: draw(name, shape).float().double() for name, shape in shapes().items()}
    for name, value in w.items():
        value.requires_grad_(not name.endswith("e_score_correction_bias"))
    # A walk over the vocabulary, so that there is something to learn.
    steps = torch.randint(1, 6, (STEPS, BATCH, LENGTH + 1), generator=generator)
    return w, steps.cumsum(-1).remainder(VOCABULARY)


def compare_with_transformers(w, tokens, ours):
    try:
        import transformers
    except ImportError:
        return "Transformers is not here"
    config = transformers.DeepseekV3Config(**{k: v for k, v in CONFIG.items() if k not in ("architectures", "model_type", "dtype")})
    model = transformers.DeepseekV3ForCausalLM._from_config(config, attn_implementation="eager",
                                                         experts_implementation="eager", dtype=torch.float64)
    state = {name: value.detach() for name, value in w.items() if not name.startswith(DEPTH)}
    for layer in range(CONFIG["first_k_dense_replace"], LAYERS):  # its experts are one tensor
        at = f"model.layers.{layer}.mlp.experts."
        take = lambda part: torch.stack([state.pop(f"{at}{e}.{part}.weight") for e in range(EXPERTS)])
        state[at + "gate_up_proj"] = torch.cat((take("gate_proj"), take("up_proj")), 1)
        state[at + "down_proj"] = take("down_proj")
    model.load_state_dict(state, strict=True)
    theirs = model.double()(tokens[:, :-1]).logits.detach()
    apart = ((theirs - ours).norm() / ours.norm()).item()
    assert apart < 1e-6, apart
    return f"logits of the main model {apart:.1e} from those of Transformers"


def main(folder, seed):
    w, tokens = initial(seed)
    stored = {name: value.detach().float().clone() for name, value in w.items()}
    stored.update({copy: stored[original].clone() for copy, original in COPIES.items()})

    # Packed: documents of uneven length, one ends with the row, one is a single token; some labels are not marked.
    generator = torch.Generator().manual_seed(seed + 1)
    documents = (torch.rand(BATCH, LENGTH + 1, generator=generator) < 0.15).cumsum(-1)
    documents[0, 20] += 100
    counted = (torch.rand(BATCH, LENGTH + 1, generator=generator) < 0.8).int()
    packed, _ = gradients(w, tokens[0], documents, counted)
    out, learned = gradients(w, tokens[0])
    print(compare_with_transformers(w, tokens[0], out["logits"]))
    grads = {name: value.grad.float().clone() for name, value in learned.items()}

    reference = {name: value if value.dim() == 0 else value.float() for name, value in out.items()}
    reference.update(input_ids=tokens[0, :, :-1].int(), labels=tokens[0, :, 1:].int())
    reference.update({"packed.document": documents.int(), "packed.loss_mask": counted})
    reference.update({f"packed.{name}": packed[name] for name in ("loss", "prediction.loss", "grad_norm")})
    reference["train.tokens"] = tokens.int()
    reference.update(train(w, tokens))
    print(f"seed {seed}: closest choice {min(margins):.1e}; losses", [round(x, 4) for x in reference["train.loss"].tolist()],
          [round(x, 4) for x in reference["train.prediction_loss"].tolist()])

    os.makedirs(os.path.join(folder, "grads"), exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(CONFIG, file, indent=2)
        file.write("\n")
    save = lambda tensors, name: save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, name))
    save(stored, "model.safetensors")
    save(grads, "grads/model.safetensors")
    save(reference, "reference.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
