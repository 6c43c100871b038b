"""Designs: made-up runs for any law, where published runs of its inputs lie."""

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
    **dict.fromkeys(("share", "share_1", "share_2", "share_3", "share_4", "share_5"), (0.05, 0.6)),
}
"""Where made-up runs of each input lie."""


def made_up(law: Any, rows: int = 10) -> Any:
    """Make up runs with the inputs of a law: each input spread evenly over its range, all in other orders."""
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
    frame["loss"] = 2.5 * np.exp(0.1 * rng.standard_normal(rows))
    return bs.Runs.from_frame(
        frame.rename(columns={"x": "flops"}), inputs=["flops" if n == "x" else n for n in columns]
    )
