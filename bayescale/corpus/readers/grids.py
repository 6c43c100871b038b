"""Grids of sizes by tokens: one row per run and metric, sorted by family, metric, size and run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayescale.corpus.readers.tables import MISSING, rounded

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = [
    "family",
    "run",
    "seed",
    "step",
    "n_params",
    "n_params_kind",
    "n_tokens",
    "flops",
    "flops_kind",
    "unique_tokens",
    "epochs",
    "lr",
    "batch_tokens",
    "width",
    "depth",
    "metric",
    "value",
    "lower_is_better",
    "is_final",
    "lr_state",
    "source",
    "citation",
    "flag",
]
_ORDER = ["family", "metric", "n_params", "run"]

_FEWEST_TOKENS_PER_PARAMETER = 0.35
"""Below this the digitised Chinchilla runs (four of them) had hardly begun to train."""

_CONTEXT = 2048
"""Tokens in one training sequence of the over-training grid."""

_EVALUATIONS = {
    "openlm/": "openlm_val_loss",
    "c4_val/": "c4_val_loss",
    "paloma_c4_en/": "paloma_c4_loss",
    "paloma_dolma_100_programing_languages/": "paloma_code_loss",
    "paloma_falcon-refinedweb/": "paloma_refinedweb_loss",
    "paloma_ptb/": "paloma_ptb_loss",
    "paloma_redpajama/": "paloma_redpajama_loss",
    "de-en/": "wmt_de_en_loss",
}
_NAMED_SHAPES = {"open_lm_1b": (2048, 24), "open_lm_7b": (4096, 32)}


def epoch_chinchilla(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the Chinchilla runs that Besiroglu et al. (2024) digitised from a figure.

    Losses are read off colours (to about 0.01) and tokens are FLOPs / (6 parameters). The four
    runs with the fewest tokens per parameter are flagged. Besiroglu et al. (arXiv 2404.10102) leave
    out the five highest losses: these four and ``chin-4``.

    Args:
        files: Local file by upstream path.
    """
    import pandas as pd

    raw = pd.read_csv(files["data/svg_extracted_data.csv"])
    params, flops = raw["Model Size"], raw["Training FLOP"]
    tokens = flops / (6 * params)
    barely_trained = tokens / params < _FEWEST_TOKENS_PER_PARAMETER
    remark = "digitising error in loss about 0.01; "
    outlier = "extreme-outlier (epoch drops the 5 highest-residual points, D/N tiny)"
    table = pd.DataFrame(
        {
            "family": "chinchilla_massivetext",
            "run": [f"chin-{index}" for index in raw.index],
            "n_params": params,
            "n_params_kind": "total",
            "n_tokens": tokens,
            "flops": flops,
            "flops_kind": "digitised; D=C/(6N)",
            "metric": "massivetext_train_loss_smoothed",
            "value": raw["loss"],
            "citation": "hoffmann2022chinchilla; besiroglu2024replication",
            "flag": [remark + outlier if bad else remark for bad in barely_trained],
        }
    )
    return _ordered(table, "epoch_chinchilla")


def overtrain(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the parameters-by-tokens grid of Gadre et al. (2024), arXiv 2403.08540.

    Eight evaluation losses with their 95 % intervals over sampled tokens, and 46 task errors
    (1 - accuracy). Parameters include embeddings.

    Args:
        files: Local file by upstream path.
    """
    import pandas as pd

    table = pd.DataFrame([row for path in sorted(files) for row in _grid_rows(path, files)])
    return _ordered(table, "overtrain", extra=["ci_lo", "ci_hi"])


def _grid_rows(path: str, files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    if not path.startswith("exp_data/models/"):
        return
    model = json.loads(files[path].read_text("utf-8"))
    settings = model["hyperparameters"]
    run, params, tokens = model["name"], settings["params"], settings["tokens"]
    width, depth = _shape(settings["model"])
    # The 7B files give a batch of one sequence, which is a placeholder.
    batch = settings["global_bs"] * _CONTEXT if settings["global_bs"] > 1 else MISSING
    tokens_per_param = round(20 * settings["chinchilla_multiplier"])
    shared = {
        "family": f"overtrain_{model['dataset_name']}",
        "run": run,
        "n_params": params,
        "n_params_kind": "total incl. embeddings",
        "n_tokens": tokens,
        "flops": 6.0 * params * tokens,
        "flops_kind": "6ND",
        "lr": settings["lr"],
        "batch_tokens": batch,
        "width": width,
        "depth": depth,
        "citation": "gadre2024overtraining",
        "flag": f"M={tokens_per_param};params_no_embed={settings['params_no_embed']}",
    }
    for result in model["results"]:
        yield shared | {
            "metric": _evaluation(result["val_data"][0]),
            "value": result["loss"],
            "ci_lo": result["loss_tokens_lower_95"],
            "ci_hi": result["loss_tokens_upper_95"],
        }
    tasks = json.loads(files[f"exp_data/evals/evaluation_{run}_heavy.json"].read_text("utf-8"))
    for task, accuracy in tasks["eval_metrics"]["icl"].items():
        yield shared | {"metric": f"err_{task}", "value": 1 - accuracy}


def _evaluation(data: str) -> str:
    return next(metric for folder, metric in _EVALUATIONS.items() if f"/{folder}" in data)


def _shape(model: str) -> tuple[int, int]:
    printed = re.search(r"d=(\d+)_l=(\d+)", model)
    return (int(printed[1]), int(printed[2])) if printed else _NAMED_SHAPES[model]


def _ordered(table: Any, source: str, extra: list[str] | None = None) -> pd.DataFrame:
    constant = {
        "seed": MISSING,
        "step": MISSING,
        "unique_tokens": MISSING,
        "epochs": 1,
        "lower_is_better": True,
        "is_final": True,
        "lr_state": "decayed",
        "source": source,
    }
    absent = {name: MISSING for name in _COLUMNS if name not in table and name not in constant}
    full = table.assign(**constant, **absent).sort_values(_ORDER, kind="stable", ignore_index=True)
    return rounded(full[_COLUMNS + (extra or [])], 10)
