"""Rays: designs in which all inputs grow together, such as a compute-optimal ladder with 20 tokens per parameter.

Such data do not show the effect of each input alone, only of all together. `law="auto"` therefore fits one input along
the ray; the other inputs are powers of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale.errors import InputError

ON_RAY = 1.1
"""Runs count as lying on a ray if every input is within this factor of the ray."""
OFF_RAY = 1.25
"""A fit along the ray gives no forecast for points farther from the ray than this factor."""
LEAST_FACTOR = 1.5
"""An input that varies by less than this factor counts as constant."""
FEWEST_RUNS = 3
FLATTEST = 1e-6
"""Smaller components of a direction count as zero."""
FLOPS_PER_PARAMETER_AND_TOKEN = 6.0


@dataclasses.dataclass(frozen=True)
class Ray:
    """A straight line in the logarithms of all inputs, on which all runs lie.

    Attributes:
        names: Names of the inputs; the first is the fitted one.
        center: Logarithm of each input at one point of the ray.
        powers: Power of the first input to which each input is proportional; 1 for the first.
    """

    names: tuple[str, ...]
    center: tuple[float, ...]
    powers: tuple[float, ...]

    @property
    def text(self) -> str:
        """The ray as an equation: `n_tokens = 20 n_params`, with an exponent unless it is 1."""
        first, start = self.names[0], self.center[0]
        parts = []
        for name, center, power in zip(self.names[1:], self.center[1:], self.powers[1:], strict=True):
            if power == 0.0:
                parts.append(f"{name} = {np.exp(center):.3g}")
                continue
            raised = first if power == 1.0 else f"{first}^{power:.3g}"
            parts.append(f"{name} = {np.exp(center - power * start):.3g} {raised}")
        return ", ".join(parts)

    def inputs(self, first: Any) -> pd.DataFrame:
        """Return all inputs at values of the first one."""
        away = np.log(np.atleast_1d(np.asarray(first, float))) - self.center[0]
        columns = zip(self.names, self.center, self.powers, strict=True)
        return pd.DataFrame({name: np.exp(center + power * away) for name, center, power in columns})

    def locate(self, points: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        """Return points on the ray with all inputs.

        Args:
            points: Table with one row per point and one or more of the inputs, in raw counts. If the inputs are
                parameters and tokens, `flops` alone is enough.

        Returns:
            All inputs, with missing ones computed from the ray; and the largest factor between a given input and the
                ray, shape (point,). A point off the ray is projected so that this factor is about equal for its given
                inputs.

        Raises:
            InputError: For a single input that is constant along the ray.
        """
        given = [name for name in self.names if name in points]
        if not given:
            total = np.log(points["flops"].to_numpy(float) / FLOPS_PER_PARAMETER_AND_TOKEN) - sum(self.center)
            return self.inputs(np.exp(self.center[0] + total / sum(self.powers))), np.ones(len(points))
        index = [self.names.index(name) for name in given]
        powers, center = np.array(self.powers)[index], np.array(self.center)[index]
        logs = np.log(points[given].to_numpy(float)) - center
        away = logs @ powers / max(powers @ powers, 1e-12)
        beside = np.exp(np.abs(logs - away[:, None] * powers).max(1))
        if len(given) == 1 and powers[0] == 0.0:
            raise InputError(
                f"{given[0]} is the same in all runs, so it does not determine a point on the ray. Give another input."
            )
        full = self.inputs(np.exp(self.center[0] + away))
        return full.assign(**{name: points[name].to_numpy(float) for name in given}), beside

    def first(self, full: pd.DataFrame) -> np.ndarray:
        """Return the fitted input of points with all inputs, shape (point,)."""
        logs = np.log(full[list(self.names)].to_numpy(float)) - np.array(self.center)
        powers = np.array(self.powers)
        return np.exp(self.center[0] + logs @ powers / (powers @ powers))

    def departure(self, point: Mapping[Any, Any]) -> str:
        """Return the factor between a point and the ray at its first input: `5 (n_tokens / n_params 100, not 20)`.

        Args:
            point: All inputs of the point.
        """
        first = self.names[0]
        there = self.inputs(float(point[first])).iloc[0]
        away = {name: float(np.exp(abs(np.log(point[name] / there[name])))) for name in self.names[1:]}
        name = max(away, key=lambda one: away[one])
        found, usual = float(point[name]), float(there[name])
        said = f"at {first}={float(point[first]):.3g} {name} is {found:.3g}, not {usual:.3g}"
        if self.powers[self.names.index(name)] == 1.0:
            said = f"{name} / {first} is {found / point[first]:.3g}, not {usual / point[first]:.3g}"
        return f"{away[name]:.2g} ({said})"

    def remedy(self, point: Mapping[str, float], smallest: float) -> tuple[dict[str, float], str]:
        """Return the smallest run that would show how the response varies off the ray, and a sentence about it.

        Args:
            point: All inputs of the point.
            smallest: Smallest first input among the runs.
        """
        there = pd.DataFrame([point])
        on_ray = self.inputs(self.first(there)).iloc[0]
        here = self.inputs(smallest).iloc[0]
        run = {name: float(here[name] * point[name] / on_ray[name]) for name in self.names}
        listed = ", ".join(f"{name}={value:.3g}" for name, value in run.items())
        return run, f"Add small runs off the ray, the cheapest at {listed}."

    def refuse_beside(self, full: pd.DataFrame, beside: np.ndarray, smallest: float) -> None:
        """Refuse points off the ray.

        Raises:
            InputError: With the inputs on the ray, and the run that would make the question answerable.
        """
        worst = int(np.argmax(beside))
        if beside[worst] <= OFF_RAY:
            return
        point = full.iloc[worst].astype(float).to_dict()
        asked = ", ".join(f"{name}={value:.3g}" for name, value in point.items())
        on_ray = self.inputs(point[self.names[0]]).iloc[0]
        there = ", ".join(f"{name}={value:.3g}" for name, value in on_ray.items())
        raise InputError(
            f"All runs lie on one ray ({self.text}), but {asked} lies off it by a factor {self.departure(point)}. "
            f"These data do not show the effect of each input alone. The point on the ray is {there}. "
            f"{self.remedy(point, smallest)[1]} A law of all inputs (law='chinchilla_outer', bayescale fit --law "
            "chinchilla_outer) can forecast off the ray, but there its prior determines the answer."
        )


def find_ray(frame: pd.DataFrame, inputs: Sequence[str]) -> Ray | None:
    """Return the ray on which all rows of a table lie, or None.

    At least two inputs have to vary, and in the same direction. If one decreases while the other grows, as along an
    isoFLOP curve, there is no ray.

    Args:
        frame: Inputs in raw counts, positive.
        inputs: Names of the inputs.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"n_params": [1e8, 2e8, 4e8], "n_tokens": [2e9, 4e9, 8e9]})
        >>> find_ray(table, ("n_params", "n_tokens")).text
        'n_tokens = 20 n_params'
    """
    if len(inputs) < 2 or len(frame) < FEWEST_RUNS:
        return None
    logs = np.unique(np.log(frame[list(inputs)].to_numpy(float)), axis=0)
    moving = np.ptp(logs, axis=0) >= np.log(LEAST_FACTOR)
    if moving.sum() < 2 or len(logs) < 2:
        return None
    # The fitted input is the first input that varies.
    order = [int(i) for i in (*np.flatnonzero(moving), *np.flatnonzero(~moving))]
    logs, moving = logs[:, order], moving[order]
    center = 0.5 * (logs.min(0) + logs.max(0))
    proportional = moving.astype(float)
    _, _, axes = np.linalg.svd(logs - logs.mean(0), full_matrices=False)
    # A line along which the first input is constant is no power of it.
    fitted = np.where(moving, axes[0] / axes[0][0], 0.0) if abs(axes[0][0]) > FLATTEST else np.zeros(len(order))
    # A constant ratio stays constant beyond the data, whereas a fitted power would drift away from it.
    for powers in (proportional, fitted):
        if (powers[moving] <= 0).any():
            continue
        along = (logs - center) @ powers / (powers @ powers)
        middle = center + np.median(logs - center - along[:, None] * powers, axis=0)
        if np.abs(logs - middle - along[:, None] * powers).max() <= np.log(ON_RAY):
            names = tuple(inputs[i] for i in order)
            return Ray(names, tuple(map(float, middle)), tuple(map(float, powers)))
    return None
