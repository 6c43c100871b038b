"""Scores on tasks: benchmarks of many models, repeated sampling, reinforcement learning."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.corpus.readers.tables import flagged, parquet, tidy

if TYPE_CHECKING:
    import pandas as pd

_MONKEYS = "schaeffer2025monkeys;brown2024monkeys;hughes2024bon"
_HARM = "bon-jailbreaking|text"
_SAMPLED = (
    (
        _HARM,
        "processed_data/bon_jailbreaking_pass_at_k.parquet",
        *("Model", "Problem Idx", "Num. Samples", "Scaling Parameter"),
    ),
    (
        "monkeys-original|MATH",
        "processed_data/large_language_monkeys_original_pass_at_k.parquet",
        *("Model", "Problem Idx", "Num. Samples Total", "Scaling Parameter"),
    ),
    (
        "pythia-checkpoints|GSM8K",
        "raw_data/large_language_monkeys/gsm8k_pass_at_k.parquet",
        *("Model Nickname", "prompt_idx", "Num. Samples", "k"),
    ),
    (
        "pythia-checkpoints|MATH",
        "raw_data/large_language_monkeys/math_pass_at_k.parquet",
        *("Model Nickname", "prompt_idx", "Num. Samples", "k"),
    ),
)
"""Family, file, and names of its columns for model, problem, samples and attempts."""

_FEWEST_PROBLEMS = 20
"""Smallest number of problems of a model; one model has nine."""

_FEWEST_COVERED = 0.9
"""Fraction of a model's problems that must have k samples; with fewer, the mean is over a different, harder set."""

_PYTHIA = {
    "Pythia 70M": 70_426_624,
    "Pythia 160M": 162_322_944,
    "Pythia 410M": 405_334_016,
    "Pythia 1B": 1_011_781_632,
    "Pythia 2.8B": 2_775_208_960,
    "Pythia 6.9B": 6_857_302_016,
    "Pythia 12B": 11_846_072_320,
}
"""Number of parameters, with embeddings, of final Pythia models (Biderman et al. 2023); the file has names only."""
_PYTHIA_TOKENS = 300e9

_OBSERVED = ("benchmark", "emergent_capability", "leaderboard_v2", "post_training")
_MOST_TOKENS = 100e12
"""No model was trained on more tokens; larger counts are billions in a column of trillions."""


