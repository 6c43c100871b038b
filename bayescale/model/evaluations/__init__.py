"""Evaluations of the likelihood: ways of computing the same density, suited to different kinds of rows.

`Independent` is for rows without discrepancy. `Rotated` is for rows that all have the same variance: it is diagonal in
the discrepancy's eigenbasis, so gradients need no factorisation. `StateSpace` is for rows of one input that are many or
have different variances; it takes linear time. `Dense` is for all other losses (Cholesky), and `Counts` for scores,
whose log odds are sampled. All have the methods of `problem.Evaluation`.
"""

from bayescale.model.evaluations.counts import Counts
from bayescale.model.evaluations.dense import Dense
from bayescale.model.evaluations.rotated import Independent, Rotated
from bayescale.model.evaluations.state_space import StateSpace

__all__ = ["Counts", "Dense", "Independent", "Rotated", "StateSpace"]
