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
# # Scores: from small models to a benchmark score of a large one
#
# Decisions are often made on accuracies. This notebook forecasts the accuracy of a large model in two ways: directly
# from the accuracies of small models, and through their loss. It computes the probability that the accuracy exceeds a
# bar. It ends with pass@k: from 100 samples a problem to 1,000.
#
# The runs are made up, so that every forecast can be compared with the truth.

# %%
import numpy as np
import pandas as pd

import bayescale as bs

rng = np.random.default_rng(7)
ITEMS, CHANCE, BAR = 1172, 0.25, 0.75


def true_loss(params):
    return 1.62 + 310.0 * params**-0.33 + 420.0 * (20.0 * params) ** -0.29


def true_score(params):
    return CHANCE + 0.6 / (1.0 + np.exp((true_loss(params) - 2.62) / 0.16))


params = np.geomspace(4e7, 3e9, 9)
large = 4e10
table = pd.DataFrame({"n_params": params, "n_tokens": 20.0 * params, "flops": 120.0 * params**2})
table["loss"] = true_loss(params) * np.exp(0.002 * rng.standard_normal(9))
table["accuracy"] = rng.binomial(ITEMS, true_score(params)) / ITEMS
table["n_items"] = ITEMS
table.round(4)

# %% [markdown]
# ## Directly along the model size
#
# `score=` says that the column is a score, `chance=` what guessing reaches. Correct answers are binomial, and
# intervals never leave the range from chance to one. `probability_met` is the probability that the score of the large
# model is above the bar.

# %%
scores = bs.read(table, score="accuracy", chance=CHANCE, inputs=["n_params"])
direct = bs.fit(scores, seed=0)
ahead = direct.predict(n_params=large)
print(direct.status)
print(f"truth {true_score(large):.3f}, 80 % interval", ahead.interval(0.8).round(3).ravel())
print(f"P(accuracy above {BAR}) = {ahead.probability_met(BAR)[0]:.2f}")
low, high = ahead.interval(0.95).ravel()
assert CHANCE < low < true_score(large) < high < 1.0

# %%
ax = bs.plot.forecast(direct.predict(n_params=[1e9, 3e9, 1e10, large]), target=BAR)

# %% [markdown]
# ## Through the loss
#
# The loss is measured far more precisely than an accuracy. So fit the loss along compute and the accuracy along the
# loss, in one posterior: `fit_chain`. The forecast of the accuracy contains the uncertainty of both parts.

# %%
losses = bs.read(table[["flops", "loss"]])
accuracies = bs.read(table[["flops", "accuracy", "n_items"]], score="accuracy", chance=CHANCE)
chain = bs.fit_chain(losses, accuracies, seed=0)
loss_ahead = chain.losses.predict(flops=120.0 * large**2, kind="mean")
chained = chain.predict(flops=120.0 * large**2)
print(f"loss: truth {true_loss(large):.4f}, 80 % interval", loss_ahead.interval(0.8).round(4).ravel())
print(f"accuracy: truth {true_score(large):.3f}, 80 % interval", chained.interval(0.8).round(3).ravel())
print(f"P(accuracy above {BAR}) = {chained.probability_met(BAR)[0]:.2f}")
low, high = loss_ahead.interval(0.95).ravel()
assert low < true_loss(large) < high
low, high = chained.interval(0.95).ravel()
assert low < true_score(large) < high

# %% [markdown]
# ## A measurement on a finite test
#
# The forecasts above are of the accuracy on infinitely many questions. The probability that the measured accuracy on
# 1,172 questions exceeds the bar includes the sampling of questions.

# %%
measured = chained.measured(items=ITEMS)
print("80 % interval of the measured accuracy", measured.interval(0.8).round(3).ravel())
assert np.diff(measured.interval(0.8), axis=0) > np.diff(chained.interval(0.8), axis=0)

# %% [markdown]
# ## pass@k from 100 samples a problem
#
# One model tried each of 140 problems 100 times. Success rates follow Beta(0.32, 2.1), so the true pass@k of new
# problems is known. `coverage.fit` samples the distribution of the success rates.

# %%
rates = rng.beta(0.32, 2.1, 140)
counts = pd.DataFrame({"problem": range(140), "attempts": 100, "correct": rng.binomial(100, rates)})
attempts = np.array([1, 10, 100, 1_000])
coverage = bs.coverage.fit(counts, seed=0)
pass_at = coverage.predict(attempts)
many = rng.beta(0.32, 2.1, 1_000_000)
truth = np.array([1.0 - ((1.0 - many) ** k).mean() for k in attempts])
low, high = pass_at.interval(0.95)
pd.DataFrame({"k": attempts, "truth": truth, "q0.025": low, "q0.975": high}).round(3)

# %%
assert ((low < truth) & (truth < high)).all()
print(coverage.budget(0.8))
