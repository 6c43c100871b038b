"""Agents by size and experience: imitation of players, and reinforcement learning up to a return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.corpus.readers.inert import constants
from bayescale.corpus.readers.tables import MISSING, tidy_cited

if TYPE_CHECKING:
    import pandas as pd

_NETHACK = "experiment_data/nethack/"
_LOSS, _RETURNS = "eval_loss_overlap_0_model_", "eval_returns_model_"
_BUDGETS = "llama_iso_flop"
_ATARI = "experiment_data/atari/"

_ACTIONS = {"nethack": 121, "atari": 18}
"""Number of actions to choose from; the loss of the uniform policy is its logarithm."""

_THRESHOLDS = {
    "scripts/experiments/saved_fits/simba_250823.csv": "simbav2",
    "scripts/experiments/saved_fits/dmc_last_threshold_250522.csv": "bro_dmc",
    "scripts/experiments/saved_fits/dog_humanoid_last_threshold_250522.csv": "bro_dog_humanoid",
}


def il_games(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read imitation learning in NetHack and eight Atari games of Tuyls et al. (2023), arXiv 2307.09423.

    The loss is the cross-entropy of an action; for NetHack there is also the mean return of the games at each budget.
    Losses are read from PyTorch archives without loading these (see `inert`). Losses above that of the uniform policy
    are flagged as suspect.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    table = pd.DataFrame([*_nethack_rows(files), *_atari_rows(files)])
    loss = table["metric"] == "bc_eval_loss"
    game = np.where(table["family"].str.startswith("atari"), "atari", "nethack")
    flag = np.full(len(table), MISSING, dtype=object)
    for name, count in _ACTIONS.items():
        worse = loss & (game == name) & (table["value"] > math.log(count))
        flag = np.where(worse, f"suspect: loss above the uniform policy (ln {count})", flag)
    scales = ["model_id", "n_params", "n_samples", "flops", "flops_kind", "note", "n_items"]
    return tidy_cited(table.assign(flag=flag), "il_games", "tuyls2023scaling", scales)


def rl_value_scaling(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read steps to a return by critic size and updates a step of Fu et al. (2025), arXiv 2508.14881.

    The response is the number of environment steps until a return is reached: a bootstrap mean over seeds with its
    standard deviation. ``flops`` is computed from these steps, so it must not be used to predict them.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    parts = []
    for path, family in _THRESHOLDS.items():
        raw = pd.read_csv(files[path]).rename(
            columns={"time_to_threshold": "time", "time_to_threshold_std": "time_std"}
        )
        # Means over tasks have no name of an environment, and their files contain no width.
        task = raw["env_name"].astype(object).fillna("average").astype("str")
        width = raw.get("critic_width", MISSING)
        parts.append(raw.assign(family=family + "|" + task, task=task, width=width))
    raw = pd.concat(parts)
    raw["utd"] = raw["utd"].astype("int64")
    run = raw["family"] + "|utd" + raw["utd"].astype(str) + "|N" + raw["critic_params"].astype(str)
    table = raw.assign(
        run=run,
        n_params=raw["critic_params"],
        n_params_kind="critic",
        flops=raw["critic_params"] * raw["time"] * raw["utd"],
        flops_kind="proxy: parameters x updates",
        note="bootstrap mean over seeds; flops is computed from the value: do not use it as an input",
        metric="env_steps_to_threshold",
        value=raw["time"],
        value_se=raw["time_std"],
    )
    scales = ["task", "n_params", "n_params_kind", "utd", "width", "flops", "flops_kind", "note"]
    return tidy_cited(table, "rl_value_scaling", "fu2025valuescaling", scales, exact=["value_se"])


def _nethack_rows(files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    for path in sorted(files):
        if not path.startswith(_NETHACK) or _LOSS not in path:
            continue
        setting, model, name = path.removeprefix(_NETHACK).split("/")
        budget = name.removeprefix(_LOSS).removesuffix(".tar")
        budgets = setting == _BUDGETS
        measured = constants(files[path])
        shared = {
            "family": "nethack_bc_isoflop" if budgets else f"nethack_bc|{setting.removeprefix('llama_')}",
            "run": f"{setting}/{model}/{budget}",
            "model_id": model,
            "n_params": measured["params"],
            "n_samples": measured["samples"],
            "flops": float(budget) if budgets else MISSING,
            "flops_kind": "budget in the file name",
            "note": "checkpoint of one run at a FLOP budget; constant learning rate in the paper"
            if budgets
            else MISSING,
        }
        yield shared | {
            "metric": "bc_eval_loss",
            "value": measured["eval_loss"],
            "value_se": measured["eval_se"],
            "n_items": MISSING,
            "lower_is_better": 1,
        }
        returns = path.replace(_LOSS, _RETURNS).replace(".tar", ".txt")
        if returns in files:
            yield shared | _mean_return(files[returns])


def _mean_return(path: Path) -> dict[str, Any]:
    scores = np.loadtxt(path, ndmin=1)
    return {
        "metric": "mean_return",
        "value": scores.mean(),
        "value_se": scores.std(ddof=1) / math.sqrt(len(scores)),
        "n_items": len(scores),
        "lower_is_better": 0,
    }


def _atari_rows(files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    start = f"{_ATARI}eval_loss/eval_loss_"
    for path in sorted(path for path in files if path.startswith(start)):
        game = path.removeprefix(start).removesuffix(".tar")
        samples = constants(files[f"{_ATARI}flop_params_to_samples/flop_params_to_samples_{game}.tar"])
        for budget, losses in constants(files[path]).items():
            for params, loss in losses.items():
                yield {
                    "family": f"atari_bc_isoflop|{game}",
                    "run": f"atari/{game}/C{budget}/N{params}",
                    "model_id": game,
                    "n_params": params,
                    "n_samples": samples[budget].get(params, MISSING),
                    "flops": float(budget),
                    "flops_kind": "budget",
                    "note": MISSING,
                    "n_items": MISSING,
                    "metric": "bc_eval_loss",
                    "value": loss,
                    "value_se": MISSING,
                    "lower_is_better": 1,
                }
