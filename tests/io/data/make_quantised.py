"""Writes quantised.safetensors beside itself: quantised weights and what PyTorch and Transformers read in them."""

import pathlib

import torch
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

torch.manual_seed(1)
tensors = {}

# Every code of FP8 E4M3.
codes = torch.arange(256, dtype=torch.uint8)
tensors["codes"] = codes
tensors["codes.numbers"] = codes.view(torch.float8_e4m3fn).float()

# A matrix in 128 x 128 blocks, the last ones incomplete.
weight = torch.randn(150, 140).to(torch.float8_e4m3fn)
scales = torch.rand(2, 2) * 0.01
tensors["fp8.weight"] = weight
tensors["fp8.weight_scale_inv"] = scales
whole = scales.repeat_interleave(128, 0)[:150].repeat_interleave(128, 1)[:, :140]
tensors["numbers.fp8.weight"] = weight.float() * whole

# Two experts in MXFP4, 6 rows of 3 groups.
blocks = torch.randint(0, 256, (2, 6, 3, 16), dtype=torch.uint8)
exponents = torch.randint(110, 140, (2, 6, 3), dtype=torch.uint8)
tensors["mxfp4_blocks"] = blocks
tensors["mxfp4_scales"] = exponents
tensors["numbers.mxfp4"] = convert_moe_packed_tensors(blocks, exponents).float()

save_file(tensors, pathlib.Path(__file__).parent / "quantised.safetensors")
