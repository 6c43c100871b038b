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
# # Write your own law
#
# The catalogue has many published laws (`bayescale laws`, or `docs/laws.md`). If your law is missing, declare it in
# about a dozen lines; then fits, intervals, checks and saving work as for the other laws.
#
# The example is an early law of image classification (Rosenfeld et al. 2019, arXiv:1909.12673). Its error goes from
# a random guess through a power law to a floor:
#
#     error = e0 |t / (t - i eta)|,   t = b x^-beta + c
#
# Multiplying b, c and eta by one number changes nothing, so eta = 1 here, and |t / (t - i)| = t / sqrt(1 + t^2).

# %%
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bayescale as bs


@bs.register_law(
    inputs="x",
    priors={"e0": bs.Level(), "b": bs.Positive(0.5), "c": bs.Positive(0.3), "falls": bs.Fall(("beta",))},
    units={"b": ("x", "beta")},
    decreasing=("x",),
)
def guess_to_floor(x, *, e0, b, c, beta):
    """Error from a random guess to a floor: e0 t / sqrt(1 + t^2) with t = b x^-beta + c."""
    t = b * x**-beta + c
    return e0 * t / jnp.sqrt(1.0 + t**2)


# %% [markdown]
# The arguments are:
#
# - `inputs="x"` stands for any one scale input. A fit divides it by its geometric mean over the data, so the priors
#   of b and c describe the middle of the data and have no unit.
# - `e0` multiplies the whole curve: `Level` integrates it out exactly. `Fall` is the prior of an exponent: it
#   describes how much the log error decreases over the range of the data.
# - `units` says that b multiplies x^-beta, so that constants are reported in the units of the table.
# - `decreasing` says that the law decreases in x; this is checked below.

# %% [markdown]
# ## Check the declaration
#
# The tests of the package check three properties of every built-in law: rescaling the input changes nothing, the
# curve decreases, and its limits are those of the paper.

# %%
law = bs.laws.get("guess_to_floor")
constants = {"e0": 0.9, "b": 1.5, "c": 0.2, "beta": 0.4}
x, reference = np.geomspace(1e7, 1e11, 9), {"x": 3e9}
raw = law.at_unit_scale(constants, reference)
assert np.allclose(law(x, **raw), law(x / reference["x"], **constants))
assert (np.diff(law(x, **raw)) < 0).all()
assert np.isclose(law(1e-20, **constants), 0.9)
assert np.isclose(law(1e99, **constants), 0.9 * 0.2 / np.sqrt(1.04))
print(raw)

# %% [markdown]
# ## Fit
#
# The data are top-1 errors of twelve RegNetX models on ImageNet by their FLOPs, a table in the package. The three
# largest models are held out. The first fit compiles for some seconds.

# %%
runs = bs.corpus.load("regnetx")
small = runs.select(runs.frame["flops"] < 1e10)
large = runs.select(runs.frame["flops"] >= 1e10)
post = bs.fit(small, law="guess_to_floor", seed=0)
print(post)

# %% [markdown]
# ## Check the fit
#
# `summary` shows effective sample sizes and R-hat. `contraction` shows how much narrower the posterior of each
# parameter is than its prior. `check` lists warnings about the fit and a forecast.

# %%
forecast = post.predict(large.frame[["flops"]], kind="run")
print(post.check(forecast) or "Nothing to note.")
post.contraction().round(2)

# %%
low, high = forecast.interval(0.95)
table = forecast.to_frame([0.95])[["flops", "q0.025", "q0.5", "q0.975"]].round(2)
table["measured"] = large.frame["loss"].to_numpy()
assert ((low < table["measured"]) & (table["measured"] < high)).all()
table

# %%
ax = bs.plot.intervals(post, truth=large)

# %% [markdown]
# ## Save and load
#
# The file contains the law by name only. In a new Python process, run the declaration before loading the file.

# %%
with tempfile.TemporaryDirectory() as folder:
    post.save(Path(folder) / "regnetx.nc")
    again = bs.load(Path(folder) / "regnetx.nc")
later = again.predict(large.frame[["flops"]], kind="run")
assert np.allclose(later.quantile([0.1, 0.5, 0.9]), forecast.quantile([0.1, 0.5, 0.9]), rtol=1e-6)
print(again.law.name, again.status)

# %% [markdown]
# ## Further options
#
# - Inputs with a fixed meaning, such as bits or experts, are not divided by their mean: `scales={"n_experts": ""}`.
# - Constants that do not scale as a power of the input: `units` may be a function.
# - Equations without a closed form, several regimes, saturation, schedules: see `bayescale.laws.shapes`.
# - Constants of a paper: `published={"key": {...}}`, then `law.published("key").predict(...)`.
# - Best settings by the law, for every draw: `bs.laws.optimum`.
