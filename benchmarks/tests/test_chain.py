"""Chain: the five runs of the paper are fitted, and the larger ones are in question."""

import os

import numpy as np
import pytest

from bayescale import corpus
from benchmarks.calibration import chain


@pytest.mark.skipif(not os.environ.get("BAYESCALE_CORPUS"), reason="needs the downloaded corpus: set BAYESCALE_CORPUS")
def test_five_runs_of_each_data_set_are_fitted():
    families = corpus.frame("overtrain")["family"].unique()
    assert len(families) == 3
    for family in families:
        table = chain.runs(family)
        small = np.logical_or.reduce(
            [(table["per_param"] == m) & (table["n_params"] < most) for m, most in chain.FITTED]
        )
        assert small.sum() == 5 and table["n_params"][small].max() < 5e8
        assert table["score"].between(0.2, 0.5).all() and table["loss"].notna().all()
        assert (table["n_params"] > chain.LARGE).sum() == 3
