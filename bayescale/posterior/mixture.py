"""Mixture: weighted posteriors of the same runs, with the methods of one posterior."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.data.drawn_score import DrawnScore, joined, known_range
from bayescale.errors import InputError, Status
from bayescale.inference.nuts import Nuts
from bayescale.model.evaluations.counts import empty
from bayescale.model.problem import RANGE, Values
from bayescale.posterior.fitted import Fitted, component_labels, own_draws
from bayescale.posterior.posterior import Posterior
from bayescale.posterior.predictive import Predictive
from bayescale.posterior.stacking import Stacking


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class Mixture(Fitted):
    """A weighted mixture of posteriors of the same runs.

    Each component contributes draws to forecasts in proportion to its weight. Constants and convergence are reported
    for each component separately: `summary` has rows for each, and `to_datatree` a child tree for each.

    Attributes:
        components: Posteriors of the same runs and inputs; law, priors, discrepancy and likelihood may differ.
        weights: Positive weights of the components, divided by their sum; equal by default.
        stacking: How the weights were computed, for mixtures made by `stack`; else None.

    Raises:
        InputError: For components that cannot be mixed, or invalid weights.

    Example:
        >>> along_inputs = bs.fit(runs, seed=0)  # doctest: +SKIP
        >>> other = dataclasses.replace(along_inputs.discrepancy, along="scale")  # doctest: +SKIP
        >>> along_scale = bs.fit(runs, discrepancy=other, seed=0)  # doctest: +SKIP
        >>> bs.Mixture((along_inputs, along_scale)).predict(at=point)  # doctest: +SKIP
    """

    components: tuple[Posterior, ...]
    weights: tuple[float, ...] = ()
    stacking: Stacking | None = None

    def __post_init__(self) -> None:
        """Check the components, and normalise the weights to sum to one."""
        parts = tuple(self.components)
        if not parts or not all(isinstance(part, Posterior) for part in parts):
            found = ", ".join(type(part).__name__ for part in parts) or "none"
            raise InputError(f"A mixture needs posteriors, e.g. bs.Mixture((one, other)); found {found}.")
        for part in parts[1:]:
            # The components of one fit share their runs, and a digest takes a millisecond.
            same = part.runs is parts[0].runs or part.runs.digest == parts[0].runs.digest
            if not same or part.law.inputs != parts[0].law.inputs:
                raise InputError(
                    f"The components of a mixture are fits to the same runs and inputs; found {parts[0].runs.name} and "
                    f"{part.runs.name} with other rows or inputs."
                )
            one, other = part.law, parts[0].law
            if one.name == other.name and (one.function is not other.function or one.constants != other.constants):
                raise InputError(
                    f"Two different laws of the components have the same name, {one.name}. Rename one of them."
                )
            if (part.job.ray is None) != (parts[0].job.ray is None):
                raise InputError(
                    f"The components of a mixture are fits along the same inputs; found {parts[0].law.name} and "
                    f"{part.law.name}, of which one is along a ray."
                )
        weights = tuple(self.weights) or (1.0,) * len(parts)
        if len(weights) != len(parts) or not all(checked.POSITIVE.holds(weight) for weight in weights):
            raise InputError(
                f"A mixture of {len(parts)} components needs {len(parts)} positive weights; found {self.weights!r}."
            )
        object.__setattr__(self, "components", parts)
        object.__setattr__(self, "weights", tuple(float(weight) / sum(weights) for weight in weights))

    @property
    def seed(self) -> int:  # type: ignore[override]
        """Seed of the fit of the first component."""
        return self.first.seed

    @property
    def settings(self) -> Nuts:  # type: ignore[override]
        """Settings of the first component, with the chains and effective sample sizes of all components."""
        chains = sum(part.settings.chains for part in self.components)
        least = sum(part.settings.least_ess for part in self.components)
        return dataclasses.replace(self.first.settings, chains=chains, least_ess=least)

    @property
    def status(self) -> Status:
        """The status of the first component that did not converge, or `Status.OK`."""
        return next((part.status for part in self.components if part.status is not Status.OK), Status.OK)

    @functools.cached_property
    def kept(self) -> tuple[Posterior, ...]:
        """The components, with chains thinned so that numbers of draws are proportional to weights."""
        shapes = [part.unconstrained.shape[:2] for part in self.components]
        total = min(chains * draws / w for (chains, draws), w in zip(shapes, self.weights, strict=True))
        lengths = [max(1, int(w * total / chains + 1e-9)) for (chains, _), w in zip(shapes, self.weights, strict=True)]
        return tuple(part.thinned(length) for part, length in zip(self.components, lengths, strict=True))

    @property
    def layout(self) -> tuple[tuple[int, int], ...]:
        """Number of chains and number of draws of each chain, by component, in the joined draws."""
        return tuple(part.unconstrained.shape[:2] for part in self.kept)

    @functools.cached_property
    def leading(self) -> Posterior | Mixture:  # type: ignore[override]
        """The components under the law with the largest weight; the mixture itself if all components have one law."""
        names = [part.law.name for part in self.components]
        if len(set(names)) == 1:
            return self
        total = {name: sum(w for w, own in zip(self.weights, names, strict=True) if own == name) for name in names}
        best = max(total, key=lambda name: total[name])
        chosen = [number for number, name in enumerate(names) if name == best]
        return combine([self.components[i] for i in chosen], [self.weights[i] for i in chosen])

    @functools.cached_property
    def draws(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Return draws of all quantities by name, all components joined, shape (chain, draw) each.

        A constant that a component lacks is zero in its draws. A constant of equal name may mean something else in
        another component: the exponent of a law with a floor differs from that of a law without. Read constants from
        `components`.
        """
        return self.joined([part.draws for part in self.kept])

    @functools.cached_property
    def scaled(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Draws of the constants at the data's reference scale, including the level, shape (chain, draw) each."""
        return self.joined([part.scaled for part in self.kept])

    def joined(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Join draws of the components by name, each of shape (chain, draw)."""
        common = [name for name in parts[0] if all(name in part for part in parts)]
        return {name: self.folded(np.concatenate([part[name].ravel() for part in parts])) for name in common}

    @functools.cached_property
    def flat_values(self) -> Values:  # type: ignore[override]
        """Return the constrained values of all components' draws, leading axis draw.

        Without constants for several laws.
        """
        parts = [part.flat_values for part in self.kept]
        if self.leading is not self:
            parts = [part._replace(constants={}) for part in parts]
        if len({tuple(empty(getattr(part, name)) for name in RANGE) for part in parts}) > 1:
            # Components with different likelihoods; `drawn_score` has what each samples.
            parts = [part._replace(**dict.fromkeys(RANGE, ())) for part in parts]
        return jax.tree.map(lambda *leaf: np.concatenate(leaf), *parts)

    @functools.cached_property
    def drawn_score(self) -> DrawnScore | None:  # type: ignore[override]
        """Chance, ceiling and concentration of a score in each draw of all components; None if none is sampled."""
        found = [part.drawn_score for part in self.kept]
        if (scale := self.runs.score) is None or all(one is None for one in found):
            return None
        draws = [len(part.flat_values.level) for part in self.kept]
        return joined([known_range(scale, n) if one is None else one for one, n in zip(found, draws, strict=True)])

    def predictive(self, z: np.ndarray, kind: str, rng: np.random.Generator, new_setting: bool = False) -> Predictive:
        """Predict ln(response) at ln(x / reference) of new points for the draws of all components."""
        parts = [part.predictive(z, kind, rng, new_setting) for part in self.kept]
        return Predictive(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def log_law(self, z: np.ndarray, constants: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Return ln of each component's law without discrepancy for the draws of all components, (draw, point)."""
        if constants is None and self.leading is not self:
            return np.concatenate([part.log_law(z) for part in self.kept])
        return self.first.log_law(z, self.flat_values.constants if constants is None else constants)

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return the table of `Posterior.summary` for each component, one below the other.

        Components are different models, so their constants are not averaged. The last columns, `component` and
        `weight`, identify the component of each row; constants that a component lacks have no row.

        Args:
            level: Central probability of the interval.
        """
        parts = []
        for part, label, weight in zip(self.components, component_labels(self), self.weights, strict=True):
            table = part.summary(level).loc[list(own_draws(part))]
            parts.append(table.assign(component=label, weight=weight))
        return pd.concat(parts)

    def contraction(self) -> pd.Series:
        """Return 1 - posterior variance / prior variance of each unconstrained parameter, averaged over components.

        Parameters that a component lacks are left out.
        """
        names = [name for name in self.first.names if all(name in part.names for part in self.components)]
        before, after = 0.0, 0.0
        for part, weight in zip(self.components, self.weights, strict=True):
            columns = [part.names.index(name) for name in names]
            after += weight * part.unconstrained.reshape(-1, part.unconstrained.shape[-1])[:, columns].var(0)
            before += weight * part.prior_draws[:, columns].var(0)
        return pd.Series(1.0 - after / before, index=names)


def combine(posteriors: Sequence[Posterior], weights: Sequence[float]) -> Posterior | Mixture:
    """Return a mixture of several posteriors; a single posterior is returned unchanged."""
    return posteriors[0] if len(posteriors) == 1 else Mixture(tuple(posteriors), tuple(weights))
