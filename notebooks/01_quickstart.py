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
# # Quickstart: what will the big run reach?
#
# A team has trained small models up to 3e20 FLOPs and asks: **what loss will 1e21 and 1e23 FLOPs bring, and how
# sure can we be?** Here the small runs are the printed compute-optimal points of a public mixture-of-experts
# ladder (Marin), and the two large runs were measured afterwards, so the forecast can be compared with what came.

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
# One input takes the law `plateau_power`, E + A / (g + x^c): in half of the draws without the plateau (g = 0), and for
# a ladder, as here, in half of those without the floor (E = 0). The law may be wrong, so a discrepancy lets the slope
# depart from it and widens the intervals. The first fit of a shape compiles for some seconds.

# %%
post = bs.fit(small, seed=0)
print(post)

# %% [markdown]
# ## Look
#
# The diamonds are the held-out runs, which the fit has not seen.

# %%
ax = bs.plot.intervals(post, truth=held_out, target=2.25)

# %% [markdown]
# ## Forecast
#
# `kind="run"` is one future run with a new seed; `kind="mean"` would be the curve itself. `ratio` says how many times
# beyond the data a point lies.

# %%
forecast = post.predict(flops=np.array([1e21, 1e23]), kind="run")
forecast.to_frame().round(3)

# %% [markdown]
# The measured losses were 2.599 and 2.234. One ladder proves no calibration; it shows how to read the intervals.

# %%
low80, high80 = forecast.interval(0.8)
low95, high95 = forecast.interval(0.95)
assert low80[0] < 2.599 < high80[0]
assert low95[1] < 2.234 < high95[1]

# %% [markdown]
# ## Decide
#
# What is the chance that each run gets below 2.25? And what should be known before trusting the answer?

# %%
for flops, chance in zip(forecast.points["flops"], forecast.probability_below(2.25), strict=True):
    print(f"P(loss of the {flops:.0e} run < 2.25) = {chance:.2f}")
for note in post.check(forecast):
    print(note)

# %% [markdown]
# ## Write a law of your own
#
# A law is a plain function with a prior for each constant. This one starts as a power law and slows to 1 / log x. The
# input `"x"` stands for any single input. During a fit x is divided by its geometric mean over the data, so this law
# bends in the middle of the ladder. `Level` scales the curve; `Fall` is the fall of the log loss over the span of the
# data, so the prior carries no unit.


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
# Posteriors are netCDF files that ArviZ opens too. A loaded posterior forecasts what the saved one did.

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
# - Your own table: `bs.read_csv("runs.csv", columns={"loss": "val_loss"})`, with `flops`, or `n_params` and `n_tokens`,
#   in raw counts.
# - Test the intervals on your own history: `bs.backtest(runs, largest=1, seed=0)` holds out the largest scale.
# - Tables and diagnostics: `post.summary()`, `post.check()`, `post.to_datatree()`.
# - From the shell: `bayescale fit runs.csv --out fit.nc --plot intervals.png`.
# - More published families: `bs.corpus.names()`; more laws: `bs.LAWS`.
