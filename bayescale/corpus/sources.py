"""What every downloadable source holds, how it is read, and what to know before fitting it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bayescale.corpus import readers

if TYPE_CHECKING:
    import pandas as pd


class Source(NamedTuple):
    """One downloadable source.

    Attributes:
        read: From local files by upstream path to the tidy table.
        families: How many families the table holds.
        metrics: Its metrics in words.
        rows: How many measurements it holds.
        inputs: Choices of scale inputs; the first that every row has, and of which each varies, is taken.
        caveats: What to know before fitting.
        units: Unit by the beginning of a metric's name; the first that fits counts.
        refusal: Why `load` cannot offer the rows as losses that fall, if it cannot.
        paper: Paper of a source that the manifest of downloads does not list.
        licence: Its licence.
    """

    read: Callable[[Mapping[str, Path]], pd.DataFrame]
    families: int
    metrics: str
    rows: int
    inputs: tuple[tuple[str, ...], ...]
    caveats: str
    units: Mapping[str, str] = {"": "nats/token"}
    refusal: str = ""
    paper: str = ""
    licence: str = ""


SOURCES = {
    "epoch_chinchilla": Source(
        readers.epoch_chinchilla,
        1,
        "massivetext_train_loss_smoothed",
        245,
        (("n_params", "n_tokens"),),
        "Read off the colours of a figure, so losses are good to about 0.01; tokens are "
        "FLOPs / (6 parameters). Four runs with fewer than 0.35 tokens per parameter are flagged "
        "and left out by load(), which keeps 241; the published refit keeps 240, because it also "
        "leaves out the fifth-highest loss (chin-4).",
    ),
    "overtrain": Source(
        readers.overtrain,
        3,
        "c4_val_loss and 7 more losses, 46 task errors",
        5616,
        (("n_params", "n_tokens"),),
        "Three training sets. Parameters include embeddings. The smallest runs stopped soon after "
        "warm-up, at losses of 6 to 7; most task errors are at chance below 1B parameters. "
        "Standard errors come from printed 95 % intervals over sampled tokens, not from seeds.",
        units={"err_": "fraction", "": "nats/token"},
    ),
    "alabdulmohsin2022": Source(
        readers.alabdulmohsin2022,
        92,
        "few_shot_error, log_perplexity, val_loss, error_or_score",
        19595,
        (("n_samples",),),
        "72 image few-shot, 5 translation, 5 language-modelling and 10 BIG-bench curves with the field's split into "
        "fit and extrapolate. Language-modelling losses are rescaled to 0.85-1.0, translation has 10 or 11 points a "
        "curve, BIG-bench has plateaus. A curve is a series of checkpoints, so its points share one seed.",
        units={"few_shot": "fraction", "log_perplexity": "nats/token", "": "rescaled"},
    ),
    "nslpfn_colpret": Source(
        readers.nslpfn_colpret,
        192,
        "loss",
        35188,
        (("n_tokens",),),
        "Training curves without a stated unit: OPT is in perplexity (load() takes its logarithm), pile-t5 and lambda "
        "are rescaled, pythia is no pre-training loss. Repeats of one configuration hide in the names. "
        "The curves of datablations and overtrain are here too: count them once.",
    ),
    "double_descent": Source(
        readers.double_descent,
        2,
        "test_loss, test_error, train_loss, train_error",
        492,
        (("width",), ("n_samples",)),
        "Falls, rises and falls again: a stress set that no falling law describes. One curve over width, one over "
        "samples; ten more are published as a pickle only, which is never opened. Errors are in percent.",
        units={"test_error": "percent", "train_error": "percent", "": "nats/token"},
    ),
    "finetune_rectified": Source(
        readers.finetune_rectified,
        90,
        "test_loss",
        1350,
        (("n_samples",),),
        "30 models fine-tuned on 200 to 1.6M examples of three data sets. The point without examples is flagged and "
        "left out by load(), since a law has no value there.",
    ),
    "lcdb": Source(
        lambda files: readers.lcdb(),
        3958,
        "error_rate, log_loss",
        130584,
        (("n_samples",),),
        "Comes in a Python package instead of a download: pip install 'bayescale[lcdb]'. 20 classical learners on 240 "
        "data sets, 3,945 curves of the error rate and 3,958 of the log-loss: of 4,367, those with seven anchors that "
        "have all five outer seeds, each with two inner seeds, and that never reach zero. Outer seeds change the "
        "test set, so value_se includes it; 4 % of points have none, because the learner predicts a constant. "
        "Log-losses are clipped at 34.5 and have heavy tails.",
        units={"error_rate": "fraction", "": "nats/sample"},
        paper="Mohr et al. 2022 (ECML PKDD)",
        licence="MIT",
    ),
}
