"""Designs: simulated runs for any law, at inputs like those of published runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

RANGES = {
    "n_params": (3e7, 3e9),
    "n_tokens": (1e9, 2e11),
    "flops": (1e18, 1e21),
    "n_samples": (1e3, 1e6),
    "unique_tokens": (1e9, 2e10),
    "unique_samples": (1e3, 5e4),
    "tokens_per_param": (5.0, 500.0),
    "n_chars": (1e9, 1e12),
    "n_steps": (1e3, 1e6),
    "batch_tokens": (1e5, 4e6),
    "lr": (1e-4, 1e-2),
    "reached_loss": (2.0, 4.0),
    "teacher_loss": (1.8, 2.6),
    "width": (256.0, 4096.0),
    "depth": (4.0, 40.0),
    "n_experts": (2.0, 128.0),
    "granularity": (1.0, 32.0),
    "active_share": (0.03, 0.9),
    "p_streams": (1.0, 8.0),
    "vocab_size": (4e3, 1e5),
    "n_encoder": (1e7, 1e9),
    "n_decoder": (1e7, 1e9),
    "group_size": (16.0, 512.0),
    "bits": (2.0, 8.0),
    "bits_weight": (3.0, 16.0),
    "bits_act": (3.0, 16.0),
    "bits_cache": (3.0, 16.0),
    "exponent_bits": (1.0, 5.0),
    "mantissa_bits": (1.0, 8.0),
    "block_size": (16.0, 512.0),
    "model_bits": (1e8, 1e11),
    "accelerator_hours": (1.0, 1e3),
    "x": (1e18, 1e20),
    "equivalent_flops": (1e20, 1e24),
    "n_tasks": (8.0, 2000.0),
    "task_loss": (0.6, 1.4),
    "demand": (1.0, 10.0),
    "ability": (1.0, 10.0),
    "datastore_tokens": (1e8, 1e12),
    "samples_per_problem": (1.0, 1e3),
    "thinking_tokens": (500.0, 3e4),
    "task_length": (1.0, 1e3),
    "n_frames": (1.0, 80.0),
    "n_captions": (1.0, 10.0),
    "controlled_tokens": (1.0, 32.0),
    "forced_tokens": (1.0, 256.0),
    "draft_tokens": (1.0, 8.0),
    "draft_params": (1e7, 1e9),
    "batch": (1.0, 64.0),
    "root_kl": (0.5, 5.0),
    "n_languages": (1.0, 12.0),
    "kept_share": (0.1, 0.9),
    "transport_distance": (0.1, 1.0),
    "intrinsic_dimension": (10.0, 40.0),
    "label_sharpness": (0.5, 5.0),
    "aspect_ratio": (8.0, 256.0),
    "resolution": (96.0, 512.0),
    "activations": (1e6, 1e8),
    **dict.fromkeys(("share", "share_1", "share_2", "share_3", "share_4", "share_5"), (0.05, 0.6)),
}
"""Range of each input of simulated runs."""


def made_up(law: Any, rows: int = 10) -> Any:
    """Return simulated runs for a law: inputs evenly spread over their ranges in random order, and a loss or score."""
    import bayescale as bs

    rng = np.random.default_rng(3)
    columns = {}
    for name in law.inputs:
        if name in ("schedule", "step"):
            columns[name] = np.arange(rows) % 2 + 1.0 if name == "schedule" else np.linspace(4e3, 2.2e4, rows)
            continue
        low, high = np.log(RANGES[name])
        columns[name] = np.exp(low + (high - low) * (rng.permutation(rows) + rng.uniform(size=rows)) / rows)
    frame = pd.DataFrame(columns)
    noise = 0.1 * rng.standard_normal(rows)
    if law.info.describes == "odds":
        frame = frame.assign(score=0.5 + noise, n_items=500.0)
    else:
        frame["loss"] = 2.5 * np.exp(noise)
    return bs.Runs.from_frame(
        frame.rename(columns={"x": "flops"}), inputs=["flops" if n == "x" else n for n in columns]
    )
