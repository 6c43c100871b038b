"""What several tests of the benchmarks need: problems without a download, rows of a journal, and what makes a leak."""

import json

import pytest

from benchmarks.core.problems import scale
from benchmarks.core.sources import problems


@pytest.fixture(scope="session")
def printed():
    """Problems of the built-in curves."""
    return problems(["printed figures"])


def lines(path):
    """Every row of a journal, none of which may be cut off."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def no_leak(chosen):
    keys = [problem.key for problem in chosen]
    assert len(set(keys)) == len(keys)
    for problem in chosen:
        assert len(problem.train)
        assert len(problem.held)
        assert (problem.train["loss"] > 0).all()
        assert (problem.held["loss"] > 0).all()
        # No run is both fitted and forecast.
        names = [*problem.inputs, "loss"]
        assert not len(problem.train[names].merge(problem.held[names]))
        if len(problem.inputs) == 1:
            assert scale(problem.held, problem.inputs).min() > scale(problem.train, problem.inputs).max()
            assert (problem.ratio > 1).all()
