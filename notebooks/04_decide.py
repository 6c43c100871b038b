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
# # Decide: from six small runs to a report
#
# This notebook uses a public ladder of the Marin project, six runs with 1e18 to 3e20 FLOPs. Should the team make a
# run that is sixteen times larger? Would a smaller run first (a pilot) be worth its cost? How does the answer change
# for a question far beyond the data? At the end two recipes are compared.

# %%
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

import bayescale as bs

ladder = bs.corpus.load("marin_moe_v16_minima")
small = ladder.select(ladder.frame["flops"] <= 3e20)
post = bs.fit(small, seed=0)
print(post)

# %% [markdown]
# ## Go or no-go
#
# The run costs 5 million and is worth 10 million if its loss ends below the target. `go` compares the expected costs
# of both mistakes, with the draws of the forecast: law, discrepancy, residual and seed noise. The answer depends on
# the target, and the output shows at which target the answer would change.

# %%
run = {"flops": 4.8e21}
stakes = {"cost": 5e6, "value": 10e6, "unit": "USD"}
for target in (2.42, 2.50):
    print(bs.decide.go(post, target, **stakes, **run), "\n")

# %%
ax = bs.plot.intervals(post, upto=7e21, target=2.5)

# %% [markdown]
# ## A pilot that is worth its cost
#
# Near the break-even probability a wrong decision is likely, and information is worth most. A pilot with 1e21 FLOPs
# would cost a fifth of the run. Its value is computed by simulation: for each posterior draw the pilot has a
# simulated result, and the decision after this result is compared with the decision now.

# %%
target = 2.46
pilot = pd.DataFrame({"flops": [1e21]})
before = bs.decide.go(post, target, **stakes, pilots=pilot, **run)
print(before)

# %%
bs.decide.next_run(post, target=target, cost=5e6, value=10e6, unit="USD", **run).to_frame().round(4)

# %% [markdown]
# Another seed at 3e20 gives almost no information, because the first run of that size already gave it. A pilot close
# to the target run gives most information and costs too much.
#
# The pilot with 1e21 FLOPs was made later and ended at 2.599. We add it and decide again.

# %%
known = ladder.select(ladder.frame["flops"] <= 1e21)
after = bs.decide.go(bs.fit(known, seed=0), target, **stakes, pilots=None, **run)
print(after)
print(f"\nP(target met) went from {before.probability:.2f} to {after.probability:.2f}")

# %% [markdown]
# ## Far beyond the data
#
# The project went on to 1e23 FLOPs, which is 333 times beyond the runs up to 3e20. The main test of intervals on
# held-out runs reaches 16 times. `go` still gives an answer, with a warning that says how far the question lies
# beyond the data, and which run would bring it within 16 times. (The run ended at 2.234.)

# %%
print(bs.decide.go(post, 2.25, cost=100e6, value=300e6, unit="USD", flops=1e23))

# %% [markdown]
# ## The report
#
# `bs.report` writes one self-contained page with question, answer, pictures, assumptions, sensitivity, proposed
# pilots and provenance: as HTML, or as Markdown for a pull request. The shell command does the same: `bayescale
# decide fit.nc --target 2.46 --at flops=4.8e21 --cost 5e6 --value 10e6 --report page.html`.

# %%
page = bs.report(post, before, with_sensitivity=False)
with tempfile.TemporaryDirectory() as folder:
    path = page.save(Path(folder) / "page.html")
    print(f"{path.stat().st_size / 1e3:.0f} kB")
Markdown(page.markdown().split("## What this rests on")[0])

# %%
bs.decide.sensitivity(post, target, **run).drop(columns="group").round(3)

# %% [markdown]
# ## Which recipe
#
# Two published families have the same sizes: a baseline and one with attention over residuals. Because the sizes are
# the same, `compare` fits the ratio of their losses instead of comparing two separate forecasts. Deviations from the
# law that both families have in common then cancel.

# %%
curves = {name.split("/")[0]: runs for name, runs in bs.corpus.curves().items()}
recipes = {name: bs.fit(curves[name], seed=0) for name in ("attnres_baseline", "attnres_full")}
print(bs.decide.compare(recipes, at={"n_params": 1e9}, range=(1e8, 5e9)))
