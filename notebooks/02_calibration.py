# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Calibration: do the intervals hold?
#
# A 95 % interval should hold 95 % of the runs that were trained afterwards. Whether it does can be counted: take
# published curves, fit only their small runs, and see where the large ones fell. `docs/calibration.md` does so on every
# family of the corpus. **This notebook makes its reliability diagram again on the built-in curves**, figures printed
# in papers, which need no download. It runs in a checkout of the repository, where the benchmark lies.

# %%
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import bayescale as bs

sys.path.insert(0, str(Path(bs.__file__).parents[1]))
from benchmarks.calibration import pictures, tally
from benchmarks.core import estimates, run
from benchmarks.core.sources import problems

# %% [markdown]
# ## Problems
#
# Each curve is cut at a quarter of its largest scale, where enough points remain: the runs below are fitted, those
# above are held out. A family is one group of models from one paper. Other cuts are left to the page, because this
# notebook should take no more than two minutes.

# %%
chosen = [problem for problem in problems(["printed figures"]) if problem.split == "R=4"]
held_out = sum(len(problem.held) for problem in chosen)
print(f"{len(chosen)} problems of {len({p.family for p in chosen})} families, {held_out} held-out runs")
pd.DataFrame(
    [(p.family, p.metric, p.split, len(p.train), len(p.held), p.ratio.max()) for p in chosen[:5]],
    columns=["family", "metric", "split", "fitted", "held out", "furthest ratio"],
)

# %% [markdown]
# ## Two methods
#
# Our default, and the fit that most people make: least squares on the log loss with the textbook interval. Each writes
# one row a held-out run. A run that is interrupted continues where it stopped.

# %%
with tempfile.TemporaryDirectory() as folder:
    for method in ("bayescale", "least squares"):
        run.run(method, chosen, Path(folder))
    rows = tally.load(Path(folder))
rows[["family", "split", "method", "y", "q0.025", "q0.5", "q0.975", "pit", "crps"]].head(3)

# %% [markdown]
# ## The diagram
#
# On the diagonal, intervals hold as often as they say; below it they are too narrow, above it wider than needed. Bars
# are 95 % intervals over families for the default; with so few families they are wide, which is why the page counts
# many more.

# %%
rows = rows.assign(cluster=estimates.cluster_of(rows))
panels = {"4x beyond the data": rows["key"].drop_duplicates()}
axes = pictures.reliability(rows, panels, ["bayescale", "least squares"], "built-in curves of one input")

# %% [markdown]
# ## The numbers
#
# Rows are averaged within a problem, problems within a family, and families count the same.

# %%
table = tally.families(tally.cells(rows))
figures = {
    method: {measure: tally.measured(part, measure) for measure in ("cover50", "cover80", "cover95", "crps")}
    for method, part in table.groupby("method")
}
pd.DataFrame(
    {
        method: {name: f"{f.value:.3f} ({f.low:.3f} to {f.high:.3f})" for name, f in own.items()}
        for method, own in figures.items()
    }
)

# %% [markdown]
# Which forecasts are better, narrow or wide ones? The CRPS charges for both width and misses. Below 1 the default is
# better; an interval that holds 1 says that these few families cannot tell.

# %%
ratio = tally.ratio(tally.cells(rows), "bayescale", "least squares")
print(f"CRPS of the default / least squares: {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
assert np.isfinite([ratio.low, ratio.value, ratio.high]).all()

# %% [markdown]
# ## Next steps
#
# - Your own history: `bs.backtest(runs, ratio=4, seed=0)`, or `bayescale backtest runs.csv --ratio 4`.
# - A method of your own: a function from problems to predictions, as in `benchmarks/core/methods`; add it to `METHODS`.
# - The whole record: `make calibration`, with every source and rival; `python -m benchmarks list` names them.
