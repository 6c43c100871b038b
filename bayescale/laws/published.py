"""Printed constants: the paper that printed them, how they were checked, and a law with these constants."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bayescale._record import Array, record, static
from bayescale.checked import known_keywords
from bayescale.errors import InputError
from bayescale.forecast import Forecast, query_points

VERIFIED = {
    "paper": "read in the paper or in its authors' own files",
    "refit": "refitted for this package to the paper's public data; these are not the paper's own numbers",
    "secondary": "read in another text that quotes the paper",
}
"""How a set of constants was checked."""
FORMS = {
    "paper": "equation read in the paper or in its authors' code",
    "secondary": "equation read in another text that quotes the paper",
    "recalled": "equation not checked against the paper; compare before relying on it",
    "ours": "equation written for this package after a trend that the paper describes",
}
"""How an equation was checked."""


@record
class Published:
    """Constants of a law in the paper's own units, with how they were checked (see `VERIFIED`)."""

    key: str = static(default="")
    cite: str = static(default="")
    constants: tuple[tuple[str, float], ...] = static(default=())
    verified: str = static(default="paper")
    note: str = static(default="")

    def entered(self, key: str, cite: str) -> Published:
        """Return the set under its key; by default it cites the paper of its law."""
        return dataclasses.replace(self, key=key, cite=self.cite or cite)


def paper(*, cite: str = "", note: str = "", **constants: float) -> Published:
    """Return constants that were read in the paper or in its authors' own files."""
    return Published("", cite, tuple(constants.items()), "paper", note)


def refit(*, cite: str = "", note: str = "", **constants: float) -> Published:
    """Return constants that were refitted for this package to the paper's public data."""
    return Published("", cite, tuple(constants.items()), "refit", note)


def secondary(*, cite: str = "", note: str = "", **constants: float) -> Published:
    """Return constants that were read in another text that quotes the paper."""
    return Published("", cite, tuple(constants.items()), "secondary", note)


@known_keywords
@record
class PublishedLaw:
    """A law with fixed constants: no uncertainty, so every interval has zero width."""

    law: Any
    source: Published = static()

    @property
    def constants(self) -> dict[str, float]:
        """The constants by name."""
        return dict(self.source.constants)

    def predict(self, at: Any = None, *, kind: str = "mean", **inputs: float | Array) -> Forecast:
        """Evaluate the law at raw inputs (counts); see `Posterior.predict`.

        Raises:
            InputError: For missing or non-positive inputs, or where the law is not positive.
        """
        points = query_points(self.law.inputs, at, inputs)
        columns = [points[name].to_numpy(float) for name in self.law.inputs]
        value = np.broadcast_to(self.law(*columns, **self.constants), (len(points),))
        if not (value > 0).all():
            raise InputError(
                f"{self.law.name} with the constants of {self.source.key} is not positive at these inputs."
            )
        counted = "".join(f", {name} {text}" for name, text in self.law.info.counting if name in self.law.inputs)
        location = np.log(value)[None, :]
        return Forecast(
            points=points,
            kind=kind,
            location=location,
            scale=np.zeros_like(location),
            log_draws=location[None, :, :],
            ratio=np.full(len(points), np.nan),
            label=f"{self.law.name}, constants of {self.source.key}{counted}",
            response=self.law.response,
        )
