"""Downloadable data sets: contents, reader and caveats of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bayescale.corpus import readers

if TYPE_CHECKING:
    import pandas as pd


class Source(NamedTuple):
    """One downloadable data set.

    Attributes:
        read: Function from local files, by their path in the publication, to the table.
        families: Number of families in the table.
        metrics: Description of its metrics.
        rows: Number of measurements.
        inputs: Choices of scale inputs; the first choice that every row has, and of which each input varies, is used.
        caveats: Caveats to read before fitting.
        units: Unit by the first letters of a metric's name; the first that matches is used.
        final_only: Whether `load` uses only the last row of a run, because earlier rows are not comparable.
        refusal: Reason why `load` cannot return the rows as decreasing losses, if it cannot.
        paper: Paper of a data set that is not in the manifest of downloads.
        licence: Licence of such a data set.
    """

    read: Callable[[Mapping[str, Path]], pd.DataFrame]
    families: int
    metrics: str
    rows: int
    inputs: tuple[tuple[str, ...], ...]
    caveats: str
    units: Mapping[str, str] = {"": "nats/token"}
    final_only: bool = False
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
    "gemstones": Source(
        readers.gemstones,
        3,
        "dolma_val_loss, dclm_loss, fineweb_edu_loss",
        3839,
        (("n_params", "n_tokens"),),
        "22 shapes of width and depth, which scatter the log loss by 0.016 around any law of size and tokens. The hot "
        "families are checkpoints of one run at constant learning rate, so their points share a seed; each cool point "
        "ends its own cool-down. The ablation halves the learning rate.",
    ),
    "datablations": Source(
        readers.datablations,
        4,
        "c4_val_loss, oscar_val_loss",
        9566,
        (("n_params", "n_tokens"),),
        "Repeated data: unique_tokens is a third input, and a law without it applies only to few epochs (41 runs of "
        "the contour see every token once, 97 at most four times). Beyond 40 epochs the loss increases because of "
        "over-fitting; such rows are flagged and left out by load(), as are checkpoints before the end of the "
        "schedule. Sixteen configurations have five runs each. Sizes named 25m hold 35.5M parameters. The mixtures "
        "with Python code are not included.",
        final_only=True,
    ),
    "alabdulmohsin2022": Source(
        readers.alabdulmohsin2022,
        92,
        "few_shot_error, log_perplexity, val_loss, error_or_score",
        19595,
        (("n_samples",),),
        "72 image few-shot, 5 translation, 5 language-modelling and 10 BIG-bench curves with the field's split into "
        "fit and extrapolate. Language-modelling losses are rescaled to 0.85-1.0, translation has 10 or 11 points a "
        "curve, BIG-bench has plateaus. The files do not say whether points are checkpoints or separate runs; each "
        "curve counts as one run.",
        units={"few_shot": "fraction", "log_perplexity": "nats/token", "": "rescaled"},
    ),
    "nslpfn_colpret": Source(
        readers.nslpfn_colpret,
        192,
        "loss",
        35188,
        (("n_tokens",),),
        "Training curves without a stated unit: OPT is in perplexity (load() takes its logarithm), pile-t5 and "
        "lambda are rescaled, pythia is not a pre-training loss. Names hide which curves repeat one configuration. "
        "The curves of datablations and overtrain are included, too: count them only once.",
    ),
    "double_descent": Source(
        readers.double_descent,
        2,
        "test_loss, test_error, train_loss, train_error",
        492,
        (("width",), ("n_samples",)),
        "The error decreases, increases and decreases again, so no decreasing law describes it: a stress test. One "
        "curve over width, one over samples; ten more are published only as a pickle, which is never opened. Errors "
        "are in percent.",
        units={"test_error": "percent", "train_error": "percent", "": "nats/token"},
    ),
    "finetune_rectified": Source(
        readers.finetune_rectified,
        90,
        "test_loss",
        1350,
        (("n_samples",),),
        "30 models fine-tuned on 200 to 1.6M examples of three data sets. The point without examples is flagged and "
        "left out by load(), because laws have no value at zero examples.",
    ),
    "routing": Source(
        readers.routing,
        16,
        "loss_validation and 5 more losses",
        34731,
        (("n_params_active", "n_experts"), ("n_params_active",)),
        "Dense and routed models with 1 to 512 experts, a row every 10,000 steps; load() takes the last (249,000), "
        "which a few runs lack for sets other than validation. A family is a router with its settings. Only the dense "
        "130M model has seeds.",
        final_only=True,
    ),
    "multipowerlaw": Source(
        readers.multipowerlaw,
        3,
        "train_loss",
        6265,
        (("step",),),
        "Whole loss curves under nine learning-rate schedules at three sizes. Tokens per step are not stated, so the "
        "step is the input. Steps before 2,160 are missing.",
        refusal="has loss curves whose input is the whole learning-rate schedule, which no single column describes.",
    ),
    "steplaw": Source(
        readers.steplaw,
        5,
        "smooth_loss",
        2619,
        (("n_params_nonembed", "n_tokens", "lr", "batch_tokens"), ("n_tokens", "lr", "batch_tokens")),
        "Grids of learning rate by batch size at 17 (dense) and 12 (routed) sizes and tokens: for a law of size and "
        "tokens, first select the best run of each slice. Losses are smoothed. 181 runs that diverged (loss above 4) "
        "are flagged and left out by load(). Sizes are without embeddings.",
    ),
    "vocab": Source(
        readers.vocab,
        6,
        "unigram_normalised_loss",
        1200,
        (("n_params_nonembed", "vocab_size", "n_chars"),),
        "Ten vocabularies at six sizes. The loss is normalised by a unigram model and negative; data are counted in "
        "characters, because tokens depend on the vocabulary.",
        refusal="is normalised by a unigram model and negative, but laws describe positive losses.",
    ),
    "quest_quant": Source(
        readers.quest_quant,
        21,
        "c4_val_loss",
        104,
        (("n_params_nonembed", "n_tokens"),),
        "A family is a pair of quantisers with their bits (1 to 16). The four FP4 runs say 16 bits upstream and are "
        "flagged. In all but three families tokens follow parameters (98 each), so the two inputs carry the same "
        "information.",
    ),
    "coverage": Source(
        readers.coverage,
        4,
        "pass_at_k",
        2023,
        (("n_attempts",),),
        "Fraction of problems that at least one of k attempts solves. Only monkeys-original (128 problems, 10,000 "
        "samples each) is clean: the others stopped sampling early on problems that were solved, so their counts are "
        "biased. Needs pyarrow to read Parquet.",
        units={"": "fraction"},
        refusal="has success rates, which increase with attempts, but laws describe losses that decrease.",
    ),
    "coverage_counts": Source(
        readers.coverage_counts,
        4,
        "success_rate",
        21379,
        (("n_params", "n_tokens"),),
        "Number of samples that solved each problem: the counts from which coverage is computed, with the same "
        "caveats.",
        units={"": "fraction"},
        refusal="has success rates of single problems, but laws describe losses that decrease.",
    ),
    "obs_scaling": Source(
        readers.obs_scaling,
        47,
        "MMLU and 143 more scores",
        11487,
        (("n_params", "n_tokens"), ("n_params",)),
        "Benchmarks of 148 base models, so load() cannot return a decreasing loss. BLEU has a maximum of 100, all "
        "other scores of 1. Families with six or more models: Pythia, OPT, Qwen1.5, RWKV and Cerebras-GPT. BTLM's "
        "tokens are given a thousandfold too high upstream and corrected.",
        units={"": "fraction"},
    ),
    "sloth": Source(
        readers.sloth,
        35,
        "MMLU and 109 more scores",
        14409,
        (("n_params", "n_tokens"), ("n_params",)),
        "Leaderboard scores of 188 models, so load() cannot return a decreasing loss. Base models and those tuned on "
        "instructions are mixed: split by the column instruct.",
        units={"": "fraction"},
    ),
    "rl_depth": Source(
        readers.rl_depth,
        10,
        "episode_time_at_goal",
        10000,
        (("depth",),),
        "Reinforcement learning of ten control tasks by depth of the network (4 to 64), epoch by epoch. Higher "
        "scores are better; their standard errors are over seeds.",
        units={"": "steps"},
    ),
    "farseer": Source(
        readers.farseer,
        1,
        "val_bpc",
        411,
        (("n_params", "n_tokens"),),
        "A copy with its own split (upstream_split), which holds out seven large runs. Four runs occur twice; "
        "load() leaves out the second copy. The unit is not stated; the size of the values suggests bits per "
        "character. Sizes are without embeddings in the paper. Needs pyarrow to read Parquet.",
        units={"": "bits/character"},
    ),
    "il_games": Source(
        readers.il_games,
        13,
        "bc_eval_loss, mean_return",
        1699,
        (("n_params", "n_samples"), ("n_params", "flops"), ("n_params",)),
        "Imitation of players of NetHack and eight Atari games at given FLOP budgets, also with sizes far from the "
        "best one. NetHack's points are checkpoints of runs at a constant learning rate, one at every budget; they "
        "alone have a mean return, which rises. Four more NetHack families vary shape, learning rate or what is "
        "observed, or hold one run. Standard errors, of NetHack only, are over the evaluation. 109 losses above that "
        "of the uniform policy are flagged and left out by load(). BattleZone lacks the samples of 32 runs, so its "
        "second input is the FLOP budget, and a ninth game (DoubleDunk) is an empty file upstream. Files are "
        "archives of PyTorch, which are never loaded: their numbers are read out of them.",
        units={"": "nats/action"},
    ),
    "openclip_scaling": Source(
        readers.openclip_scaling,
        2,
        "imagenet1k|acc1 and 80 more scores",
        5759,
        (("n_params", "n_samples"),),
        "Zero-shot accuracies and recalls of 29 CLIP models, so load() cannot return a decreasing loss. Models vary "
        "in size, samples seen and training set (80M, 400M and 2B pairs); ViT-B/16 and ViT-B/32 have as many "
        "parameters and differ almost threefold in compute. The curve of ImageNet accuracy is taken before the "
        "learning rate has decayed. OpenAI's own model is a reference and flagged.",
        units={"": "fraction"},
    ),
    "dclm": Source(
        readers.dclm,
        275,
        "openlm_val_loss, 13 more losses and 34 scores",
        17212,
        (("n_params", "n_tokens"), ("n_params",), ("n_tokens",)),
        "416 models on 275 training sets, a family each, of one to three sizes: for comparing data, not sizes. 243 "
        "of them have a validation loss; ppl_ are losses of tasks, not perplexities. Runs that differ in their seed "
        "mostly differ in more, so they are not replicates. Three broken runs are flagged and left out by load().",
        units={"openlm_val_loss": "nats/token", "ppl_": "nats", "": "fraction"},
    ),
    "rl_value_scaling": Source(
        readers.rl_value_scaling,
        4,
        "env_steps_to_threshold",
        68,
        (("n_params", "utd"),),
        "Steps in the environment until a return is reached, by size of the critic and updates per step (utd): means "
        "over bootstrap samples with their standard deviation, which four cells lack. flops is computed from the "
        "steps, so it must not be used as an input. At the largest size and most updates the steps rise again.",
        units={"": "steps"},
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
        "test set, so value_se includes it; it is zero for 4 % of points, where all seeds agree. Log-losses are "
        "clipped at 34.5, -ln(1e-15), and have heavy tails.",
        units={"error_rate": "fraction", "": "nats/sample"},
        paper="Mohr et al. 2022 (ECML PKDD)",
        licence="MIT",
    ),
}


class LeftOut(NamedTuple):
    """A published data set that is known but that bayescale cannot read."""

    paper: str
    arxiv_id: str
    licence: str
    why: str


_NO_FILE = "Left out: no upstream data file is known that could be downloaded and verified."

LEFT_OUT = {
    "parscale": LeftOut(
        "Chen et al. 2025", "2505.10475", "none stated", f"{_NO_FILE} Parallel streams: 48 runs of two families."
    ),
    "polypythias": LeftOut(
        "van der Wal et al. 2025",
        "2503.09543",
        "Apache-2.0",
        f"{_NO_FILE} Pythia with up to nine seeds at four sizes: what is known about seed noise.",
    ),
    "modded_nanogpt": LeftOut(
        "speed-run records of modded-nanogpt",
        "",
        "MIT",
        f"{_NO_FILE} One size (124M) in 118 configurations of 5 to 75 runs: noise only.",
    ),
    "marin_optimizers": LeftOut(
        "Wen et al. 2025",
        "2509.02046",
        "Apache-2.0",
        f"{_NO_FILE} 449 runs of four optimisers by size, tokens, learning rate and batch.",
    ),
    "pythia_evals": LeftOut(
        "Biderman et al. 2023",
        "2304.01373",
        "Apache-2.0",
        f"{_NO_FILE} Task scores of 77 models by checkpoint, many of them also in obs_scaling and sloth.",
    ),
    "tinyml": LeftOut(
        "small convolutional networks on CIFAR-100",
        "",
        "CC-BY-4.0",
        f"{_NO_FILE} Test error by width and samples or classes, three seeds each: 84 runs.",
    ),
    "rl_dreamerv3_scores": LeftOut(
        "Hafner et al. 2023",
        "2301.04104",
        "MIT",
        f"{_NO_FILE} Scores by environment step of one size of agent on 574 tasks and methods.",
    ),
}
