"""Coverage under repeated sampling: how many problems k attempts solve, from counts of correct attempts.

Coverage at k attempts, also called pass@k, is the fraction of problems that at least one of k attempts solves.

    import bayescale as bs

    post = bs.coverage.fit("counts.csv", seed=0)
    print(post.predict([100, 1_000, 10_000]))
    print(post.budget(0.9))
"""

from bayescale.coverage.counts import Counts, pass_at_k, read
from bayescale.coverage.fitting import fit, fit_each
from bayescale.coverage.forecast import Budget, CoverageForecast
from bayescale.coverage.posterior import CoveragePosterior
from bayescale.coverage.verifier import BestOfN

__all__ = [
    "BestOfN",
    "Budget",
    "Counts",
    "CoverageForecast",
    "CoveragePosterior",
    "fit",
    "fit_each",
    "pass_at_k",
    "read",
]
