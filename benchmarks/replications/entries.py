"""Entries of the page about replications: a law, the data it was published with, and the constants beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayescale.laws.law import Law
from bayescale.laws.registry import LAWS
from benchmarks.replications.data import (
    FITTED,
    FITTED_STEPS,
    UNSEEN,
    UNSEEN_STEPS,
    chinchilla_runs,
    five_runs,
    overtrained_runs,
    quantised_runs,
    repeated_runs,
    repetition_alone,
    routed_runs,
    scheduled_law,
    scheduled_runs,
    shaped_runs,
    stream_runs,
    swept_runs,
    thin,
    tuned_runs,
    vocabulary_runs,
)

REMARKS = Path(__file__).with_name("remarks.md")
"""What a look at the deviations showed, by entry."""


class Source(NamedTuple):
    """One set of constants in the registry, and what its constants are called in the fitted law."""

    law: str
    key: str
    names: tuple[tuple[str, str], ...] = ()

    def constants(self) -> dict[str, float]:
        """Constants by the fitted law's names."""
        known = dict(next(found for found in LAWS[self.law].info.published if found.key == self.key).constants)
        return {new: known[old] for old, new in self.names} if self.names else known


class Refit(NamedTuple):
    """Another fit of a law by minimisation, to see why constants differ."""

    name: str
    table: Callable[[], pd.DataFrame]
    linear: bool = False
    """Whether residuals are those of the loss; otherwise those of its logarithm."""
    huber: float = np.inf
    """Where Huber's loss turns from squares to absolute values."""


class Entry(NamedTuple):
    """A law and the data that it is fitted to."""

    title: str
    law: str
    """Name of the law in the catalogue."""
    rows: str
    """Which rows are used, as the page says it."""
    ahead: str
    """Which of them are held out to be forecast."""
    axis: str
    """Input on the picture's axis."""
    table: Callable[[], pd.DataFrame]
    """The law's inputs, loss, and whether a row is held out (`held`); `curve` where each has a fit of its own."""
    sources: tuple[Source, ...] = ()
    intervals: tuple[tuple[str, float, float], ...] = ()
    """95 % intervals that the source states for its constants."""
    build: Callable[[], Law] | None = None
    """Makes the law, where the registered one does not serve."""
    refit: bool = True
    """Whether constants come from all rows; otherwise from those that are not held out."""
    robust: bool = False
    """Whether the paper's estimator is robust: fit all runs, and also with Student-t noise."""
    checkpoints: bool = False
    """Whether rows are checkpoints that share the seed of their run (`run` of the table), with discrepancy on."""
    remark: str = ""
    """What a look at the deviations showed."""
    refits: tuple[Refit, ...] = ()
    """Fits by minimisation that stand beside the posterior."""


# --- Rows ----------------------------------------------------------------------------------------------------


BESIROGLU = (("E", 1.769, 1.871), ("A", 285.0, 744.0), ("B", 1042.0, 5810.0))
BESIROGLU = (*BESIROGLU, ("alpha", 0.317, 0.373), ("beta", 0.331, 0.415))
LI = (("p", 0.655, 0.774), ("q", 0.271, 0.345), ("r", 0.534, 0.606))
ROUTERS = (("s_base", "S-Base"), ("rl_r", "RL-R"), ("hash", "Hash"))
VALLEY = (
    Source("step_rate", "li2025", (("c", "c"), ("p", "p"), ("q", "q"))),
    Source("step_batch", "li2025", (("A", "d"), ("c", "r"))),
)


def entries() -> dict[str, Entry]:
    """Every entry by name, in the order of the page."""
    chinchilla = Entry(
        "Chinchilla",
        "chinchilla",
        "all 241 runs of `epoch_chinchilla` that are not marked as unfit",
        "runs within a factor 10 of the largest compute",
        "flops",
        chinchilla_runs,
        (Source("chinchilla", "besiroglu2024"),),
        BESIROGLU,
        robust=True,
    )
    found = {"chinchilla": chinchilla, **repetition(), **streams(), **routed(), **vocabulary(), **overtraining()}
    found |= {**schedules(), **single_entries()}
    said = remarks()
    return {name: entry._replace(remark=said.get(name, "")) for name, entry in found.items()}


