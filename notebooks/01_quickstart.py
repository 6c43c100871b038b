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
# # Quickstart: which loss will a large run reach?
#
# A team has trained small models with up to 3e20 FLOPs and asks: **which loss will runs with 1e21 and 1e23 FLOPs
# reach, and how uncertain is the forecast?** The small runs are the published compute-optimal runs of a public
# mixture-of-experts project (Marin). The two large runs were measured later, so the forecast can be compared with
# the measured losses.

# %%
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bayescale as bs

runs = bs.corpus.load("marin_moe_v16_minima")
small = runs.select(runs.frame["flops"] <= 3e20)
held_out = runs.select(runs.frame["flops"] > 3e20)
small.frame[["flops", "loss"]]

# %% [markdown]
# ## Fit
#
# The default law of one input is `plateau_power`, E + A / (g + x^c). The fit is a mixture of models: half of the
# draws have a plateau (g > 0), the others have none (g = 0). For a ladder, which is a set of finished runs of
# growing compute as here, half of the draws without a plateau also have no floor (E = 0). The law may be wrong.
# Therefore a discrepancy lets the slope depart from the law, which widens the intervals. The first fit compiles for
# some seconds.

# %%
post = bs.fit(small, seed=0)
print(post)

# %% [markdown]
# ## Plot
#
# The diamonds are the held-out runs, which were not fitted.

# %%
ax = bs.plot.intervals(post, truth=held_out, target=2.25)

# %% [markdown]
# ## Forecast
#
# `kind="run"` forecasts one future run with a new seed; `kind="mean"` forecasts the curve without seed noise.
# `ratio` is the extrapolation factor: how many times a point lies beyond the data.

# %%
forecast = post.predict(flops=np.array([1e21, 1e23]), kind="run")
forecast.to_frame().round(3)

# %% [markdown]
# The measured losses were 2.599 and 2.234. One ladder cannot show that intervals are calibrated; it shows how to
# read them.

# %%
low80, high80 = forecast.interval(0.8)
low95, high95 = forecast.interval(0.95)
assert low80[0] < 2.599 < high80[0]
assert low95[1] < 2.234 < high95[1]

# %% [markdown]
# ## Decide
#
# What is the probability that each run reaches a loss below 2.25? Which warnings apply to this forecast?

# %%
for flops, chance in zip(forecast.points["flops"], forecast.probability_below(2.25), strict=True):
    print(f"P(loss of the {flops:.0e} run < 2.25) = {chance:.2f}")
for note in post.check(forecast):
    print(note)

# %% [markdown]
# ## Write your own law
#
# A law is a plain function with a prior for each constant. This law starts as a power law and slows to 1 / log x.
# The input `"x"` stands for any single input. During a fit x is divided by its geometric mean over the data, so this
# law bends in the middle of the ladder. `Level` is the prior of the overall factor. `Fall` is the prior of the
# exponent: it describes how much the log loss decreases over the range of the data, so it has no unit.


# %%
@bs.register_law(inputs="x", priors={"A": bs.Level(), "falls": bs.Fall(("c",))}, decreasing=("x",))
def slowing_power(x, *, A, c):
    """Power law that slows to the inverse of a logarithm: A / ln(1 + x^c)."""
    return A / jnp.log1p(x**c)


own = bs.fit(small, law="slowing_power", seed=0)
own_forecast = own.predict(flops=np.array([1e21, 1e23]), kind="run")
print(own)
print()
print(own_forecast)

# %% [markdown]
# ## Save and load
#
# Posteriors are saved as netCDF files, which ArviZ can open too. A loaded posterior gives the same forecasts as the
# saved posterior.

# %%
with tempfile.TemporaryDirectory() as folder:
    post.save(Path(folder) / "marin.nc")
    again = bs.load(Path(folder) / "marin.nc")
later = again.predict(flops=np.array([1e21, 1e23]), kind="run")
assert np.allclose(later.quantile([0.1, 0.5, 0.9]), forecast.quantile([0.1, 0.5, 0.9]), rtol=1e-6)
print(later)

# %% [markdown]
# ## Next steps
#
# - Your own table: `bs.read_csv("runs.csv", columns={"loss": "val_loss"})`, with `flops`, or `n_params` and
#   `n_tokens`, as raw counts.
# - Test the intervals on your own earlier runs: `bs.backtest(runs, largest=1, seed=0)` holds out the runs of the
#   largest size.
# - Tables and diagnostics: `post.summary()`, `post.check()`, `post.to_datatree()`.
# - From the shell: `bayescale fit runs.csv --out fit.nc --plot intervals.png`.
# - More published families: `bs.corpus.names()`; more laws: `bs.LAWS`.
