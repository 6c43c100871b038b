"""Gates: which runs of two recipes are fitted, and which one is in question."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.decisions import gates
from benchmarks.decisions.recipe_pairs import thinned


def curve(scales) -> pd.DataFrame:
    x = np.asarray(scales, float)
    return pd.DataFrame({"n_samples": x, "loss": x**-0.2})


@pytest.mark.parametrize("ratio", gates.RATIOS)
def test_gates_lie_a_ratio_below_the_run_in_question(ratio):
    a, b = curve(2.0 ** np.arange(14)), curve(2.0 ** np.arange(16))
    chosen = gates.gate(a, b, "n_samples", 2.0 ** round(np.log2(ratio)))
    assert chosen is not None
    first, second, asked = chosen
    assert len(first) == len(second) == gates.GATES
    # The run in question is at the largest scale that both recipes have.
    assert b["n_samples"][asked] == 2.0**13
    assert b["n_samples"][asked] / second["n_samples"].max() == pytest.approx(2.0 ** round(np.log2(ratio)))
    assert (np.diff(np.log2(first["n_samples"])) == 1.0).all()


def test_curves_that_are_too_short_have_no_gates():
    assert gates.gate(curve(2.0 ** np.arange(5)), curve(2.0 ** np.arange(5)), "n_samples", 8.0) is None
    # The second recipe lacks a run near a gate.
    assert gates.gate(curve(2.0 ** np.arange(10)), curve(2.0 ** np.array([0, 3, 6, 9])), "n_samples", 8.0) is None


def test_widest_spacing_is_taken():
    dense = curve(np.geomspace(1.0, 1e4, 200))
    first, _, _ = gates.gate(dense, dense, "n_samples", 10.0)
    assert np.diff(np.log(first["n_samples"])) == pytest.approx(np.log(3.0), abs=0.1)


def test_questions_are_thinned_evenly():
    assert thinned([(None, 0, float(i)) for i in range(5)], 3) == [(None, 0, 0.0), (None, 0, 2.0), (None, 0, 4.0)]