def remarks() -> dict[str, str]:
    """Remark of each entry that has one, from `remarks.md`."""
    parts = re.split(r"^## (.+)$", REMARKS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name.strip(): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def repetition() -> dict[str, Entry]:
    """Repeated data."""
    found = {
        "repetition": Entry(
            "Repeated data, whole contour",
            "data_constrained",
            "the grid of `datablations` on C4 up to 40 epochs, with runs of the same configuration averaged",
            "runs with more than 4 epochs",
            "n_tokens",
            repeated_runs,
            (Source("data_constrained", "muennighoff2023"),),
            robust=True,
        ),
    }
    published = Source("data_constrained", "muennighoff2023")
    found["repetition-larger"] = found["repetition"]._replace(
        title="Repeated data, 4e8 different tokens or more",
        rows=found["repetition"].rows + ", without the runs on 1e8 different tokens",
        table=lambda: repeated_runs(4e8),
    )
    found["repetition-fixed"] = found["repetition-larger"]._replace(
        title="Repeated data, base fixed",
        rows="the same runs; the constants of the base law are fixed at the published values, up to a common factor",
        sources=(published._replace(names=(("R_D", "R_D"), ("R_N", "R_N"))),),
        build=repetition_alone,
    )
    return found


def streams() -> dict[str, Entry]:
    """Parallel streams."""
    found: dict[str, Entry] = {}
    for key, name in (("stack", "Stack"), ("pile", "Pile")):
        found[f"streams-{key}"] = Entry(
            f"Parallel streams, {name}",
            "parallel_streams",
            "all 24 runs that the paper lists",
            "the two largest of six sizes",
            "n_params",
            lambda key=key: stream_runs(key),
            (Source("parallel_streams", key),),
        )
    return found


def routed() -> dict[str, Entry]:
    """Routed models."""
    found: dict[str, Entry] = {}
    for key, router in ROUTERS:
        found[f"routed-{key}"] = Entry(
            f"Routed models, {router}",
            "routed",
            f"final losses of `routing`, router {router} and dense models, seed 42",
            "models above 1e9 active parameters, one of six sizes",
            "n_experts",
            lambda router=router: routed_runs(router),
            (Source("routed", key),),
        )
    for key, router in ROUTERS:
        found[f"routed-{key}-three"] = found[f"routed-{key}"]._replace(
            title=f"Routed models, {router}, three sizes ahead",
            ahead="models above 1e8 active parameters, three of six sizes",
            table=lambda router=router: routed_runs(router, 1e8),
            refit=False,
        )
    return found


def vocabulary() -> dict[str, Entry]:
    """Vocabularies."""
    found: dict[str, Entry] = {}
    found["vocabulary"] = Entry(
        "Vocabulary",
        "vocabulary",
        "checkpoints of `vocab` from the last three quarters of each run",
        "the largest of six sizes",
        "n_chars",
        vocabulary_runs,
        (Source("vocabulary", "tao2024"),),
        refits=(
            Refit("least squares, these rows", lambda: thin(vocabulary_runs())),
            Refit("least squares, all such checkpoints", vocabulary_runs),
            Refit("Huber's loss at .001, all such checkpoints", vocabulary_runs, huber=1e-3),
        ),
    )
    return found


def overtraining() -> dict[str, Entry]:
    """Over-training."""
    found: dict[str, Entry] = {}
    for key, family, name in (
        ("c4", "overtrain_c4_original", "C4"),
        ("redpajama", "overtrain_rpj", "RedPajama"),
        ("refinedweb", "overtrain_rw_original", "RefinedWeb"),
    ):
        found[f"overtraining-{key}"] = Entry(
            f"Over-training, {name}",
            "gadre",
            f"runs of `overtrain` trained on {name} with 20 tokens per parameter or more, loss on C4",
            "runs within a factor 10 of the largest compute",
            "flops",
            lambda family=family: overtrained_runs(family),
            (Source("gadre", key),),
            refits=(
                Refit("least squares, these rows", lambda family=family: overtrained_runs(family)),
                Refit("least squares of the loss, five runs", lambda family=family: five_runs(family), linear=True),
            ),
        )
    return found


def schedules() -> dict[str, Entry]:
    """Learning-rate schedules."""
    found: dict[str, Entry] = {}
    for size in ("25M", "100M", "400M"):
        found[f"schedules-{size}"] = Entry(
            f"Learning-rate schedules, {size}",
            "multi_power",
            f"`multipowerlaw`, {size}, {FITTED_STEPS} steps each of {', '.join(FITTED)}",
            f"{UNSEEN_STEPS} steps each of {', '.join(UNSEEN)}",
            "step",
            lambda size=size: scheduled_runs(size),
            (Source("multi_power", f"luo2025_{size.lower()}"),),
            build=scheduled_law,
            refit=False,
            checkpoints=True,
        )
    return found


def single_entries() -> dict[str, Entry]:
    """Entries whose law has one data set."""
    found: dict[str, Entry] = {}
    found["valley"] = Entry(
        "Best rate and batch",
        "step_valley",
        "sweeps of dense models in `steplaw`, with the runs within 2 % of the lowest loss of their sweep",
        "sweeps within a factor 3 of the largest compute",
        "lr",
        swept_runs,
        VALLEY,
        LI,
    )
    found["shapes"] = Entry(
        "Many shapes",
        "chinchilla",
        "cooled-down checkpoints of `gemstones`, loss on Dolma",
        "checkpoints within a factor 10 of the largest compute",
        "flops",
        shaped_runs,
        (Source("chinchilla", "gemstones2025"),),
    )
    found["quantised"] = Entry(
        "Training in few bits",
        "precision",
        "`quest_quant`, Hadamard quantiser with 2, 3 and 4 bits and no quantiser, equal bits for weights and "
        "activations",
        "the two largest of six sizes",
        "n_params",
        quantised_runs,
    )
    found["fine-tuning"] = Entry(
        "Fine-tuning",
        "rectified",
        "`finetune_rectified`, 30 models on three tasks, with one fit for each of the 90 curves",
        "the last four of 14 numbers of examples, 16 times beyond the others",
        "n_samples",
        tuned_runs,
    )
    return found
