"""Learning curves: one model's error over examples, tokens or width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayescale.corpus.readers.tables import flagged, tidy

if TYPE_CHECKING:
    import pandas as pd

_METRICS = {"IC": "few_shot_error", "NMT": "log_perplexity", "LM": "val_loss", "BB": "error_or_score"}
"""Metric in the loss column of each domain: images, translation, language modelling, BIG-bench."""

_UNITS_IN_DOUBT = {
    "OPT-": "perplexity, not nats",
    "lambda-": "rescaled loss, unit unknown",
    "pile-t5-": "rescaled loss, unit unknown",
    "pythia-": "probably ln(LAMBADA perplexity) of the eval files, not pre-training loss",
}
"""Remark by the first letters of a model's name, inferred from magnitudes: OPT starts at 67, pythia ends near 6.5."""


def alabdulmohsin2022(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the 92 learning curves of Alabdulmohsin et al. (2022), arXiv 2209.06640.

    ``upstream_split`` is the split of the authors' benchmark: fit the smaller points, extrapolate to the larger ones.
    Their file contains every point of the five language-modelling curves four times; it is kept once.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    parts = [pd.read_csv(files[f"data/benchmark.{kind}.csv"]) for kind in ("vision", "lang")]
    raw = pd.concat(parts).drop_duplicates(ignore_index=True)
    # BIG-bench tasks are written as Python tuples: ('date', '1-shot').
    task = raw["Task"].str.replace(r"^\('(\w+)', '([\w-]+)'\)$", r"\1_\2", regex=True)
    # A model's name is its size for language modelling (1.68e+07) and BIG-bench (262M), and a recipe otherwise.
    sized = raw["Domain"].isin(["LM", "BB"])
    size = raw["Model"].where(sized).str.replace("M", "e6").astype(float)
    family = raw["Domain"] + "|" + task + "|" + raw["Model"]
    table = pd.DataFrame(
        {
            "family": family,
            "run": family,
            "n_params": size,
            "n_samples": raw["Seen Examples"],
            "domain": raw["Domain"],
            "task": task,
            "model": raw["Model"],
            "upstream_split": np.where(raw["Training"] == 1, "fit", "extrapolate"),
            "metric": raw["Domain"].map(_METRICS),
            "value": raw["Loss"],
            "is_final": 0,
        }
    )
    scales = ["n_params", "n_samples", "domain", "task", "model", "upstream_split"]
    return tidy(table, "alabdulmohsin2022", "alabdulmohsin2022revisiting", scales)


def nslpfn_colpret(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read the 192 training curves collected by Choshen et al. (2024), arXiv 2410.11840.

    They come in one archive of Lee et al. (2025), arXiv 2505.23032, without units; rows that are not in nats per token
    are flagged. The last row of a curve in the archive is marked final. Repeated rows are dropped; the curves
    ``lambda-*`` contain every point four times, and dropping the repeats also drops that mark.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    # Pickles are not allowed, because they could run code.
    with np.load(files["data/colpret.npz"], allow_pickle=False) as archive:
        curves = {name: archive[name] for name in archive.files}
    parts = []
    for name, (tokens, losses) in curves.items():
        final = np.arange(len(tokens)) == len(tokens) - 1
        parts.append(pd.DataFrame({"family": name, "n_tokens": tokens, "value": losses, "is_final": final.astype(int)}))
    table = pd.concat(parts).drop_duplicates(["family", "n_tokens", "value"])
    remark = unit_caveat(table["family"])
    return tidy(
        table.assign(run=table["family"], metric="loss", flag=remark),
        "nslpfn_colpret",
        "lee2025nslpfn;choshen2024hitchhiker",
        ["n_tokens"],
    )


def unit_caveat(names: pd.Series) -> pd.Series:
    """Return the caveat about each model's unit; empty where there is none."""
    beginning = names.str.extract(f"^({'|'.join(_UNITS_IN_DOUBT)})", expand=False)
    return beginning.map(_UNITS_IN_DOUBT)


def double_descent(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read two curves of Nakkiran et al. (2019), arXiv 1912.02292, that decrease, increase and decrease again.

    They are a stress test: no decreasing law describes them, so intervals must widen. Ten more curves are published as
    a pickle only, which could run code when opened; they are left out.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    widths = pd.read_csv(files["data/nlp-model-dd.csv"])
    samples = pd.read_csv(files["data/dd-translation-samples-aug26-small.csv"])
    count = pd.concat([widths["n"], samples["n"]]).astype(int).astype(str)
    raw = pd.concat(
        [
            widths.assign(family="nlp-model-dd", width=widths["n"], n_samples=float("nan")),
            samples.assign(family="dd-translation|d64", width=samples["size"], n_samples=samples["n"]),
        ]
    ).assign(run="n" + count, x_label=float("nan"))
    metrics = ["test_error", "test_loss", "train_error", "train_loss"]
    labels = ["family", "run", "n_samples", "width", "x_label"]
    table = raw.set_index(labels)[metrics].rename_axis(columns="metric").stack().rename("value").reset_index()
    return tidy(table, "double_descent", "nakkiran2019deep;caballero2022bnsl", labels[2:])


def finetune_rectified(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read 30 models fine-tuned on growing samples of three data sets: Lin et al. (2024), arXiv 2402.02314.

    The point with zero examples, which is the test loss before fine-tuning, is flagged.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    parts = [
        pd.read_csv(files[f"benchmark/{dataset}.csv"])
        .melt(["config name", "size", "family"], var_name="n_samples", ignore_index=False)
        .sort_index(kind="stable")
        .assign(dataset=dataset)
        for dataset in ("flan", "gigaword", "wmt19")
    ]
    raw = pd.concat(parts)
    family = raw["dataset"] + "|" + raw["config name"]
    examples = raw["n_samples"].astype(int)
    table = raw.rename(columns={"size": "n_params", "config name": "model", "family": "model_family"}).assign(
        family=family,
        run=family + "|n" + raw["n_samples"],
        n_samples=examples,
        metric="test_loss",
        flag=flagged(examples == 0, "zero-shot point (0 examples)"),
    )
    scales = ["n_params", "n_samples", "dataset", "model", "model_family"]
    return tidy(table, "finetune_rectified", "lin2024rectified", scales)
