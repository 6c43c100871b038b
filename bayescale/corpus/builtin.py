"""Built-in measurements that were printed in papers, model cards and public threads."""

from __future__ import annotations

import csv
import functools
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.checked import known_keywords

if TYPE_CHECKING:
    import pandas as pd

LOSSES = ("nats/token", "bits/byte", "perplexity")
"""Units of language-modelling losses, from the most to the least direct."""
UNITS = (*LOSSES, "percent", "fraction", "fid", "bleu")
COUNTS = ("n_params", "n_tokens", "flops", "n_samples")

_TEXTS = [
    "family",
    "run",
    "params_convention",
    "flops_convention",
    "metric",
    "unit",
    "paper",
    "arxiv_id",
    "where",
    "verified",
    "flag",
    "source",
    "item",
    "fit_from",
    "fit_to",
]

# For image models, loss decreases more regularly with FLOPs than with parameters. For the Marin cells, the printed
# compute and tokens give an effective size, n_params = FLOPs / (6 n_tokens).
_AXES = {
    "regnetx": ("flops",),
    "regnety": ("flops",),
    "dit_in256": ("flops",),
    "marin_aug_hero_cells": ("n_params", "n_tokens"),
}
_LEAST_SPREAD = 1.5
_LARGEST_CORRELATION = 0.98


def published() -> pd.DataFrame:
    """Return every built-in measurement, one a row, with its citation and remarks.

    ``value_se`` is the standard error of one evaluation, ``seed_sd`` the standard deviation over seeds. ``verified``
    says whether a figure was read in the publication itself or in notes that quote it.
    """
    return _csv("published_runs.csv").copy()


@known_keywords
def marin_forecast() -> pd.DataFrame:
    """Return a dated public forecast by the Marin project: four fits, nine budgets.

    Each fit is ``floor + coefficient * flops ** -exponent``, to the budgets from ``fit_from`` to ``fit_to``.
    ``measured`` is empty where no run was made.
    """
    return _csv("marin_forecast.csv").copy()


@known_keywords
def checkpoint_noise() -> pd.DataFrame:
    """Return the standard deviation of ten task losses over the last ten checkpoints of one model.

    Source: Bhagia et al. (2024), arXiv 2412.04403, Table 4.
    """
    return _csv("noise_sds.csv").copy()


@functools.cache
def caveats() -> dict[str, str]:
    """Return the caveats of each built-in family, in the order of the data."""
    text = resources.files("bayescale.corpus").joinpath("data/families.csv").read_text("utf-8")
    return {row["family"]: row["caveats"] for row in csv.DictReader(text.splitlines())}


@known_keywords
def axis(df: pd.DataFrame) -> tuple[str, ...]:
    """Return the inputs along which one family's curve is fitted.

    These are parameters, together with tokens if tokens are not determined by parameters; else FLOPs, else samples. An
    input counts only if every row has it and it varies. RegNet and DiT use forward FLOPs; ``marin_aug_hero_cells`` uses
    an effective size and tokens.

    Args:
        df: Rows of one family.

    Returns:
        Names of input columns; empty if nothing varies, as in a set of seeds.
    """
    families = df["family"].unique()
    if len(families) == 1 and families[0] in _AXES:
        return _AXES[families[0]]
    usable = [name for name in COUNTS if name in df and _varies(df[name])]
    if "n_params" in usable:
        both = "n_tokens" in usable and _informative(df["n_params"], df["n_tokens"])
        return ("n_params", "n_tokens") if both else ("n_params",)
    return tuple(name for name in ("flops", "n_samples") if name in usable)[:1]


def with_effective_params(df: pd.DataFrame) -> pd.DataFrame:
    """Compute n_params = FLOPs / (6 n_tokens) for the family that prints no sizes."""
    derived = df["flops"] / (6 * df["n_tokens"])
    return df.assign(n_params=df["n_params"].where(df["family"] != "marin_aug_hero_cells", derived))


def _varies(column: Any) -> bool:
    return bool(column.notna().all() and column.nunique() > 1)


def _informative(params: Any, tokens: Any) -> bool:
    if tokens.max() / tokens.min() <= _LEAST_SPREAD:
        return False
    correlation = np.corrcoef(np.log(params), np.log(tokens))[0, 1]
    return bool(abs(correlation) < _LARGEST_CORRELATION)


@functools.cache
def _csv(name: str) -> pd.DataFrame:
    import pandas as pd

    with resources.files("bayescale.corpus").joinpath("data", name).open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype=dict.fromkeys(_TEXTS, str))
    texts = [column for column in _TEXTS if column in table]
    table[texts] = table[texts].fillna("")
    return table
