"""Grids of sizes by tokens: one row per run and metric, sorted by family, metric, size and run."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.corpus.readers.tables import MISSING, flagged, rounded

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
_ORDER = ("family", "metric", "n_params", "run")

_FEWEST_TOKENS_PER_PARAMETER = 0.35
"""Digitised Chinchilla runs with fewer tokens per parameter (four of them) had hardly begun to train."""

_MOST_EPOCHS = 40
"""With more epochs, over-fitting dominates the loss on repeated data."""

_RUN = r"(\d+m|\d+b\d??)(\d{3}m|\d{1,3}b|\db\d{1,2})((?:c4)?(?:v2)?(?:seed\d)?(?:dedup)?)"
"""Tokens, unique tokens and remarks in the name of a run on repeated data, such as 55b, 1b25 and c4seed1."""

_REPEAT_BUDGETS = {2.8: 55e9, 4.2: 84e9, 8.7: 178e9}
"""Number of tokens that a run on repeated data was trained on, by its nominal size in billions."""

_CONTEXT = 2048
"""Number of tokens in one training sequence of the over-training grid."""

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

    Losses were read from colours (to about 0.01), and tokens are FLOPs / (6 parameters). The four runs with the fewest
    tokens per parameter are flagged. Besiroglu et al. (arXiv 2404.10102) left out the five highest losses: these four
    and ``chin-4``.

    Args:
        files: Local files by their path in the publication.
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

    There are eight evaluation losses with 95 % intervals over sampled tokens, and 46 task errors (1 - accuracy).
    Parameters include embeddings.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    table = pd.DataFrame([row for path in sorted(files) for row in _grid_rows(path, files)])
    return _ordered(table, "overtrain", extra=["ci_lo", "ci_hi"])


def gemstones(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the 22 shapes (width by depth) of McLeish et al. (2025), arXiv 2502.06857.

    Hot rows are checkpoints of one run at constant learning rate. Each cool row is the end of a cool-down over the last
    tenth of training. The losses on DCLM and FineWeb-Edu were measured later, on hot checkpoints.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    wandb = "wandb_dfs/wandb_df_for_fitting_"
    parts = [
        ("gemstones_cool", "dolma_val_loss", f"{wandb}cool_end.jsonl"),
        ("gemstones_hot", "dolma_val_loss", f"{wandb}hot_477.jsonl"),
        ("gemstones_hot", "dclm_loss", "benchmarks/fineweb_dclm_losses_combined.jsonl"),
        ("gemstones_hot", "fineweb_edu_loss", "benchmarks/fineweb_edu_losses_combined.jsonl"),
        ("gemstones_lrablation_hot", "dolma_val_loss", f"{wandb}lr_ablation_hot_477.jsonl"),
    ]
    raw = pd.concat(
        [pd.read_json(files[path], lines=True).assign(family=family, metric=metric) for family, metric, path in parts]
    )
    cool = raw["family"] == "gemstones_cool"
    last = raw.groupby(["family", "metric", "run_name"])["step"].transform("max")
    table = raw.assign(
        run=raw["run_name"].str.extract(r"^(?:(?:(cooler_)?PyGemma|Gemstone)-)(\d+x\d+)").fillna("").sum(axis=1),
        n_params=raw["params_active_precise"],
        n_params_kind="total active",
        n_tokens=raw["tokens"],
        flops=6.0 * raw["params_active_precise"] * raw["tokens"],
        flops_kind="6ND",
        # The tables of later evaluations do not contain the batch size.
        batch_tokens=(raw["tokens"] / raw["step"]).where(raw["metric"] == "dolma_val_loss"),
        value=raw["final_loss"],
        is_final=cool | (raw["step"] == last),
        lr_state=np.where(cool, "decayed", "constant"),
        citation="mcleish2025gemstones",
    )
    return _ordered(table, "gemstones", order=[*_ORDER, "n_tokens"])


def datablations(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the runs on repeated data of Muennighoff et al. (2023), arXiv 2305.16264.

    Final losses of the contour (sizes by tokens by unique tokens) are printed in a notebook, whose literals are parsed
    and never executed; runs with a loss of zero failed. Whole training curves of 48 runs with up to 44 epochs come from
    the collection of Choshen et al. (2024). Beyond 40 epochs the loss increases; such rows are flagged.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    final = pd.DataFrame(_contour_rows(files["plotstables/return.ipynb"]))
    # A repeated configuration has seeds 1 to 4 in the names; the run without a seed is then the fifth.
    seeded = final.groupby(["family", "n_params", "n_tokens", "unique_tokens"])["seed"].transform("count") > 0
    final["seed"] = final["seed"].mask(seeded & final["seed"].isna(), 0)
    final["epochs"] = final["n_tokens"] / final["unique_tokens"]
    final["flag"] = flagged(final["epochs"] > _MOST_EPOCHS, "over 40 epochs: loss dominated by over-fitting")
    curves = pd.concat(_repeat_curves(files["data/colpret.npz"]))
    table = pd.concat([final.assign(n_params_kind="total"), curves.assign(n_params_kind="nominal")])
    table = table.assign(
        flops=6 * table["n_params"] * table["n_tokens"],
        flops_kind="6ND",
        flag=table["flag"].astype("str"),
        citation="muennighoff2023dataconstrained; choshen2024hitchhiker",
    )
    table["metric"] = table["family"].str.extract(r"_(c4|oscar)", expand=False) + "_val_loss"
    return _ordered(table, "datablations", order=[*_ORDER, "n_tokens"])


def _contour_rows(path: Path) -> Iterator[dict[str, Any]]:
    notebook = json.loads(path.read_text("utf-8"))
    code = next(s for cell in notebook["cells"] if "PARAMS_MAP = {" in (s := "".join(cell["source"])))
    losses, sizes = (_literal(code, name) for name in ("NAMES_TO_VAL_LOSSES", "PARAMS_MAP"))
    for run, loss in losses.items():
        # Another optimiser setting is left out by the authors too.
        if loss == 0 or "opt" in run:
            continue
        # A name consists of size, tokens, unique tokens and remarks without separators: 2b855b1b25c4seed1.
        [(size, tokens, unique, remark)] = re.findall(rf"^({'|'.join(sizes)}){_RUN}$", run)
        seed = re.search(r"seed(\d)", remark)
        yield {
            "family": "datablations_c4dedup_contour" if "dedup" in remark else "datablations_c4_contour",
            "run": run,
            "seed": float(seed[1]) if seed else MISSING,
            "n_params": int(sizes[size]),
            "n_tokens": _count(tokens),
            "unique_tokens": _count(unique),
            "value": loss,
            "is_final": True,
            "lr_state": "decayed",
        }


def _literal(code: str, name: str) -> dict[str, float]:
    assigned = (node for node in ast.parse(code).body if isinstance(node, ast.Assign))
    return next(ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == name)


def _count(text: str) -> float:
    """Return the number that a text such as 1b25 (1.25e9) or 400m (4e8) means."""
    return float(text[:-1]) * 1e6 if text.endswith("m") else float(text.replace("b", ".")) * 1e9


def _repeat_curves(path: Path) -> Iterator[pd.DataFrame]:
    import pandas as pd

    with np.load(path, allow_pickle=False) as archive:
        curves = {name: archive[name] for name in archive.files if name.startswith("GPT2-")}
    for name, (tokens, losses) in curves.items():
        _, size, data, epochs = name.split("-")
        billions = float(size.rstrip("B"))
        unique = _REPEAT_BUDGETS[billions] / float(epochs)
        final = np.arange(len(tokens)) == len(tokens) - 1
        later = [
            other
            for other, curve in curves.items()
            if other.startswith(f"GPT2-{size}-{data}-")
            and float(other.split("-")[3]) > float(epochs)
            and np.array_equal(curve, curves[name])
        ]
        twin = f"ep{float(later[0].split('-')[3]):g}" if later else ""
        yield pd.DataFrame(
            {
                "family": f"datablations_{data}_repeat",
                "run": f"{data}-{billions}B-ep{float(epochs):g}",
                "n_params": round(billions * 1e9),
                "n_tokens": tokens,
                "unique_tokens": unique,
                "epochs": np.maximum(tokens / unique, 1),
                "value": losses,
                "is_final": final,
                "lr_state": np.where(final, "decayed", "mid-cosine"),
                "flag": flagged(
                    np.full(len(tokens), bool(later)),
                    f"duplicate of {twin} upstream (same series under two epoch labels)",
                ),
            }
        )


def _grid_rows(path: str, files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    if not path.startswith("exp_data/models/"):
        return
    model = json.loads(files[path].read_text("utf-8"))
    settings = model["hyperparameters"]
    run, params, tokens = model["name"], settings["params"], settings["tokens"]
    width, depth = _shape(settings["model"])
    # The 7B files contain a batch of one sequence, which is a placeholder.
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


def _ordered(table: Any, source: str, extra: Sequence[str] = (), order: Sequence[str] = _ORDER) -> pd.DataFrame:
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
    absent = dict.fromkeys(_COLUMNS, MISSING) | constant
    full = table.assign(**{name: value for name, value in absent.items() if name not in table})
    full = full.sort_values(list(order), kind="stable", ignore_index=True)
    return rounded(full[[*_COLUMNS, *extra]], 10)
