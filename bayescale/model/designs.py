"""Designs: kinds of runs that a family may have, and what the default model assumes for each."""

from __future__ import annotations

from collections.abc import Sequence

from bayescale.data.columns import heading
from bayescale.errors import InputError, nearest

DESIGNS = {
    "ladder": "finished runs of growing size or compute",
    "curve": "one model or learner with more and more data, steps or attempts, and whatever is neither",
    "several": "several inputs",
}
"""Designs that the default model distinguishes (`docs/evidence/calibration.md`)."""
LADDER_INPUTS = ("n_params", "flops")
"""Names of inputs that make a family a ladder."""
SHAPE_WEIGHTS: dict[str, dict[str, float]] = {
    "ladder": {"present": 0.5, "absent": 0.25, "power": 0.25},
    "curve": {"present": 0.5, "absent": 0.5},
    "several": {"present": 0.5, "absent": 0.5},
}
"""Weights, in a mixture, of the shapes of a law (keys of `priors.PLATEAUS`), by design."""
SCORE_WEIGHTS = {"power": 0.5, "absent": 0.5}
"""The same weights for scores, whose plateau is the chance level; equal for all designs."""


def shape_weights(design: str, trusted: bool, scored: bool = False) -> dict[str, float]:
    """Return the weights of the shapes in the mixture of a design.

    Args:
        design: A key of `DESIGNS`.
        trusted: Whether there is no discrepancy; the law is then not mixed with its special case, the power law.
        scored: Whether the response is a score.
    """
    if scored:
        return SCORE_WEIGHTS
    return SHAPE_WEIGHTS["curve" if trusted else design]


def find_design(inputs: Sequence[str], design: str = "auto") -> str:
    """Return the design of a family, a key of `DESIGNS`.

    Args:
        inputs: Names of the law's inputs, or of the axes that it declares.
        design: "ladder" or "curve" for one input; "auto" decides by its name.

    Raises:
        InputError: For another design, or a design for one input where there are several.
    """
    named = ("ladder", "curve")
    if design not in ("auto", *named):
        raise InputError(f"There is no design {design!r}. {nearest(design, ('auto', *named))}")
    if len(inputs) > 1:
        if design != "auto":
            raise InputError(
                f"A {design} has one input; found {', '.join(inputs)}. Leave out the design, or fit one input."
            )
        return "several"
    if design != "auto":
        return design
    return "ladder" if heading(inputs[0]).role in LADDER_INPUTS else "curve"
