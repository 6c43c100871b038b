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
# # Decide: from six small runs to a page that people sign
#
# Nobody buys a posterior; people buy a training run. This notebook takes the public Marin ladder, six budgets from 1e18
# to 3e20 FLOPs, and asks what a team would ask: should we make a run sixteen times larger, would a pilot pay for
# itself, and when is the honest answer that nobody can say? It ends with a comparison of two recipes.

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
# The run costs 5 million and is worth 10 million if its loss ends below the target. `go` weighs both mistakes by the
# draws of the forecast: law, discrepancy, run-to-run and seed noise. The target decides the answer, and the answer
# says at which target it would turn.

# %%
run = {"flops": 4.8e21}
stakes = {"cost": 5e6, "value": 10e6, "unit": "USD"}
for target in (2.42, 2.50):
    print(bs.decide.go(post, target, **stakes, **run), "\n")

# %%
ax = bs.plot.intervals(post, upto=7e21, target=2.5)

# %% [markdown]
# ## A pilot worth its money
#
# Near the break-even point a mistake is likely, and information is worth most. A pilot at 1e21 FLOPs would cost a fifth
# of the run. Its value is simulated: in every equally likely world the pilot shows something, and the decision made
# after it is compared with the one made now.

# %%
target = 2.46
pilot = pd.DataFrame({"flops": [1e21]})
before = bs.decide.go(post, target, **stakes, pilots=pilot, **run)
print(before)

# %%
bs.decide.next_run(post, target=target, cost=5e6, value=10e6, unit="USD", **run).to_frame().round(4)

# %% [markdown]
# Another seed at 3e20 teaches next to nothing: what that size has to say was said by its first run. A pilot that comes
# close to the target says most and costs too much.
#
# This pilot was really run: it ended at 2.599. We add it and ask again.

# %%
known = ladder.select(ladder.frame["flops"] <= 1e21)
after = bs.decide.go(bs.fit(known, seed=0), target, **stakes, pilots=None, **run)
print(after)
print(f"\nP(target met) went from {before.probability:.2f} to {after.probability:.2f}")

# %% [markdown]
# ## When nobody can say
#
# The project went on to 1e23 FLOPs. Seen from 3e20 that is 333 times beyond the data, and forecasts were checked on
# held-out runs up to 16 times. The model has an opinion; `go` shows it and refuses to call it an answer. (The run ended
# at 2.234.)

# %%
print(bs.decide.go(post, 2.25, cost=100e6, value=300e6, unit="USD", flops=1e23))

# %% [markdown]
# ## The page
#
# `bs.report` puts question, answer, pictures, assumptions, sensitivity, next pilots and provenance on one page that
# needs nothing from elsewhere: HTML to sign and print, Markdown for a pull request. The command line does the same:
# `bayescale decide fit.nc --target 2.46 --at flops=4.8e21 --cost 5e6 --value 10e6 --report page.html`.

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
# Two published families share their sizes: a baseline and one with attention over residuals. Because they were measured
# at the same sizes, what they have in common cancels: the ratio of their losses is fitted, not the difference of two
# separate forecasts.

# %%
curves = {name.split("/")[0]: runs for name, runs in bs.corpus.curves().items()}
recipes = {name: bs.fit(curves[name], seed=0) for name in ("attnres_baseline", "attnres_full")}
print(bs.decide.compare(recipes, at={"n_params": 1e9}, range=(1e8, 5e9)))
