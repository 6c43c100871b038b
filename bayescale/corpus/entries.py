"""The corpus by name: list its entries, return their rows, and load them as runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.checked import known_keywords
from bayescale.corpus import builtin, download
from bayescale.corpus.readers import curve_database
from bayescale.corpus.sources import LEFT_OUT, SOURCES, Source
from bayescale.errors import InputError, nearest, some

if TYPE_CHECKING:
    import pandas as pd

    from bayescale.data.runs import Runs

# A law has no value at zero examples or without training; two entries mark such points.
_LEFT_OUT = r"diverged|suspect|SUSPECT|duplicate of|over 40 epochs|extreme-outlier|zero-shot point|untrained"
_NORMAL_95 = 1.959964


@known_keywords
def names() -> list[str]:
    """Return every name that `load` and `frame` accept: built-in families, then entries to download."""
    return [*builtin.caveats(), *SOURCES]


@known_keywords
def table() -> pd.DataFrame:
    """Describe the corpus without using the network.

    Returns:
        One row per entry: name, kind, families, metrics, rows, inputs, paper, arxiv_id, licence and caveats. The kind
        is "built-in", "download", "package" (comes inside a Python package) or "left out" (known, but bayescale cannot
        read it).
    """
    import pandas as pd

    return pd.DataFrame([*_built_in_entries(), *_source_entries(), *_entries_left_out()])


@known_keywords
def frame(name: str, *, progress: download.Progress | None = None) -> pd.DataFrame:
    """Return the rows of one entry unchanged: all metrics, with perplexities not converted.

    Args:
        name: A name that `names()` returns.
        progress: Called during downloads with the number of files done and the total number.
    """
    return _rows(name, progress)


@known_keywords
def fetch(name: str, *, progress: download.Progress | None = None) -> Path:
    """Make sure that the files of an entry are on this machine and have the published checksums.

    Args:
        name: Name of an entry that is not built in (see `table`).
        progress: Called with the number of files done and the total number.

    Returns:
        The folder that contains them: the cache, or the folder that ``BAYESCALE_CORPUS`` names.

    Raises:
        InputError: If the name is unknown, or a file is missing, damaged or unreachable.
    """
    if name in builtin.caveats():
        raise InputError(f"{name!r} is built in: there is nothing to fetch. Use corpus.load or corpus.frame.")
    if name in SOURCES and name not in download.manifest():
        SOURCES[name].read({})
        return download.cache_folder()
    if name in LEFT_OUT:
        raise _unknown(name)
    return download.fetch(name, progress=progress)


@known_keywords
def state(name: str) -> str:
    """Describe where the rows of an entry are: "built in", "verified (3 files)", "not fetched" and so on."""
    if name in download.manifest():
        return download.state(name)
    if name in SOURCES:
        return curve_database.state()
    if name in LEFT_OUT:
        return "left out"
    if name not in builtin.caveats():
        raise _unknown(name)
    return "built in"


@known_keywords
def load(
    name: str,
    *,
    metric: str | None = None,
    family: str | None = None,
    inputs: str | Sequence[str] | None = None,
    drop_flagged: bool = True,
    progress: download.Progress | None = None,
) -> Runs:
    """Load one curve of the corpus as runs, ready to fit.

    Perplexities become losses, ln(perplexity). Without `metric`, the only loss in nats per token is used, or else the
    only loss in bits per byte, the only perplexity or the only error.

    Args:
        name: A name that `names()` returns.
        metric: Name of the metric, if there are several.
        family: Name of one family, for an entry with several; by default all of them.
        inputs: Inputs to fit on instead of the entry's own (see `table`); any column of numbers.
        drop_flagged: Leave out rows that are marked as unsuitable for a decreasing law, such as the four extreme
            outliers of ``epoch_chinchilla``, diverged runs and points before any training.
        progress: Called during downloads with the number of files done and the total number.

    Raises:
        InputError: If a name is unknown, the choice is ambiguous, or the metric grows with scale.
    """
    source = SOURCES.get(name)
    if source is not None and source.refusal:
        raise InputError(f"{name} {source.refusal} Build Runs from the rows that you need, corpus.frame({name!r}).")
    rows = _rows(name, progress)
    if source is not None:
        rows = _with_units(rows, source)
    if family is not None:
        known = list(rows["family"].unique())
        if family not in known:
            raise InputError(f"{name} has no family {family!r}. {nearest(family, known)}")
        rows = rows[rows["family"] == family]
    metric = _only_metric(rows, name) if metric is None else metric
    known = list(rows["metric"].unique())
    if metric not in known:
        raise InputError(f"{name} has no metric {metric!r}. {nearest(metric, known)}")
    rows = rows[rows["metric"] == metric]
    rows = _unflagged(rows) if drop_flagged else rows
    if source is not None and source.final_only:
        rows = rows[rows["is_final"].astype(bool)]
    if inputs is None and source is not None:
        inputs = _informative_inputs(rows, source, name)
    return _runs(rows, f"{family or name}/{metric}", inputs)


@known_keywords
def curves(min_points: int = 5, losses_only: bool = True) -> dict[str, Runs]:
    """Return every built-in curve that one law could describe, by ``"family/metric"``.

    Sets of seeds are left out because no input varies. Families in which different models share one input value are
    left out too, because these models would be taken for seed replicates.

    Args:
        min_points: Smallest number of distinct input values.
        losses_only: Keep only losses and perplexities; if False, also error rates and FID.
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
            found[key] = _runs(rows, key, axis)
    return found


