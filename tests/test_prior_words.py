"""Priors in words: every law's, without code, and with the numbers that its priors have."""

import dataclasses
import re

import numpy as np
import pytest

import bayescale as bs
from bayescale.laws.prior_words import prior_words


@pytest.mark.parametrize("name", sorted(bs.LAWS))
def test_priors_of_every_law_are_told_without_code(name):
    law = bs.LAWS[name]
    told = "; ".join(prior_words(law))
    assert not re.search(r"[A-Z]\w*\(|\w=|static|array", told)
    # An amplitude that scales the whole law is told as the law's value.
    scaled = {
        c for key, names in law.covered.items() if isinstance(law.priors[key], bs.Level | bs.Plateaus) for c in names
    }
    assert all(re.search(rf"\b{constant}\b", told) for constant in set(law.constants) - scaled)


def test_numbers_are_those_of_the_priors():
    # 90 % of a log-normal lie within 1.645 standard deviations of its logarithm.
    (words,) = prior_words(law_of(c=bs.Exponent(0.4, 0.5)))
    low, high = 0.4 * np.exp(np.array([-1.645, 1.645]) * 0.5)
    assert words == f"c is positive (median 0.4, 90 % {low:.3g} to {high:.3g})"
    assert prior_words(law_of(c=bs.Fixed(0.25))) == ["c is fixed at 0.25"]
    (words,) = prior_words(law_of(c=bs.Real(1.0, 2.0)))
    assert words == "c may be positive or negative (median 1, 90 % -2.29 to 4.29)"
    # The net fall is in ln y: a median of .4 is a factor of e^.4.
    (words,) = prior_words(law_of(c=bs.Fall(("c",), 0.4, 1.0)))
    assert "median 1.49" in words


def law_of(**priors):
    return dataclasses.replace(bs.LAWS["power"], priors=priors)