def coverage(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read pass@k, the fraction of problems that one of k attempts solves: Schaeffer et al. (2025), arXiv 2502.17578.

    A value is the mean over problems, with its standard error, of the unbiased estimate from a problem's counts.
    Problems with fewer than k samples are left out, and the row is flagged. A model needs twenty problems, and a k nine
    tenths of the model's problems. Only ``monkeys-original`` (Brown et al. 2024) sampled every problem 10,000 times;
    the others stopped early on solved problems, which biases their counts. For ``bon-jailbreaking`` (Hughes et al.
    2024) a success is a harm.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    counts = _counts(files)
    problems = counts.groupby(["family", "run"])["problem"].transform("nunique")
    counts = counts[problems >= _FEWEST_PROBLEMS].assign(problems=problems)
    attempts = counts.merge(pd.DataFrame({"n_attempts": [*(2**i for i in range(14)), 10_000]}), how="cross")
    attempts = attempts[attempts["n_sampled"] >= attempts["n_attempts"]]
    chances = pass_at_k(attempts["n_sampled"], attempts["n_correct"], attempts["n_attempts"])
    grouped = attempts.assign(chance=chances).groupby(["family", "run", "n_attempts"], sort=False)
    table = grouped[["problems", "n_params", "n_tokens"]].first()
    table["n_problems"] = grouped.size()
    table["value"] = grouped["chance"].mean()
    table["value_se"] = grouped["chance"].sem()
    table = table[table["n_problems"] >= _FEWEST_COVERED * table["problems"]].reset_index()
    table = table.rename(columns={"run": "model"}).assign(
        run=table["run"] + "|k" + table["n_attempts"].astype(str),
        metric="pass_at_k",
        lower_is_better=(table["family"] == _HARM).astype(int),
        flag=flagged(table["n_problems"] < table["problems"], "problems with fewer than k samples left out"),
    )
    return tidy(table, "coverage", _MONKEYS, ["n_params", "n_tokens", "n_attempts", "model", "n_problems"])


def coverage_counts(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the number of samples that solved each problem, from which `coverage` is computed.

    Args:
        files: Local files by their path in the publication.
    """
    counts = _counts(files)
    first = counts["family"] == "monkeys-original|MATH"
    table = counts.assign(first=~first).sort_values("first", kind="stable")
    table = table.assign(
        metric="success_rate",
        value=table["n_correct"] / table["n_sampled"],
        lower_is_better=(table["family"] == _HARM).astype(int),
    )
    return tidy(table, "coverage_counts", _MONKEYS, ["n_params", "n_tokens", "problem", "n_sampled", "n_correct"])


def pass_at_k(sampled: Any, correct: Any, attempts: Any) -> np.ndarray:
    """Return the probability that k of n samples, drawn without replacement, include one of the c correct ones.

    It is one minus C(n - c, k) / C(n, k), computed as a product of min(c, k) terms, because binomial coefficients of
    millions would lose digits by cancellation.

    Args:
        sampled: Number of samples n of each problem.
        correct: Number of correct samples c.
        attempts: Number of attempts k, at most n.
    """

    @functools.cache
    def chance(n: int, c: int, k: int) -> float:
        if n - c < k:
            return 1.0
        fewer, more = sorted((c, k))
        return -math.expm1(np.log1p(-more / (n - np.arange(fewer))).sum())

    return np.array([chance(n, c, k) for n, c, k in zip(sampled, correct, attempts, strict=True)])


def _counts(files: Mapping[str, Path]) -> Any:
    """Return one row per model and problem, with the numbers of samples and of right samples."""
    import pandas as pd

    nominal = pd.read_csv(files["data/raw_data/gpt4_gsm8k/models_pythia.csv"]).set_index("Model Nickname")
    sizes = nominal["Parameters"].to_dict() | _PYTHIA
    tokens = nominal["Tokens"].to_dict() | dict.fromkeys(_PYTHIA, _PYTHIA_TOKENS)
    parts = []
    for family, path, model, problem, sampled, attempts in _SAMPLED:
        raw = parquet(files[f"data/{path}"], [model, problem, sampled, "Num. Samples Correct", attempts])
        # The file repeats the counts for every number of attempts.
        once = raw[raw[attempts] == 1]
        parts.append(
            pd.DataFrame(
                {
                    "family": family,
                    "run": once[model],
                    "n_params": once[model].map(sizes),
                    "n_tokens": once[model].map(tokens),
                    "problem": once[problem],
                    "n_sampled": once[sampled],
                    "n_correct": once["Num. Samples Correct"].astype("int64"),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def obs_scaling(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read benchmark scores of 148 base models: Ruan et al. (2024), arXiv 2405.10938.

    Scores increase with scale. All are fractions, except BLEU, which goes to 100. FLOPs are 6 parameters x tokens.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    tables = {kind: pd.read_csv(files[f"eval_results/base_llm_{kind}_eval.csv"]) for kind in _OBSERVED}
    tokens = tables["benchmark"]["Pretraining Data Size (T)"] * 1e12
    unit = (tokens > _MOST_TOKENS).map({True: 1000, False: 1})
    models = pd.DataFrame(
        {
            "run": tables["benchmark"]["Model"],
            "family": tables["benchmark"]["Model Family"],
            "n_params": tables["benchmark"]["Model Size (B)"] * 1e9,
            "n_tokens": tokens / unit,
            "flops": tables["benchmark"]["FLOPs (1E21)"] * 1e21 / unit,
            "flag": flagged(unit > 1, "upstream gives 627 T tokens; taken as 627 B, FLOPs divided by 1000"),
        }
    )
    parts = []
    for kind, scores in tables.items():
        sizes = ["Model Family", "Model Size (B)", "Pretraining Data Size (T)", "FLOPs (1E21)"]
        rows = _long(scores.drop(columns=sizes, errors="ignore"), ["Model"])
        prefix = "" if kind == "benchmark" else f"{kind}:"
        parts.append(rows.assign(metric=prefix + rows["metric"]))
    table = pd.concat(parts).rename(columns={"Model": "run"}).merge(models, on="run")
    # Scores rescaled by chance are left out, because the plain scores contain the same information.
    table = table[~table["metric"].str.endswith(",norm")]
    scales = ["n_params", "n_tokens", "flops"]
    return tidy(table.assign(lower_is_better=0), "obs_scaling", "ruan2024observational", scales)


def sloth(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read leaderboard scores of 188 models: Maia Polo et al. (2024), arXiv 2412.06540.

    Scores increase with scale. Column ``instruct`` distinguishes base models from models tuned to follow instructions.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    raw = pd.read_csv(files["data/data_v2.csv"], index_col=0)
    labels = [
        "Model",
        "Family",
        "Family2",
        "Instruct",
        "date",
        "#Params (B)",
        "Pretraining Data Size (T)",
        "FLOPs (1E21)",
    ]
    rows = _long(raw, labels)
    table = rows.assign(
        family=rows["Family"],
        run=rows["Model"],
        n_params=rows["#Params (B)"] * 1e9,
        n_tokens=rows["Pretraining Data Size (T)"] * 1e12,
        flops=rows["FLOPs (1E21)"] * 1e21,
        instruct=rows["Instruct"],
        lower_is_better=0,
    )
    return tidy(table, "sloth", "maiapolo2024sloth", ["n_params", "n_tokens", "flops", "instruct"])


def rl_depth(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read learning curves by depth of ten control tasks: Wang et al. (2025), arXiv 2503.14858.

    The score is the time that an episode spends at the goal, a mean over seeds with its standard error; the step counts
    epochs. Only the main figure's file is read: the others repeat tasks with other batches and depths.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    tasks = json.loads(files["results_data/fig1_main.json"].read_text("utf-8"))
    parts = []
    for task, curves in tasks.items():
        for depth, scores in curves["depth_mean"].items():
            step = range(1, len(scores) + 1)
            parts.append(
                pd.DataFrame(
                    {
                        "family": f"fig1_main|{task}",
                        "run": f"{task}|depth{depth}",
                        "step": step,
                        "depth": int(depth),
                        "env": task,
                        "metric": "episode_time_at_goal",
                        "value": scores,
                        "value_se": curves["depth_std_error"][depth],
                        "lower_is_better": 0,
                        "is_final": [int(epoch == len(scores)) for epoch in step],
                    }
                )
            )
    return tidy(pd.concat(parts), "rl_depth", "wang2025thousand", ["depth", "env"])


def _long(table: Any, labels: list[str]) -> pd.DataFrame:
    """Return one row per model and score, model by model, without missing scores."""
    rows = table.melt(labels, var_name="metric", ignore_index=False)
    return rows.sort_index(kind="stable").dropna(subset="value").reset_index(drop=True)
