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
# # Seeds: is the difference larger than the noise?
#
# Two runs with equal inputs and different seeds end with different losses. Before you call one recipe better than
# another, you need to know how large this seed noise is. This notebook estimates the seed sd (the standard deviation
# between seeds) of published runs, compares recipes by shared seeds, and shows the seed sd as a parameter of a fit.

# %%
import numpy as np
import pandas as pd

import bayescale as bs

# %% [markdown]
# ## Seed sd of published runs
#
# Two built-in records of the nanoGPT speed run repeat one training with eight and with six seeds. They have one
# scale, so no law is fitted. `decide.noise` gives the posterior of the seed sd. Its prior comes from other published
# replicates and matters only if there are few seeds.

# %%
published = pd.concat([bs.corpus.frame("nanogpt_seeds_muon_nsr"), bs.corpus.frame("nanogpt_seeds_skylight")])
published.groupby("family")["value"].agg(["count", "mean", "std"]).round(5)

# %%
rows = published[["family", "seed", "value"]].rename(columns={"value": "loss"})
found = bs.decide.noise(bs.Runs.from_frame(rows, inputs=[]))
print(found.text)
spread = rows.groupby("family")["loss"].std()
low, high = found.sd[0.05], found.sd[0.95]
assert low < spread.mean() < high

# %% [markdown]
# ## Two recipes with shared seeds
#
# These losses are made up, so the true difference is known: the new recipe is better by 0.0025. Most of the noise
# comes from the seed, and both recipes were run with the same seeds. The difference of paired runs has much less
# noise than either loss.

# %%
rng = np.random.default_rng(1)
shared = 0.0015 * rng.standard_normal(8)
table = pd.concat(
    pd.DataFrame({"recipe": name, "seed": range(8), "loss": mean + shared + 0.0003 * rng.standard_normal(8)})
    for name, mean in (("baseline", 3.2800), ("new", 3.2775))
)
pairs = bs.decide.noise(bs.read(table))
print(pairs.text)

# %%
(difference,) = pairs.differences
print(f"standard error paired {difference.error:.5f}, unpaired {difference.unpaired_error:.5f}")
assert difference.low < -0.0025 < difference.high
assert difference.error < 0.5 * difference.unpaired_error
assert difference.p_better > 0.95

# %% [markdown]
# How small a difference can two seeds of each recipe detect? The table shows it for unpaired and paired seeds, at a
# power of 80 %.

# %%
pairs.resolution.round(5)

# %% [markdown]
# ## Seeds in a fit
#
# With replicates at several scales, the seed sd is a parameter of the fit. It is separate from the residual sd (the
# deviation of a setting from law and discrepancy) and from the discrepancy (how the truth departs from the law).
# Here three seeds were run at each of five scales, with a seed sd of 0.002 relative to the loss.

# %%
flops = np.repeat(np.geomspace(1e18, 1e20, 5), 3)
curve = 1.8 + 1.7 * (flops / 1e18) ** -0.12
ladder = pd.DataFrame(
    {"flops": flops, "seed": np.tile([1, 2, 3], 5), "loss": curve * np.exp(0.002 * rng.standard_normal(15))}
)
post = bs.fit(bs.read(ladder), seed=0)
print(post)

# %%
draws = post.draws["seed_sd"].ravel()
print(f"seed sd: median {np.median(draws):.4f}, 90 % {np.quantile(draws, 0.05):.4f} to {np.quantile(draws, 0.95):.4f}")
assert np.quantile(draws, 0.025) < 0.002 < np.quantile(draws, 0.975)

# %% [markdown]
# The forecast of one future run (`kind="run"`) contains seed noise, the forecast of the curve (`kind="mean"`) does
# not. The difference is visible near the data.

# %%
inside = {"flops": 3e19}
width = {kind: np.ptp(post.predict(inside, kind=kind).interval(0.9)) for kind in ("mean", "run")}
print(width)
assert width["run"] > 1.2 * width["mean"]

# %% [markdown]
# ## Next steps
#
# - From the shell: `bayescale noise seeds.csv --bar 3.28`, `bayescale compare seeds.csv`.
# - How many seeds an experiment needs: `bs.decide.power(..., difference=...)`.
