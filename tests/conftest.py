"""Shared numbers and the one fit that many tests look at."""

import hypothesis
import pandas as pd
import pytest

import bayescale as bs

hypothesis.settings.register_profile("bayescale", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile("bayescale")

MARIN = {
    "flops": [1e18, 3e18, 1e19, 3e19, 1e20, 3e20],
    "loss": [3.522, 3.339, 3.154, 3.000, 2.848, 2.725],
}


@pytest.fixture(scope="session")
def marin():
    return bs.Runs.from_frame(pd.DataFrame(MARIN), name="marin")


@pytest.fixture(scope="session")
def marin_post(marin):
    return bs.fit(marin, seed=0)
