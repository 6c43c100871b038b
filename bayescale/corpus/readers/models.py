"""Tables of trained models: sizes and data with the losses and scores of the same models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayescale.corpus.readers.tables import flagged, parquet, tidy_cited

if TYPE_CHECKING:
    import pandas as pd

_FARSEER = "benchmark/dataset/farseer_scaling_law"

_CLIP_SCORES = ("acc1", "mean_per_class_recall", "image_retrieval_recall@5", "text_retrieval_recall@5")
_CLIP_IMAGES = {
    "imagenet1k": 50_000,
    "imagenetv2": 10_000,
    "imagenet-a": 7_500,
    "imagenet-r": 30_000,
    "imagenet_sketch": 50_889,
    "objectnet": 18_574,
    "vtab/cifar100": 10_000,
}
"""Number of test images of the sets whose publishers state it."""
_CLIP_DATA = {"CLIP-WIT": 400e6, "LAION-80M": 80e6, "LAION-400M": 413e6, "LAION-2B": 2e9}
"""Nominal number of image-text pairs in each training set."""

_DCLM_QUESTIONS = {
    "hellaswag": 10_042,
    "hellaswag_zeroshot": 10_042,
    "arc_easy": 2_376,
    "arc_challenge": 1_172,
    "piqa": 1_838,
    "lambada_openai": 5_153,
    "winogrande": 1_267,
    "boolq": 3_270,
    "copa": 100,
    "openbook_qa": 500,
    "commonsense_qa": 1_221,
    "winograd": 273,
    "squad": 10_570,
    "coqa": 7_983,
    "jeopardy": 2_117,
    "bigbench_qa_wikidata": 20_321,
    "mmlu_fewshot": 14_042,
    "mmlu_zeroshot": 14_042,
    "triviaqa_sm_sub": 3_000,
    "siqa": 1_954,
    "bigbench_language_identification": 10_000,
    "agi_eval_lsat_ar": 230,
    "agi_eval_lsat_rc": 268,
    "agi_eval_lsat_lr": 510,
    "agi_eval_sat_en": 206,
    "gsm8k": 1_319,
    "bigbench_operators": 210,
    "bigbench_dyck_languages": 1_000,
    "bigbench_cs_algorithms": 1_320,
    "bigbench_repeat_copy_logic": 32,
    "pubmed_qa_labeled": 1_000,
    "bbq": 58_492,
}
"""Number of questions of each task in the order of the table; the file does not contain it."""
_DCLM_CENTRED = ("Core", "Extended")
_DCLM_LOSSES = (
    "mmlu",
    "hellaswag",
    "jeopardy_all",
    "triviaqa_sm_sub",
    "bigbench_qa_wikidata",
    "arc_easy",
    "arc_challenge",
    "piqa",
    "openbook_qa",
    "lambada_openai",
    "squad",
    "coqa",
    "boolq",
)
_DCLM_VALIDATION = "eval_metrics.perplexity"
_DCLM_BROKEN_LOSS = 5.0
_DCLM_CHANCE = 0.26
"""HellaSwag has four choices, so scores near a quarter are chance; trained models of the smallest size reach 0.33."""


def farseer(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the sizes-by-tokens grid of Li et al. (2025), arXiv 2506.10972.

    ``upstream_split`` is the split of the copy by Li et al. (2026), whose test part consists of seven large runs. The
    second of two equal runs is flagged. The unit of the loss is not stated; its magnitude suggests bits per character.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    parts = [
        parquet(files[f"{_FARSEER}/{split}-00000-of-00001.parquet"]).assign(upstream_split=split)
        for split in ("train", "test")
    ]
    raw = pd.concat(parts, ignore_index=True)
    again = raw.duplicated(["N", "D", "loss"])
    run = "N" + raw["N"].map("{:.0f}".format) + "-D" + raw["D"].map("{:.0f}".format)
    table = raw.assign(
        family="farseer",
        run=run + again.map({True: "#2", False: ""}),
        n_params=raw["N"],
        n_params_kind="as published (without embeddings in the paper)",
        n_tokens=raw["D"],
        flops=6.0 * raw["N"] * raw["D"],
        flops_kind="6ND",
        metric="val_bpc",
        value=raw["loss"],
        flag=flagged(again, "duplicate of the same N, D and loss"),
    )
    scales = ["n_params", "n_params_kind", "n_tokens", "flops", "flops_kind", "upstream_split"]
    return tidy_cited(table, "farseer", "li2025farseer; li2026activesl", scales)


def openclip_scaling(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read zero-shot scores of 29 CLIP models of Cherti et al. (2023), arXiv 2212.07143.

    There are models by samples seen by training set, and ImageNet accuracy during training (``imagenet1k_curve``), in
    the middle of a cosine schedule. OpenAI's own models share one name in the file; the first, their largest, is kept
    for reference and flagged.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    sizes = pd.read_csv(files["arch_info.csv"]).set_index("model")["mparams"]
    models = pd.read_csv(files["trained_models_info.csv"]).set_index("name")
    raw = pd.read_csv(files["zeroshot_results.csv"]).drop_duplicates(["name", "downstream_dataset"], ignore_index=True)
    kept = ["name", "arch", "samples_seen", "gmacs", "upstream_dataset", "downstream_dataset"]
    scores = raw[[*kept, *_CLIP_SCORES]].melt(kept, var_name="score", ignore_index=False)
    scores = scores.sort_index(kind="stable").dropna(subset="value").rename(columns={"upstream_dataset": "dataset"})
    scores = scores.assign(
        metric=scores["downstream_dataset"] + "|" + scores["score"],
        n_samples=scores["samples_seen"],
        unique_samples=scores["dataset"].map(_CLIP_DATA),
        flops=6.0 * scores["gmacs"] * 1e9 * scores["samples_seen"],
        flops_kind="6 x MACs per sample x samples seen (2 FLOP a MAC, 3 passes)",
        n_items=scores["downstream_dataset"].map(_CLIP_IMAGES),
        is_final=1,
    )
    along = pd.read_csv(files["imagenet_zeroshot_learning_curves.csv"]).sort_values(["name", "epoch"])
    # One model's table of epochs disagrees with its total of samples seen, which agrees with its name.
    seen = raw.groupby("name")["samples_seen"].first() / models["epochs"]
    along = along.assign(
        arch=along["name"].map(models["arch"]),
        dataset="LAION-" + along["name"].map(models["data"]),
        step=along["epoch"],
        n_samples=along["epoch"] * along["name"].map(seen),
        lr_state="mid-cosine",
        metric="imagenet1k_curve|acc1",
        value=along["imagenet-zeroshot-val-top1"],
        is_final=0,
    )
    table = pd.concat([scores, along], ignore_index=True)
    reference = table["dataset"] == "CLIP-WIT"
    table = table.assign(
        family=reference.map({True: "openclip_reference", False: "openclip"}),
        run=table["name"],
        # The file counts millions with two decimals.
        n_params=(table["arch"].map(sizes) * 1e6).round().astype("int64"),
        n_params_kind="image and text tower",
        lr=table["name"].map(models["lr"]),
        lower_is_better=0,
        flag=flagged(reference, "not comparable: other training code and data"),
    )
    scales = ["dataset", "arch", "n_params", "n_params_kind", "n_samples", "unique_samples", "flops", "flops_kind"]
    return tidy_cited(table, "openclip_scaling", "cherti2023openclip", [*scales, "lr", "n_items", "lr_state"])


def dclm(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read 416 models on 275 training sets of Li et al. (2024), arXiv 2406.11794.

    Each training set is a family. Besides the scores there are the validation loss (called a perplexity in the file)
    and losses of tasks (``ppl_``). Of 53 tasks, the 32 with a known number of questions are read. Broken runs are
    flagged.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    raw = pd.read_csv(files["assets/DCLM_model_database.csv"], low_memory=False)
    name = raw["Model JSON"]
    broken = (raw[_DCLM_VALIDATION] > _DCLM_BROKEN_LOSS) | (raw["hellaswag"] < _DCLM_CHANCE)
    models = pd.DataFrame(
        {
            "family": "dclm|" + raw["Dataset"],
            "run": raw["model_uuid"] + "|" + raw["creation_date"],
            "seed": name.str.extract(r"-seed=(\d+)", expand=False).astype(float),
            "dataset": raw["Dataset"],
            "arch": raw["model"],
            "n_params": raw["params"],
            "n_params_kind": "total",
            "n_tokens": raw["tokens"],
            # These products exceed 64-bit integers.
            "flops": 6.0 * raw["params"] * raw["tokens"],
            "flops_kind": "6ND",
            "lr": name.str.extract(r"-lr=(\d+p\d+)", expand=False).str.replace("p", ".").astype(float),
            "flag": flagged(broken, "suspect: diverged or broken run (loss above 5 or HellaSwag at chance)"),
        }
    )
    losses = {_DCLM_VALIDATION: "openlm_val_loss"} | {f"perplexity.{task}": f"ppl_{task}" for task in _DCLM_LOSSES}
    scores = raw[[*_DCLM_CENTRED, *_DCLM_QUESTIONS, *losses]].rename(columns=losses)
    rows = scores.melt(var_name="metric", ignore_index=False)
    rows = rows.sort_index(kind="stable").dropna(subset="value").join(models).reset_index(drop=True)
    task = rows["metric"].isin(_DCLM_QUESTIONS)
    centred = rows["metric"].isin(_DCLM_CENTRED)
    note: Any = flagged(task, "n_items from the task, not from the file")
    note[centred] = "centred: 0 is chance"
    table = rows.assign(
        n_items=rows["metric"].map(_DCLM_QUESTIONS),
        note=note,
        lower_is_better=(~task & ~centred).astype(int),
    )
    scales = ["dataset", "arch", "n_params", "n_params_kind", "n_tokens", "flops", "flops_kind", "lr"]
    return tidy_cited(table, "dclm", "li2024dclm", [*scales, "n_items", "note"], exact=["flops", "lr"])
