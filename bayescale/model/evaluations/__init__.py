"""Evaluations of the likelihood: one density, evaluated in the way that a family's rows allow.

`Independent` serves rows without discrepancy, `Rotated` rows that all scatter alike (diagonal in the discrepancy's
eigenbasis, so no gradient holds a factorisation), `StateSpace` rows of one input that are many or do not scatter alike
(linear time), `Dense` everything else (Cholesky), and `Counts` scores, whose log odds are sampled. All have the methods
of `problem.Evaluation`.
"""

from bayescale.model.evaluations.counts import Counts
from bayescale.model.evaluations.dense import Dense
from bayescale.model.evaluations.rotated import Independent, Rotated
from bayescale.model.evaluations.state_space import StateSpace

__all__ = ["Counts", "Dense", "Independent", "Rotated", "StateSpace"]
