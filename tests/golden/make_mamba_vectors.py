#!/usr/bin/env python3
"""Writes mamba_hf/: a small random Hugging Face MambaModel under its own names, an input and its output in float64.

Needs torch==2.15.0, transformers==5.23.0 and safetensors==0.8.0 from PyPI (its naive path, on the CPU).
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import MambaConfig, MambaModel

FOLDER = pathlib.Path(__file__).parent / "mamba_hf"


def main():
    torch.manual_seed(1)
    config = MambaConfig(
        vocab_size=16, hidden_size=48, state_size=12, num_hidden_layers=3, expand=2, conv_kernel=4, time_step_rank=5
    )
    model = MambaModel(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("A_log"):
                value.add_(0.3 * torch.randn_like(value))  # fresh models have the same A in every channel
            elif value.ndim == 1:
                value.add_(0.2 * torch.randn_like(value))
            else:
                value.mul_(2.0)
    FOLDER.mkdir(exist_ok=True)
    save_file(model.state_dict(), FOLDER / "model.safetensors")
    (FOLDER / "config.json").write_text(json.dumps(config.to_dict(), indent=1, default=str) + "\n")

    inputs = torch.randn(1, 150, config.hidden_size)
    with torch.no_grad():
        output = model.double()(inputs_embeds=inputs.double(), use_cache=False).last_hidden_state
    vectors = {"input": inputs[0], "output": output[0].float()}
    save_file({name: value.contiguous() for name, value in vectors.items()}, FOLDER / "vectors.safetensors")


if __name__ == "__main__":
    main()
