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
# # Seeds: is the gap larger than the noise?
#
# Two runs with equal settings and different seeds end with different losses. Before one recipe is called better than
# another, somebody should know by how much. This notebook measures the seed sd of published runs, compares recipes by
# shared seeds, and shows what the seed sd does in a fit.

# %%
import numpy as np
import pandas as pd

import bayescale as bs

# %% [markdown]
# ## Seed sd of published runs
#
# Two built-in records of the nanoGPT speed run repeat one training with eight and with six seeds. They have one scale,
# so no law is fitted. `decide.noise` gives the posterior of the seed sd; its prior comes from other published
# replicates and decides only where seeds are few.

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
# These losses are made up, so that we know the truth: the new recipe is better by 0.0025, and most of the noise comes
# from the seed, which both share. The difference of paired runs is known far better than either loss.

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
# How small a gap could two seeds of each recipe show? The table answers for unpaired and paired seeds, at a power of
# 80 %.

# %%
pairs.resolution.round(5)

# %% [markdown]
# ## Seeds in a fit
#
# With replicates at several scales, the seed sd is a parameter of the fit, apart from the residual (what the law leaves
# at a setting) and the discrepancy (how the truth departs from the law). Here three seeds were run at each of five
# scales, with a seed sd of 0.002 relative to the loss.

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
# One future run (`kind="run"`) has seed noise, the curve (`kind="mean"`) has not. Near the data the difference shows.

# %%
inside = {"flops": 3e19}
width = {kind: np.ptp(post.predict(inside, kind=kind).interval(0.9)) for kind in ("mean", "run")}
print(width)
assert width["run"] > 1.2 * width["mean"]

# %% [markdown]
# ## Next steps
#
# - From the shell: `bayescale noise seeds.csv --bar 3.28`, `bayescale compare seeds.csv`.
# - How many seeds a plan needs: `bs.decide.power(..., difference=...)`.
