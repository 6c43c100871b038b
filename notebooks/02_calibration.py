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
# # Calibration: how often do intervals contain the measured value?
#
# A 95 % interval should contain 95 % of the runs that are trained later. This can be tested on published curves: fit
# only the small runs, and compare the forecast with the large runs. **This notebook does so on the built-in
# curves**, which were printed in papers and need no download. The page `docs/evidence/calibration.md` counts
# hundreds of families.

# %%
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit
from scipy.stats import t as student

import bayescale as bs

# %% [markdown]
# ## Hold out the large runs
#
# Each curve with enough points is split at a quarter of its largest scale: the smaller runs are fitted, the larger
# runs are held out. `backtest` makes the splits, the fits and the scores.

# %%
curves = bs.corpus.curves()
back = bs.backtest(list(curves.values()), ratio=4, seed=0)
print(back)
back.to_frame()[["family", "n_train", "extrapolation", "y", "q0.025", "q0.5", "q0.975", "pit", "crps"]].head(3).round(4)

# %% [markdown]
# ## Least squares
#
# The usual fit is E + A x^-c to ln(loss) by least squares. Its usual interval contains the covariance of the
# constants, the residual variance, and Student's t. Here it is, on the same splits.

# %%
LEVELS = (0.5, 0.8, 0.9, 0.95)


def least_squares_interval(x, y, at, level):
    """Interval for one new measurement at `at`, shape (2, point); None where the fit fails."""
    center = np.exp(np.log(x).mean())

    def log_law(x, log_floor, log_rest, exponent):
        return np.logaddexp(log_floor, log_rest - exponent * np.log(x / center))

    fits = []
    for share in (0.2, 0.5, 0.8):
        start = (np.log(share * y.min()), np.log(y.mean() - share * y.min()), 0.2)
        try:
            best, covariance = curve_fit(log_law, x, np.log(y), start, maxfev=20000)
        except RuntimeError:
            continue
        fits.append((np.sum((log_law(x, *best) - np.log(y)) ** 2), best, covariance))
    if not fits:
        return None
    cost, best, covariance = min(fits, key=lambda fit: fit[0])
    freedom = len(x) - 3
    step = 1e-5 * np.eye(3)
    slope = np.stack([(log_law(at, *(best + s)) - log_law(at, *(best - s))) / 2e-5 for s in step], axis=1)
    variance = np.einsum("pi,ij,pj->p", slope, np.nan_to_num(covariance, posinf=0.0), slope) + cost / freedom
    reach = student.ppf(0.5 + level / 2, freedom) * np.sqrt(variance)
    return np.exp(log_law(at, *best) + np.array([[-1.0], [1.0]]) * reach)


# %%
rows = []
for posterior in back.posteriors:
    train = posterior.runs
    whole = curves[train.name]
    # Three constants need a fourth point, and this fit is for one input.
    if len(train) < 4 or len(train.inputs) > 1:
        continue
    name = train.inputs[0]
    large = whole.select(whole.frame[name] > train.frame[name].max())
    x, y, at = (part.to_numpy(float) for part in (train.frame[name], train.frame["loss"], large.frame[name]))
    for level in LEVELS:
        ends = least_squares_interval(x, y, at, level)
        if ends is not None:
            inside = (ends[0] <= large.frame["loss"]) & (large.frame["loss"] <= ends[1])
            rows.append({"family": whole.name, "level": level, "inside": inside.mean()})
usual = pd.DataFrame(rows).groupby("level")["inside"].mean()
usual

# %% [markdown]
# ## The reliability diagram
#
# On the diagonal the coverage equals the nominal coverage. Below the diagonal intervals are too narrow, above it
# they are wider than needed. Bars are intervals over families for the default. With so few families they are wide;
# the page counts more families.

# %%
ours = back.coverage(LEVELS)
rival = pd.DataFrame({"method": "least squares", "level": usual.index, "coverage": usual.to_numpy()})
both = pd.concat([ours, rival.assign(low=np.nan, high=np.nan)], ignore_index=True)
ax = bs.plot.reliability(both)
both.pivot(index="level", columns="method", values="coverage").round(3)

# %% [markdown]
# ## The numbers
#
# On these few curves the coverage of the default is above nominal. The coverage of least squares is below nominal,
# except for the 95 % intervals: with only one to three points more than constants, Student's t makes them wide. On
# the hundreds of families of the page, 95 % intervals of least squares contain 75 % of the held-out runs at this
# distance, and those of the default 98 %.

# %%
shares = both.pivot(index="level", columns="method", values="coverage")
assert (shares["bayescale"] >= shares.index - 0.05).all()
assert shares.loc[0.8, "least squares"] < 0.8 < shares.loc[0.8, "bayescale"]
assert shares.loc[0.9, "least squares"] < 0.9 < shares.loc[0.9, "bayescale"]

# %% [markdown]
# ## Next steps
#
# - Your own earlier runs: `bs.backtest(runs, ratio=4, seed=0)`, or `bayescale backtest runs.csv --ratio 4`.
# - Forecasts of the law alone: `bs.backtest(list(curves.values()), ratio=4, seed=0, discrepancy=None)`.
# - `make calibration` in a checkout repeats the benchmark with every data set and every other method.
