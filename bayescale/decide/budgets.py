"""Budgets: the best splits of several budgets side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayescale._display import Display
from bayescale.checked import known_keywords, one_screen

if TYPE_CHECKING:
    from bayescale.decide.allocation import Allocation


@known_keywords
@dataclasses.dataclass(frozen=True)
class Allocations(Display):
    """Best split of each of several budgets.

    Attributes:
        each: One allocation for each budget, in the order given by the caller.
    """

    each: tuple[Allocation, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each budget.

        Columns are the choice, the interval of the best first input, the sizes that count as equally good, and the
        loss.
        """
        rows = []
        for found in self.each:
            first = found.over[0]
            best, loss = found.interval(0.9, discrepancy=True), found.mean.interval(0.9)
            row: dict[str, Any] = {"budget": found.budget, **{name: found.choice[name] for name in found.over}}
            row |= {f"best_{first}_low": best[0], f"best_{first}_high": best[1]}
            row |= {"flat_low": found.flat[0], "flat_high": found.flat[1], "plug_in": found.plug_in[first]}
            row |= {"loss": float(found.mean.typical[0]), "loss_low": float(loss[0][0]), "loss_high": float(loss[1][0])}
            rows.append(row | {"ratio": float(found.mean.ratio[0]), "answer": found.answer})
        return pd.DataFrame(rows)

    @property
    def power(self) -> float:
        """Power of the budget with which the chosen first input grows; nan for a single budget."""
        if len({found.budget for found in self.each}) < 2:
            return np.nan
        logs = np.log([[found.budget, found.choice[found.over[0]]] for found in self.each])
        return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])

    @property
    def text(self) -> str:
        """The answer in words, one paragraph for each budget."""
        texts = [found.text for found in self.each]
        if np.isfinite(self.power):
            texts.append(f"Over these budgets the chosen {self.each[0].over[0]} grows as C^{self.power:.3f}.")
        return "\n\n".join(texts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts, ready for JSON."""
        power = self.power if np.isfinite(self.power) else None
        return {"text": self.text, "power": power, "allocations": [found.to_dict() for found in self.each]}

    def __len__(self) -> int:
        """Count the budgets."""
        return len(self.each)

    def __iter__(self) -> Iterator[Allocation]:
        """Iterate over the allocations."""
        return iter(self.each)

    def __getitem__(self, index: int) -> Allocation:
        """Return one allocation."""
        return self.each[index]

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer with its reasons."""
        return f"{self.each[0].label}\n{self.text}"
