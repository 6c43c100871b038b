"""Chain: the five runs of the paper are fitted, and the larger ones are in question."""

import numpy as np
import pytest

from bayescale import corpus
from bayescale.errors import InputError
from benchmarks.calibration import chain


def test_five_runs_of_each_data_set_are_fitted():
    try:
        families = corpus.frame("overtrain")["family"].unique()
    except InputError as error:
        pytest.skip(str(error))
    assert len(families) == 3
    for family in families:
        table = chain.runs(family)
        small = np.logical_or.reduce(
            [(table["per_param"] == m) & (table["n_params"] < most) for m, most in chain.FITTED]
        )
        assert small.sum() == 5 and table["n_params"][small].max() < 5e8
        assert table["score"].between(0.2, 0.5).all() and table["loss"].notna().all()
        assert (table["n_params"] > chain.LARGE).sum() == 3
