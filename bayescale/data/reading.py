"""Options of reading: their defaults, and refusal of values that contradict each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from bayescale import checked
from bayescale.data.scales import DERIVED
from bayescale.data.score import ScoreScale
from bayescale.data.value import ValueScale
from bayescale.errors import InputError

Screen = Literal["exclude", "keep"]


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `read`, which its docstring describes."""

    columns: Mapping[str, str] | None = None
    inputs: Sequence[str] | None = None
    loss: str | None = None
    family: str | None = None
    name: str | None = None
    units: Mapping[str, str | float] | None = None
    decimal: str | None = None
    derive: str | None = None
    score: str | None = None
    chance: float | None = None
    ceiling: float | None = None
    chance_sd: float | None = None
    ceiling_sd: float | None = None
    n_items: float | None = None
    value: str | None = None
    lower_is_better: bool = False
    screen: Screen = "exclude"
    checkpoints: bool = False
    burn_in: float | None = None
    table: int | None = None

    def __post_init__(self) -> None:
        """Refuse invalid values of options."""
        if self.decimal not in (None, ".", ","):
            raise InputError(f"decimal (--decimal) must be '.' or ','; found {self.decimal!r}.")
        if self.derive not in (None, *DERIVED):
            raise InputError(f"derive (--derive) must be one of {', '.join(DERIVED)}; found {self.derive!r}.")
        given = {name: getattr(self, name) for name in ("chance", "ceiling", "chance_sd", "ceiling_sd", "n_items")}
        for name, value in given.items():
            if value is not None and self.score is None:
                option = name.replace("_", "-")
                raise InputError(
                    f"{name} (--{option}) applies only to scores. Give the column of scores, or of counts of right "
                    "items, with score= (--score), e.g. score='accuracy'."
                )
        checked.options(lower_is_better=(self.lower_is_better, checked.FLAG))
        if self.lower_is_better and self.value is None:
            raise InputError(
                "lower_is_better (--lower-is-better) applies only to values. Give their column with value= (--value), "
                "e.g. value='regret'; for losses lower is always better."
            )
        if self.score is not None and (self.loss, self.derive) != (None, None):
            raise InputError(
                "Each of score, loss and derive (--score, --loss, --derive) defines the response: give only one of "
                "them."
            )
        if self.value is not None and (self.loss, self.derive, self.score) != (None, None, None):
            raise InputError(
                "Each of value, loss, score and derive (--value, --loss, --score, --derive) defines the response: give "
                "only one of them."
            )
        checked.options(burn_in=(self.burn_in, checked.optional(checked.PROBABILITY)))
        checked.options(table=(self.table, checked.optional(checked.whole(1, 1_000_000))))
        if self.screen not in ("exclude", "keep"):
            raise InputError(f"screen (--screen) must be 'exclude' or 'keep'; found {self.screen!r}.")
        for name in ("columns", "units"):
            if not isinstance(getattr(self, name), (Mapping, type(None))):
                raise InputError(
                    f"{name} must be a mapping whose keys are bayescale's names; found {getattr(self, name)!r}."
                )
        for name in ("loss", "family"):
            short, long = getattr(self, name), (self.columns or {}).get(name)
            if None not in (short, long) and short != long:
                raise InputError(
                    f"{name}={short!r} (--{name} {short}) and columns={{{name!r}: {long!r}}} (--column {name}={long}) "
                    "give two different columns; give only one of them."
                )

    @property
    def kind(self) -> str:
        """Kind of the response: "loss", "score" or "value"."""
        return "score" if self.score is not None else "loss" if self.value is None else "value"

    @property
    def range(self) -> ScoreScale | None:
        """The range of the score if the response is one, or None."""
        if self.score is None:
            return None
        ceiling = 1.0 if self.ceiling is None else self.ceiling
        return ScoreScale(self.chance or 0.0, ceiling, chance_sd=self.chance_sd, ceiling_sd=self.ceiling_sd)

    @property
    def direction(self) -> ValueScale | None:
        """The direction of the value if the response is one, or None."""
        return None if self.value is None else ValueScale(higher_is_better=not self.lower_is_better)

    @property
    def fixed(self) -> dict[str, str]:
        """Columns of the file that the caller specified, by canonical name."""
        columns = dict(self.columns or {})
        # score='correct' with columns={'correct': 'passes'} means that passes counts right items.
        score = columns.pop("correct", "correct") if self.score == "correct" else self.score
        given = (named for named in (score, self.value, self.loss) if named is not None)
        named = {"loss": next(given, None), "family": self.family}
        return {**columns, **{ours: theirs for ours, theirs in named.items() if theirs is not None}}
