"""Shapes in annotations: each can be read, and arrays that go in and out have the shapes that are stated."""

import importlib
import inspect
import pkgutil
import sys
import typing

import numpy as np
import pytest

import bayescale as bs
from bayescale.inference import rhat_ess
from bayescale.inference.importance import resample
from bayescale.laws.optimum import allocation
from bayescale.model import discrepancy

jaxtyping = pytest.importorskip("jaxtyping")
FOLDERS = ("bayescale.model", "bayescale.model.evaluations", "bayescale.inference", "bayescale.laws")
NAMES = {"Float": jaxtyping.Float, "Int": jaxtyping.Int}


def modules():
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        for found in pkgutil.iter_modules(package.__path__, f"{folder}."):
            yield importlib.import_module(found.name)


def annotated():
    """Functions, methods and records whose annotations state shapes, with the module of each."""
    for module in modules():
        for value in vars(module).values():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            # What a record is made by has its fields' annotations, which the record itself has too.
            own = vars(value).items() if inspect.isclass(value) else ()
            inner = [member for name, member in own if name != "__init__"]
            for one in (value, *inner):
                one = inspect.unwrap(one) if callable(one) else one
                if any("Float[" in str(a) or "Int[" in str(a) for a in getattr(one, "__annotations__", {}).values()):
                    yield module, one


def hints_of(function):
    """Annotations of a function with its shapes, for which no package is imported when the function is."""
    return typing.get_type_hints(function, {**function.__globals__, **NAMES})


def fits(values, hints):
    """Return whether arrays have the shapes of their annotations, dimensions of one name being equal."""
    with jaxtyping.jaxtyped("context"):
        # An array of either library is a union, whose own test looks at classes alone.
        return all(isinstance(value, typing.get_args(hint) or hint) for value, hint in zip(values, hints, strict=True))


def check(function, *arguments):
    """Call a function with arrays; return whether they, and what it returns, have the shapes that are stated."""
    hints = hints_of(function)
    parameters = list(inspect.signature(function).parameters)[: len(arguments)]
    arrays = [(value, hints[name]) for name, value in zip(parameters, arguments, strict=True) if np.ndim(value)]
    returned, wanted = function(*arguments), hints["return"]
    pairs = zip(returned, typing.get_args(wanted), strict=True) if isinstance(returned, tuple) else [(returned, wanted)]
    return fits(*zip(*arrays, *pairs, strict=True))


def test_annotations_can_be_read():
    found = list(annotated())
    assert len(found) > 80
    for module, one in found:
        # A record has the annotations of those that it extends, which are written in their modules.
        homes = [vars(sys.modules[base.__module__]) for base in getattr(one, "__mro__", ())]
        names = {name: value for home in homes for name, value in home.items()}
        assert typing.get_type_hints(one, {**names, **vars(module), **NAMES})


def test_importing_the_package_does_not_import_jaxtyping():
    # It is no dependency: the annotations are text.
    assert not [module.__name__ for module in modules() if "Float" in vars(module)]


def test_arrays_have_the_shapes_that_are_stated():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(5, 2)), rng.uniform(size=(3, 2))
    process = bs.Discrepancy().completed("several")
    assert check(discrepancy.kernel, a, b, process)
    assert check(discrepancy.innovation_kernel, b + 1.0, a, process)
    assert check(discrepancy.directions, a, "inputs")
    assert check(discrepancy.eigenbasis, discrepancy.kernel(a, a, process))
    assert check(rhat_ess.rhat, rng.standard_normal((4, 100, 3)))
    assert check(resample, np.full(7, 1 / 7), 4, rng)
    assert check(allocation, {"A": np.ones(6), "alpha": 0.3, "B": 2.0, "beta": 0.4}, np.full(6, 1e20))


def test_other_shapes_are_noticed():
    hints = hints_of(discrepancy.kernel)
    a, b, result = np.ones((5, 2)), np.ones((3, 2)), np.ones((5, 3))
    names = [hints[name] for name in ("a", "b", "return")]
    assert fits([a, b, result], names)
    assert not fits([a, np.ones((3, 4)), result], names)
    assert not fits([a, b, result.T], names)