def _rows(name: str, progress: download.Progress | None) -> Any:
    if name in SOURCES:
        listed = name in download.manifest()
        return SOURCES[name].read(download.files(name, progress=progress) if listed else {})
    if name not in builtin.caveats():
        raise _unknown(name)
    rows = builtin.published()
    return rows[rows["family"] == name].reset_index(drop=True)


def _runs(rows: Any, name: str, inputs: str | Sequence[str] | None) -> Runs:
    from bayescale.data.runs import Runs

    if not rows["lower_is_better"].all():
        raise InputError(
            f"{name} increases as models improve, but laws describe losses that decrease. Choose a loss, "
            "or build Runs from the rows of corpus.frame(...) with an error rate such as 1 - accuracy."
        )
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
    rows = _readings_averaged(rows, labels, inputs)
    kept = [*labels, *inputs, "loss", *(["value_se"] if rows["value_se"].notna().any() else [])]
    return Runs.from_frame(rows[kept].reset_index(drop=True), inputs=inputs, name=name)


def _unflagged(rows: Any) -> Any:
    return rows[~rows["flag"].str.contains(_LEFT_OUT, regex=True)]


def _as_losses(rows: Any) -> Any:
    """Return rows with value renamed to loss; perplexities become ln(ppl), their standard errors se / ppl."""
    perplexity = (rows["unit"] == "perplexity").to_numpy()
    value = rows["value"].to_numpy(float)
    error = rows["value_se"].to_numpy(float)
    return rows.assign(
        loss=np.where(perplexity, np.log(value), value),
        value_se=np.where(perplexity, error / value, error),
    )


def _with_units(rows: Any, source: Source) -> Any:
    """Return rows of a downloaded entry with the unit, standard error and flags that built-in rows have."""
    metrics = rows["metric"].unique()
    units = {metric: next(u for start, u in source.units.items() if metric.startswith(start)) for metric in metrics}
    flag = rows["flag"].astype(object).where(rows["flag"].notna(), "")
    unit = rows["metric"].map(units).mask(flag == "perplexity, not nats", "perplexity")
    error = rows.get("value_se", np.nan)
    if "ci_hi" in rows:
        error = (rows["ci_hi"] - rows["ci_lo"]) / (2 * _NORMAL_95)
    falls = rows["lower_is_better"].astype(bool)
    return rows.assign(unit=unit, value_se=error, flag=flag, lower_is_better=falls)


def _informative_inputs(rows: Any, source: Source, name: str) -> tuple[str, ...]:
    """Return the first choice of inputs that every row has and that vary, also within every family."""
    # Within a family of one run no input varies.
    compared = rows[rows.groupby("family")["run"].transform("size") > 1]
    for choice in source.inputs:
        inputs = list(choice)
        varied = compared.groupby("family")[inputs].nunique() > 1
        if rows[inputs].notna().all(axis=None) and varied.any().all() and varied.any(axis=1).all():
            return choice
    choices = some([" and ".join(choice) for choice in source.inputs])
    raise InputError(
        f"No choice of inputs ({choices}) varies in every family of {name} that was requested: choose one with "
        f"family=, for example family={rows['family'].iloc[0]!r}, or choose inputs=."
    )


def _readings_averaged(rows: Any, labels: list[str], inputs: Sequence[str]) -> Any:
    """Average repeated values of one run at the same inputs: readings off a figure, or repeated evaluations."""
    keys = [*labels, *inputs]
    if "run" not in labels or not rows.duplicated(keys).any():
        return rows
    return rows.groupby(keys, sort=False, dropna=False)[["loss", "value_se"]].mean().reset_index()


def _only_metric(rows: Any, name: str) -> str:
    fall = rows[rows["lower_is_better"]]
    if fall.empty:
        raise InputError(
            f"{name} has only metrics that increase as models improve "
            f"({some(list(rows['metric'].unique()))}), but laws describe losses that decrease. Build Runs from "
            f"the rows of corpus.frame({name!r}) with an error rate such as 1 - accuracy."
        )
    tiers = [fall[fall["unit"] == unit] for unit in builtin.LOSSES]
    metrics = next(list(tier["metric"].unique()) for tier in [*tiers, fall] if len(tier))
    if len(metrics) > 1:
        raise InputError(
            f"{name} has {len(metrics)} metrics to choose from: {some(metrics, 12)}. "
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


def _source_entries() -> Iterator[dict[str, object]]:
    for name, source in SOURCES.items():
        files = download.manifest().get(name)
        yield {
            "name": name,
            "kind": "download" if files else "package",
            "families": source.families,
            "metrics": source.metrics,
            "rows": source.rows,
            "inputs": " or ".join(", ".join(choice) for choice in source.inputs),
            "paper": files[0].paper if files else source.paper,
            "arxiv_id": files[0].arxiv_id if files else "",
            "licence": " and ".join(dict.fromkeys(file.licence for file in files)) if files else source.licence,
            "caveats": source.caveats,
        }


def _entries_left_out() -> Iterator[dict[str, object]]:
    for name, source in LEFT_OUT.items():
        yield {
            "name": name,
            "kind": "left out",
            "families": 0,
            "metrics": "",
            "rows": 0,
            "inputs": "",
            "paper": source.paper,
            "arxiv_id": source.arxiv_id,
            "licence": source.licence,
            "caveats": source.why,
        }


def _unknown(name: str) -> InputError:
    if name in LEFT_OUT:
        return InputError(f"{name!r} cannot be read. {LEFT_OUT[name].why}")
    return InputError(f"The corpus has no entry {name!r}. {nearest(name, names())}")
