"""Evaluations of the likelihood: one density, evaluated in the way that a family's rows allow.

`Independent` serves rows without discrepancy, `Rotated` rows that all scatter alike (diagonal in the discrepancy's
eigenbasis, so no gradient holds a factorisation), `StateSpace` rows of one input that are many or do not scatter alike
(linear time), and `Dense` everything else (Cholesky). All have the methods of `problem.Evaluation`.
"""

from bayescale.model.evaluations.dense import Dense
from bayescale.model.evaluations.rotated import Independent, Rotated
from bayescale.model.evaluations.state_space import StateSpace

__all__ = ["Dense", "Independent", "Rotated", "StateSpace"]
