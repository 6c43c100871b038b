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
# # An isoFLOP sweep: from a W&B export to N*(C) and a report
#
# A team trained five model sizes at each of four compute budgets and exported the table of runs without changes. It
# has unneeded columns, a crashed run and a run in progress. What is the best size N* at 1e21 FLOPs, and how
# uncertain is it?
#
# The losses are made up from a known law, so the answer can be checked.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import bayescale as bs

E, A, alpha, B, beta = 1.7, 350.0, 0.34, 460.0, 0.29


def true_loss(n_params, n_tokens):
    return E + A * n_params**-alpha + B * n_tokens**-beta


def true_best(flops):
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))


# %% [markdown]
# ## The exported table

# %%
rng = np.random.default_rng(1)
rows = []
for flops in (3e18, 1e19, 3e19, 1e20):
    for step in range(5):
        n_params = 1.2 * true_best(flops) * 1.6 ** (step - 2)
        n_tokens = flops / 6 / n_params
        loss = true_loss(n_params, n_tokens) * np.exp(0.0006 * rng.standard_normal())
        rows.append(
            {
                "Name": f"iso-{flops:.0e}-{step}".replace("e+", "e"),
                "State": "finished",
                "Runtime": int(flops / 1e15),
                "config.model.num_params": f"{n_params / 1e6:.0f}M",
                "config.data.tokens": f"{n_tokens / 1e9:.2f}B",
                "config.optim.lr": 3e-4,
                "eval/loss": round(loss, 4),
                "train/loss": round(loss - 0.02, 4),
            }
        )
export = pd.DataFrame(rows)
export.loc[8, ["State", "eval/loss", "train/loss"]] = ["crashed", 10.82, 10.80]
export.loc[19, "State"] = "running"
export.head(10)

# %% [markdown]
# ## Read
#
# Columns are recognised by their names. The evaluation loss is the response. The two runs that did not finish are
# left out, and the log lists them.

# %%
runs = bs.read(export, loss="eval/loss", name="sweep")
for entry in runs.log:
    print(entry)
assert runs.inputs == ("n_params", "n_tokens")
assert len(runs) == 18

# %% [markdown]
# ## The valleys and N*(C)
#
# The fit is one posterior of a law in parameters and tokens, evaluated along lines of equal compute. So all runs
# contribute to the estimate at every budget. For comparison, the plot shows the parabola through the runs of each
# budget.

# %%
sweep = bs.decide.isoflop(runs, budgets=[1e21], seed=0)
print(sweep)

# %%
ax = bs.plot.isoflop(sweep)

# %% [markdown]
# ## Compare with the true values

# %%
table = sweep.to_frame()[["budget", "n_params_low", "n_params", "n_params_high"]]
table["truth"] = true_best(table["budget"])
print(table.to_string(index=False, float_format="{:.3g}".format))
power = sweep.exponents.loc["n_params"]
print(
    f"N* grows as C^{power['power']:.3f} ({power['low']:.3f} to {power['high']:.3f}); truth {beta / (alpha + beta):.3f}"
)
at = table.set_index("budget").loc[1e21]
assert at["n_params_low"] < at["truth"] < at["n_params_high"]
assert power["low"] < beta / (alpha + beta) < power["high"]

# %% [markdown]
# ## Spend a budget
#
# The valley is flat: a wide range of sizes is within 0.01 of the lowest loss. If the model will serve 1e11 tokens, a
# smaller model trained for longer is better.

# %%
plain = bs.decide.allocate(sweep.posterior, 1e21)
served = bs.decide.allocate(sweep.posterior, 1e21, served=1e11)
print(plain, served, sep="\n\n")
assert served.choice["n_params"] < plain.choice["n_params"]

# %% [markdown]
# ## The report
#
# The report is one self-contained file with the fit, pictures, checks and provenance.

# %%
page = bs.report(sweep.posterior, title="Best size at 1e21 FLOPs", with_sensitivity=False)
with tempfile.TemporaryDirectory() as folder:
    path = page.save(Path(folder) / "sweep.html")
    text = path.read_text(encoding="utf-8")
print(f"{len(text) / 1e3:.0f} kB")
assert "Best size at 1e21 FLOPs" in text
assert "<script" not in text

# %% [markdown]
# ## Next steps
#
# - From the shell: `bayescale isoflop export.csv --loss eval/loss --budget 1e21 --plot sweep.png`.
# - Other costs: `bs.decide.allocate(..., cost=...)` takes any function of parameters and tokens.
