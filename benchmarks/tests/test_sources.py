"""Problems of downloaded sources: what is an input and what is measured."""

import importlib.util
import os

import numpy as np
import pytest

from benchmarks.core.problems import METRICS
from benchmarks.core.sources import problems
from benchmarks.tests.conftest import no_leak

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not os.environ.get("BAYESCALE_CORPUS"), reason="needs the downloaded corpus"),
]
INPUTS = {
    "il_games": ("n_params", "n_samples"),
    "openclip_scaling": ("n_samples", "n_params"),
    "rl_value_scaling": ("utd",),
}


@pytest.mark.parametrize("source", INPUTS)
def test_inputs_are_chosen_before_training(source):
    found = problems([source])
    no_leak(found)
    assert {problem.inputs for problem in found} == {INPUTS[source]}
    assert {problem.source for problem in found} == {source}


def test_farseer_has_the_split_of_its_copy():
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("needs pyarrow")
    found = problems(["farseer"])
    no_leak(found)
    (published,) = [problem for problem in found if problem.split == "published"]
    assert len(published.held) == 7
    assert published.train["flops"].max() < published.held["flops"].min()
    assert {problem.group for problem in found} == {"several inputs", "far, several inputs", "small design"}


def test_games_hold_no_loss_above_the_uniform_policy():
    found = problems(["il_games"])
    assert len({problem.family for problem in found}) == 9
    for problem in found:
        most = np.log(18) if problem.family.startswith("atari") else np.log(121)
        assert max(problem.train["loss"].max(), problem.held["loss"].max()) <= most


def test_errors_of_clip_models_are_of_few_sets_that_differ():
    found = problems(["openclip_scaling"])
    assert len({problem.metric for problem in found}) == METRICS
    assert {problem.family for problem in found} == {"LAION-80M", "LAION-400M", "LAION-2B"}
    for problem in found:
        assert problem.train["loss"].between(0, 1).all()
    best = min(problem.held["loss"].min() for problem in found if problem.metric == "imagenet1k|acc1")
    assert best == pytest.approx(1 - 0.77972)
