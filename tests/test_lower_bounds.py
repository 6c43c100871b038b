"""Lower bounds of dependencies are read for `make oldest`, and hold where the tests run."""

import importlib.metadata
import re
import tomllib

import pytest
from lower_bounds import PROJECT, TESTED_EXTRAS, constraint, constraints


@pytest.mark.parametrize(
    ("requirement", "expected"), [("numpy>=2.0.2", "numpy==2.0.2"), ("dask[distributed]>=2025.1", "dask==2025.1")]
)
def test_a_requirement_is_pinned_at_its_lower_bound(requirement, expected):
    assert constraint(requirement) == expected


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy>=2,<3", "numpy>=2; python_version < '3.13'"])
def test_a_requirement_without_one_lower_bound_is_refused(requirement):
    with pytest.raises(ValueError, match="one lower bound"):
        constraint(requirement)


def release(version):
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def test_every_dependency_has_a_lower_bound_that_holds_here():
    pinned = dict(text.split("==") for text in constraints())
    assert len(pinned) == len(constraints()) >= 17
    for name, oldest in pinned.items():
        assert release(importlib.metadata.version(name)) >= release(oldest), name


def test_extras_of_users_have_the_same_bounds_in_the_tests():
    extras = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    for name in (*TESTED_EXTRAS, "docs"):
        assert set(extras[name]) <= set(extras["test"]), name
