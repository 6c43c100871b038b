"""Items: compare models that answered the same items, whose difficulty they share.

Accuracies of two models on one benchmark are correlated: both fail the hard items. The posterior here is that of the
frequencies of answer patterns (which models are right) in the population of items, a Dirichlet distribution, so that
what models share cancels in their differences. It is the Bayesian bootstrap over items (rubin1981bayesian), with a weak
prior.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.errors import InputError, counted, some

DRAWS = 4000
"""Number of draws."""
PRIOR = 0.5
"""Weight of the prior for each model: half of it an item that only this model answers, half one that only it fails."""
BLOCK = 2_000_000
"""Largest number of weights that are drawn at once."""


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class ItemComparison(Display):
    """Accuracies of models on the same items, and the probability that one is better than another.

    Attributes:
        names: Names of the models.
        draws: Accuracy of each model in the population of items, shape (draw, model).
        items: Number of items.
        tasks: Names of the tasks over which the accuracy is averaged; empty without tasks.
        level: Central probability of intervals.
    """

    names: tuple[str, ...]
    draws: np.ndarray
    items: int
    tasks: tuple[str, ...] = ()
    level: float = 0.9

    def accuracies(self) -> pd.DataFrame:
        """Return one row a model: median, low and high accuracy, and the probability that it is the best."""
        best = np.bincount(self.draws.argmax(1), minlength=len(self.names)) / len(self.draws)
        low, middle, high = np.quantile(self.draws, self.ends, axis=0)
        index = pd.Index(self.names, name="model")
        return pd.DataFrame({"median": middle, "low": low, "high": high, "best": best}, index=index)

    def differences(self) -> pd.DataFrame:
        """Return one row a pair of models: accuracy of the second minus that of the first.

        Columns are median, low, high, the probability that the second is better, and the width of the interval divided
        by that for models that answered different items.
        """
        rows = {}
        for i, j in itertools.combinations(range(len(self.names)), 2):
            gap = self.draws[:, j] - self.draws[:, i]
            low, middle, high = np.quantile(gap, self.ends)
            apart = np.sqrt(self.draws[:, i].var() + self.draws[:, j].var())
            rows[self.names[i], self.names[j]] = {
                **{"median": middle, "low": low, "high": high, "better": float((gap > 0.0).mean())},
                "width_ratio": float(gap.std() / apart) if apart > 0.0 else np.nan,
            }
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table.rename_axis(index=["first", "second"])

    def ranks(self) -> pd.DataFrame:
        """Return the probability of each rank (1 is the best) of each model, shape (model, rank)."""
        order = (-self.draws).argsort(1).argsort(1)
        found = [np.bincount(order[:, i], minlength=len(self.names)) / len(order) for i in range(len(self.names))]
        return pd.DataFrame(found, index=pd.Index(self.names, name="model"), columns=range(1, len(self.names) + 1))

    @property
    def ends(self) -> list[float]:
        """Probabilities of the ends of intervals and of the median."""
        return [0.5 - self.level / 2.0, 0.5, 0.5 + self.level / 2.0]

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return accuracies, differences and probabilities as text."""
        over = f", mean of {counted(len(self.tasks), 'task')}" if self.tasks else ""
        percent = f"{100.0 * self.level:g} %"
        lines = [f"Accuracy on {counted(self.items, 'item')} that all models answered{over}:"]
        width = max(map(len, self.names))
        for name, row in self.accuracies().iterrows():
            lines.append(
                f"  {name:<{width}}  {row['median']:.4f}  {percent} {row['low']:.4f} to {row['high']:.4f}  "
                f"best with probability {row['best']:.2f}"
            )
        for (first, second), row in self.differences().iterrows():
            lines.append(
                f"{second} minus {first}: {row['median']:+.4f} ({percent} {row['low']:+.4f} to {row['high']:+.4f}), "
                f"better with probability {row['better']:.2f}; {row['width_ratio']:.2f} times as uncertain as on "
                "different items"
            )
        return "\n".join(lines)


@known_keywords
def compare_items(
    answers: pd.DataFrame | Mapping[str, Sequence[float]],
    *,
    task: str | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> ItemComparison:
    """Compare the accuracies of models on the same items.

    Args:
        answers: One row an item, one column a model: 1 for a right answer and 0 for a wrong one, or a score between.
        task: Column with the task of each item; accuracies are then means over tasks, which count alike.
        level: Central probability of intervals.
        seed: Seed of the draws.

    Raises:
        InputError: For fewer than two models, missing answers, or answers outside 0 and 1.

    Example:
        >>> import numpy as np, bayescale as bs
        >>> hard = np.arange(200) < 100  # both models fail most of the hard items
        >>> a = np.where(hard, np.arange(200) % 10 == 0, True)
        >>> b = a | (np.arange(200) % 25 == 1)
        >>> bs.decide.compare_items({"a": a, "b": b}).differences()["better"].round(1).tolist()
        [1.0]

    References:
        rubin1981bayesian
    """
    checked.options(level=(level, checked.PROBABILITY), seed=(seed, checked.SEED))
    table = pd.DataFrame(answers)
    if task is not None and task not in table:
        raise InputError(f"There is no column {task!r}; found {some(list(map(str, table)), 8)}.")
    labels = pd.Series("", index=table.index) if task is None else table[task].astype(str)
    models = table.drop(columns=[task] if task is not None else [])
    if models.shape[1] < 2:
        raise InputError(f"A comparison needs two models, a column each; found {some(list(map(str, models)), 8)}.")
    right = models.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    for number, name in enumerate(models):
        bad = np.flatnonzero(~((right[:, number] >= 0.0) & (right[:, number] <= 1.0)))
        if len(bad):
            raise InputError(
                f"Answers must be 0 for wrong, 1 for right, or a score between; {name} has none in rows "
                f"{some([int(i) + 1 for i in bad])}. Drop items that a model did not answer."
            )
    rng = np.random.default_rng(seed)
    tasks = list(dict.fromkeys(labels))
    draws = np.mean([accuracy_draws(right[(labels == name).to_numpy()], rng) for name in tasks], axis=0)
    return ItemComparison(
        tuple(map(str, models)), draws, len(right), () if task is None else tuple(tasks), float(level)
    )


def accuracy_draws(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the accuracies of models in the population of the items, shape (draw, model).

    Args:
        right: Answers, shape (item, model).
        rng: Generator.
    """
    patterns, number = np.unique(right, axis=0, return_counts=True)
    own = np.eye(right.shape[1])
    patterns = np.concatenate([patterns, own, 1.0 - own])
    weight = np.concatenate([number.astype(float), np.full(2 * len(own), PRIOR / 2.0)])
    size = max(1, BLOCK // len(weight))
    parts = []
    for start in range(0, DRAWS, size):
        gamma = rng.standard_gamma(weight, size=(min(size, DRAWS - start), len(weight)))
        parts.append(gamma @ patterns / gamma.sum(1, keepdims=True))
    return np.concatenate(parts)
