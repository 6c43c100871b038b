"""The corpus by name: list it, look at its rows, load them as runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayescale.corpus import builtin, download, readers
from bayescale.errors import InputError, nearest, some

if TYPE_CHECKING:
    import pandas as pd

    from bayescale.runs import Runs

_LEFT_OUT = r"diverged|suspect|SUSPECT|duplicate of|over 40 epochs|extreme-outlier"
_NORMAL_95 = 1.959964


class _Source(NamedTuple):
    read: Callable[[Mapping[str, Path]], pd.DataFrame]
    families: int
    metrics: str
    rows: int
    inputs: tuple[str, ...]
    caveats: str


_SOURCES = {
    "epoch_chinchilla": _Source(
        readers.epoch_chinchilla,
        1,
        "massivetext_train_loss_smoothed",
        245,
        ("n_params", "n_tokens"),
        "Read off the colours of a figure, so losses are good to about 0.01; tokens are "
        "FLOPs / (6 parameters). Four runs with fewer than 0.35 tokens per parameter are flagged "
        "and left out by load(), which keeps 241; the published refit keeps 240, because it also "
        "leaves out the fifth-highest loss (chin-4).",
    ),
    "overtrain": _Source(
        readers.overtrain,
        3,
        "c4_val_loss and 7 more losses, 46 task errors",
        5616,
        ("n_params", "n_tokens"),
        "Three training sets. Parameters include embeddings. The smallest runs stopped soon after "
        "warm-up, at losses of 6 to 7; most task errors are at chance below 1B parameters. "
        "Standard errors come from printed 95 % intervals over sampled tokens, not from seeds.",
    ),
}


def names() -> list[str]:
    """Return every name that `load` and `frame` accept: built-in families, then downloads."""
    return [*builtin.caveats(), *_SOURCES]


def table() -> pd.DataFrame:
    """Describe the corpus without touching the network.

    Returns:
        One row per entry: name, kind ("built-in" or "download"), families, metrics, rows, inputs,
        paper, arxiv_id, licence and caveats.
    """
    import pandas as pd

    return pd.DataFrame([*_built_in_entries(), *_downloadable_entries()])


def frame(name: str, *, progress: download.Progress | None = None) -> pd.DataFrame:
    """Return the rows of one entry as they are: every metric, perplexities not yet converted.

    Args:
        name: One of `names()`.
        progress: Called with the files done and the files in all while downloading.
    """
    return _rows(name, progress)


def load(
    name: str,
    *,
    metric: str | None = None,
    family: str | None = None,
    inputs: str | Sequence[str] | None = None,
    drop_flagged: bool = True,
    progress: download.Progress | None = None,
) -> Runs:
    """Load one curve of the corpus, ready to fit.

    Perplexities become losses, ln(perplexity). Without `metric`, the only loss in nats per token is
    taken, or else the only one in bits per byte, the only perplexity or the only error.

    Args:
        name: One of `names()`.
        metric: Which metric, if there are several.
        family: One family of an entry that holds several; all of them by default.
        inputs: Inputs to fit on instead of those that `axis` chooses.
        drop_flagged: Leave out rows that are marked as unfit for a falling law, such as the four
            extreme outliers of ``epoch_chinchilla``.
        progress: Called with the files done and the files in all while downloading.

    Raises:
        InputError: If a name is unknown, the choice is ambiguous, or the metric grows with scale.
    """
    rows = _rows(name, progress)
    if name in _SOURCES:
        rows = _with_units(rows)
    if family is not None:
        known = list(rows["family"].unique())
        if family not in known:
            raise InputError(f"{name} has no family {family!r}. {nearest(family, known)}")
        rows = rows[rows["family"] == family]
    metric = _only_metric(rows, name) if metric is None else metric
    known = list(rows["metric"].unique())
    if metric not in known:
        raise InputError(f"{name} has no metric {metric!r}. {nearest(metric, known)}")
    if inputs is None and name in _SOURCES:
        inputs = _SOURCES[name].inputs
    return _runs(rows[rows["metric"] == metric], f"{family or name}/{metric}", inputs, drop_flagged)


def curves(min_points: int = 5, losses_only: bool = True) -> dict[str, Runs]:
    """Return every built-in curve that one law could describe, as ``"family/metric"``.

    Sets of seeds are left out because nothing varies, and so are families in which different models
    share one input value, because they would pass for seed replicates.

    Args:
        min_points: Fewest distinct input values.
        losses_only: Keep losses and perplexities; otherwise also error rates and FID.
    """
    found = {}
    published: Any = builtin.published()
    for (family, metric), rows in published.groupby(["family", "metric"], sort=False):
        wanted = rows["unit"].iloc[0] in builtin.LOSSES or not losses_only
        if not wanted or not rows["lower_is_better"].all():
            continue
        rows = _unflagged(builtin.with_effective_params(rows))
        axis = list(builtin.axis(rows))
        if not axis or rows.groupby(axis)["run"].nunique().max() > 1:
            continue
        if len(rows[axis].drop_duplicates()) >= min_points:
            key = f"{family}/{metric}"
            found[key] = _runs(rows, key, axis, drop_flagged=True)
    return found


def _rows(name: str, progress: download.Progress | None) -> Any:
    if name in _SOURCES:
        return _SOURCES[name].read(download.files(name, progress=progress))
    if name not in builtin.caveats():
        raise InputError(f"The corpus has no entry {name!r}. {nearest(name, names())}")
    rows = builtin.published()
    return rows[rows["family"] == name].reset_index(drop=True)


def _runs(rows: Any, name: str, inputs: str | Sequence[str] | None, drop_flagged: bool) -> Runs:
    from bayescale.runs import Runs

    if not rows["lower_is_better"].all():
        raise InputError(
            f"{name} rises as models improve, but laws describe losses that fall. Choose a loss, "
            "or take corpus.frame(...) and build Runs from an error rate such as 1 - accuracy."
        )
    rows = _unflagged(rows) if drop_flagged else rows
    if "flops_convention" in rows:  # only built-in rows lack sizes
        rows = builtin.with_effective_params(rows)
    inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs or builtin.axis(rows))
    if not inputs:
        raise InputError(
            f"Nothing varies in {name}: its rows are seeds of one configuration or a single model. "
            "Look at them with corpus.frame(...)."
        )
    absent = [column for column in inputs if column not in rows or rows[column].isna().any()]
    if absent:
        raise InputError(f"{name} does not give {some(absent)} for every run. Use inputs={builtin.axis(rows)}.")
    rows = _as_losses(rows)
    labels = [label for label in ("family", "run", "seed") if rows[label].notna().any()]
    kept = [*labels, *inputs, "loss", *(["value_se"] if rows["value_se"].notna().any() else [])]
    return Runs.from_frame(rows[kept].reset_index(drop=True), inputs=inputs, name=name)


def _unflagged(rows: Any) -> Any:
    return rows[~rows["flag"].str.contains(_LEFT_OUT, regex=True)]


def _as_losses(rows: Any) -> Any:
    """Rename value to loss; perplexities become ln(ppl), their errors se / ppl."""
    perplexity = (rows["unit"] == "perplexity").to_numpy()
    value = rows["value"].to_numpy(float)
    error = rows["value_se"].to_numpy(float)
    return rows.assign(
        loss=np.where(perplexity, np.log(value), value),
        value_se=np.where(perplexity, error / value, error),
    )


def _with_units(rows: Any) -> Any:
    """Give downloaded rows the unit and standard error that built-in rows have."""
    unit = np.where(rows["metric"].str.startswith("err_"), "fraction", "nats/token")
    intervals = "ci_hi" in rows
    error = (rows["ci_hi"] - rows["ci_lo"]) / (2 * _NORMAL_95) if intervals else np.nan
    return rows.assign(unit=unit, value_se=error)


def _only_metric(rows: Any, name: str) -> str:
    fall = rows[rows["lower_is_better"]]
    if fall.empty:
        raise InputError(
            f"{name} holds only metrics that rise as models improve "
            f"({some(list(rows['metric'].unique()))}), but laws describe losses that fall. Take "
            f"corpus.frame({name!r}) and build Runs from an error rate such as 1 - accuracy."
        )
    tiers = [fall[fall["unit"] == unit] for unit in builtin.LOSSES]
    metrics = next(list(tier["metric"].unique()) for tier in [*tiers, fall] if len(tier))
    if len(metrics) > 1:
        raise InputError(
            f"{name} holds {len(metrics)} metrics that would do: {some(metrics, 12)}. "
            f"Choose one, for example metric={metrics[0]!r}."
        )
    return metrics[0]


def _built_in_entries() -> Iterator[dict[str, object]]:
    for name, rows in builtin.published().groupby("family", sort=False):
        family = str(name)
        first = rows.iloc[0]
        yield {
            "name": family,
            "kind": "built-in",
            "families": 1,
            "metrics": some(list(rows["metric"].unique()), 3),
            "rows": len(rows),
            "inputs": ", ".join(builtin.axis(rows)),
            "paper": first["paper"],
            "arxiv_id": first["arxiv_id"],
            "licence": "facts; cite the paper",
            "caveats": builtin.caveats()[family],
        }


def _downloadable_entries() -> Iterator[dict[str, object]]:
    for name, source in _SOURCES.items():
        first = download.manifest()[name][0]
        yield {
            "name": name,
            "kind": "download",
            "families": source.families,
            "metrics": source.metrics,
            "rows": source.rows,
            "inputs": ", ".join(source.inputs),
            "paper": first.paper,
            "arxiv_id": first.arxiv_id,
            "licence": first.licence,
            "caveats": source.caveats,
        }
