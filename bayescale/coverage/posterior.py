"""Posterior of success rates over problems, with forecasts of coverage, budgets and best of n."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale._jax import on_cores
from bayescale.checked import known_keywords
from bayescale.coverage import density, forecast, verifier
from bayescale.coverage.counts import Counts, asked_attempts, pass_at_k, unsolved_among
from bayescale.coverage.density import Model, Parameters
from bayescale.coverage.forecast import Budget, CoverageForecast
from bayescale.coverage.verifier import BestOfN
from bayescale.errors import InputError, Status
from bayescale.inference.diagnostics import Diagnostics

if TYPE_CHECKING:
    from jaxtyping import Float

ASKED = ("new", "same")
"""Allowed values of `problems`."""
LARGEST = 10**9
"""Largest number of attempts that is tried for a budget."""
STEPS = 12
"""Numbers of attempts per decade that are tried for a budget; in between, coverage is interpolated."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class CoveragePosterior(Display):
    """Posterior of the distribution of success rates over problems.

    Attributes:
        counts: The counts that were fitted.
        model: The distribution of success rates.
        draws: Draws of each parameter by name, shape (chain, draw).
        diagnostics: Convergence of the chains.
        seed: Seed of the fit, also used for forecasts.
    """

    counts: Counts
    model: Model
    draws: dict[str, np.ndarray]
    diagnostics: Diagnostics
    seed: int

    @property
    def status(self) -> Status:
        """Status of the fit: whether its chains converged."""
        return self.diagnostics.status

    @property
    def parameters(self) -> Parameters:
        """Draws of all parameters, chains joined, each of shape (draw,)."""
        flat = {name: values.reshape(-1) for name, values in self.draws.items()}
        absent = {"beta": 1.0, "unsolvable": 0.0, "scale": 1.0, "center": 0.0, "spread": 1.0}
        number = len(flat["alpha"])
        return Parameters(**{name: np.full(number, value) for name, value in absent.items()} | flat)

    def __repr__(self) -> str:
        """Describe the fit on one screen."""
        rows = self.summary()[["mean", "q0.05", "q0.95"]].rename(columns={"q0.05": "5 %", "q0.95": "95 %"})
        law = {"exgaussian": "ex-Gaussian log odds", "beta": "Beta", "kumaraswamy": "Kumaraswamy"}[self.model.law]
        lines = [
            f"{self.counts.name}: {self.counts.describe()}",
            f"success rates: {law}{', times a scale' if self.model.scaled else ''}"
            f"{', with unsolvable problems' if self.model.unsolvable else ''}",
            rows.to_string(float_format="{:.3g}".format),
            str(self.status),
        ]
        return checked.one_screen("\n".join([*lines, *self.counts.notes]))

    def summary(self) -> pd.DataFrame:
        """Return mean, standard deviation, quantiles, effective sample sizes and R-hat of each parameter."""
        rows = {}
        for place, (name, values) in enumerate(self.draws.items()):
            quantiles = {f"q{q:g}": float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95)}
            measured = {
                "ess_bulk": float(self.diagnostics.ess_bulk[place]),
                "ess_tail": float(self.diagnostics.ess_tail[place]),
                "r_hat": float(self.diagnostics.rhat[place]),
            }
            rows[name] = {"mean": float(values.mean()), "sd": float(values.std(ddof=1)), **quantiles, **measured}
        return pd.DataFrame.from_dict(rows, orient="index")

    def to_datatree(self) -> Any:
        """Return the draws and the counts as an ArviZ DataTree with groups posterior and observed_data."""
        import xarray

        coords = {"problem": list(self.counts.problems)}
        observed = {"correct": ("problem", self.counts.correct), "attempts": ("problem", self.counts.attempts)}
        posterior = xarray.Dataset({name: (("chain", "draw"), values) for name, values in self.draws.items()})
        chains, draws = self.draws["alpha"].shape
        attributes = {"inference_library": "bayescale", "law": self.model.law, "seed": self.seed}
        posterior = posterior.assign_coords(chain=np.arange(chains), draw=np.arange(draws)).assign_attrs(attributes)
        return xarray.DataTree.from_dict(
            {"/posterior": posterior, "/observed_data": xarray.Dataset(observed, coords=coords)}
        )

    def estimates(self, k: Any) -> pd.DataFrame:
        """Return the unbiased estimates of pass@k from the counts alone, see `pass_at_k`."""
        return pass_at_k(self.counts.correct, self.counts.attempts, k)

    def chances(self, k: Any) -> Float[np.ndarray, "draw k"]:
        """Return the probability that k attempts solve a new problem, for each draw, shape (draw, k)."""
        asked = np.asarray(k, float)
        # Padded to a few sizes, so that questions of similar length share a compiled program.
        room = -len(asked) % 16
        with on_cores():
            found = density.draws_of_coverage(self.parameters, self.model, np.pad(asked, (0, room), mode="edge"))
        return np.asarray(found)[:, : len(asked)]

    def predict(self, k: Any, problems: str = "new", items: int | None = None) -> CoverageForecast:
        """Forecast coverage: the fraction of problems that at least one of k attempts solves.

        Args:
            k: One or several numbers of attempts at each problem. With `problems="same"` these include the attempts
                already made, in random order.
            problems: "new" for other problems of the same population, "same" for the fitted problems, each with its own
                counts.
            items: Number of new problems on which coverage will be measured; by default the whole population.

        Returns:
            Draws of the coverage, joint over k.

        Raises:
            InputError: For other values, and for `items` together with `problems="same"`.
        """
        asked = asked_attempts(k)
        check_question(problems, items)
        draws = self.shares(sorted(set(asked)), problems, items)
        order = np.searchsorted(sorted(set(asked)), asked)
        return CoverageForecast(tuple(asked), draws[:, order], problems, items, self.counts.name)

    def shares(self, k: list[int], problems: str, items: int | None) -> Float[np.ndarray, "draw k"]:
        """Return draws of the coverage at increasing numbers of attempts, shape (draw, k)."""
        rng = np.random.default_rng([self.seed, 0 if problems == "new" else 1])
        if problems == "new" and items is None:
            return self.chances(k)
        if problems == "new":
            assert items is not None
            return 1.0 - forecast.unsolved(1.0 - self.chances(k), items, rng) / items
        left = np.zeros((len(self.parameters.alpha), len(k)))
        attempts, correct, number = self.counts.distinct
        for made in np.unique(attempts[correct == 0]):
            # Probability that all further attempts fail too, given no success so far.
            missed = 1.0 - self.chances([int(made), *(max(one, int(made)) for one in k)])
            group = int(number[(attempts == made) & (correct == 0)].sum())
            left += forecast.unsolved(missed[:, 1:] / missed[:, :1], group, rng)
        for made, right, group in zip(attempts, correct, number, strict=True):
            if right > 0 and k[0] < made:
                chance = [float(unsolved_among(right, made, one)) if one < made else 0.0 for one in k]
                left += forecast.unsolved(np.tile(chance, (len(left), 1)), int(group), rng)
        return 1.0 - left / len(self.counts)

    def budget(self, target: float, level: float = 0.8, problems: str = "new") -> Budget:
        """Return how many attempts a coverage needs.

        Args:
            target: The coverage, inside (0, 1).
            level: Probability with which the recommended number of attempts should reach the target.
            problems: As for `predict`.

        Returns:
            Draws of the number of attempts, infinite where too many problems are unsolvable for the target.
        """
        checked.options(target=(target, checked.PROBABILITY), level=(level, checked.PROBABILITY))
        check_question(problems)
        grid = np.unique(np.round(np.geomspace(1, LARGEST, 9 * STEPS + 1)).astype(np.int64))
        draws = self.shares([int(one) for one in grid], problems, None)
        most = 1.0 - self.parameters.unsolvable
        if problems == "same":
            # Fitted problems that are solved stay solved.
            most = np.maximum(most, self.counts.solved / len(self.counts))
        reached = forecast.first_at(draws, grid, target)
        return Budget(target, level, reached, np.isinf(reached) & (most < target), problems, self.counts.name)

    def best_of_n(
        self,
        k: Any,
        *,
        false_positive: Any = 0.0,
        true_positive: Any = 1.0,
        gain: float | None = None,
        wrong: float = 0.0,
        price: float = 0.0,
    ) -> BestOfN:
        """Forecast the accuracy, on new problems, of the first of k attempts that an imperfect verifier accepts.

        A verifier that accepts wrong attempts limits the benefit of more attempts. At a problem with success rate p,
        the accepted answer is right with probability p t / (p t + (1 - p) e), however many attempts there are.

        Args:
            k: One or several numbers of attempts.
            false_positive: Probability e that a wrong attempt is accepted, or counts (accepted, checked) of wrong
                attempts.
            true_positive: Probability t that a correct attempt is accepted, or counts (accepted, checked) of correct
                ones.
            gain: Worth of a right answer. With it, the result has the net value, and the k that maximises it.
            wrong: Cost of a wrong answer, in the same unit.
            price: Cost of an attempt, in the same unit; all k attempts are made.

        Raises:
            InputError: For impossible probabilities and amounts.
        """
        return verifier.best_of_n(self, asked_attempts(k), false_positive, true_positive, gain, wrong, price)


def check_question(problems: Any, items: int | None = None) -> None:
    """Refuse an invalid `problems`, and `items` together with `problems="same"`."""
    if not isinstance(problems, str) or problems not in ASKED:
        raise InputError(f"problems (--problems) must be {' or '.join(ASKED)}; found {checked.shortened(problems)}.")
    checked.options(items=(items, checked.optional(checked.whole(1, 10**9))))
    if items is not None and problems == "same":
        raise InputError(
            "items (--items) is the number of new problems. Leave it out with problems='same': the number of fitted "
            "problems is known."
        )
