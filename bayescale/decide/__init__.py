"""Decisions: go or no-go, how to spend a budget, which recipe, what to run next, when to stop.

Every answer is computed from draws of a posterior predictive distribution and states which uncertainty it contains.
Where the runs are not enough for a confident answer, none is given (`bayescale.decide.trust`).
"""

from __future__ import annotations

from bayescale.decide.allocation import Allocation, allocate
from bayescale.decide.budgets import Allocations
from bayescale.decide.crossing import Crossing
from bayescale.decide.go import ANSWERS, Decision, go
from bayescale.decide.isoflop import Sweep, isoflop
from bayescale.decide.items import ItemComparison, compare_items
from bayescale.decide.noise import SeedNoise, noise
from bayescale.decide.pilots import Ranking, next_run
from bayescale.decide.planning import Power, ladders, power
from bayescale.decide.reach import Reach, reach
from bayescale.decide.recipes import Comparison, Duel, compare, crossover, speedup
from bayescale.decide.seed_differences import SeedDifference
from bayescale.decide.sensitivity import sensitivity
from bayescale.decide.sequential import Looks
from bayescale.decide.stopping import Stops, stop_early
from bayescale.decide.trust import Caveat, caveats
from bayescale.decide.utility import UTILITIES, Utility

__all__ = [
    "ANSWERS",
    "UTILITIES",
    "Allocation",
    "Allocations",
    "Caveat",
    "Comparison",
    "Crossing",
    "Decision",
    "Duel",
    "ItemComparison",
    "Looks",
    "Power",
    "Ranking",
    "Reach",
    "SeedDifference",
    "SeedNoise",
    "Stops",
    "Sweep",
    "Utility",
    "allocate",
    "caveats",
    "compare",
    "compare_items",
    "crossover",
    "go",
    "isoflop",
    "ladders",
    "next_run",
    "noise",
    "power",
    "reach",
    "sensitivity",
    "speedup",
    "stop_early",
]
