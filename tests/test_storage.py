"""Saved fits: every posterior comes back as it was, and a file that was altered never with other numbers."""

import dataclasses
import functools
import itertools
import os
import re
import shutil

import h5py
import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import with_job

import bayescale as bs
from bayescale import laws
from bayescale._record import record
from bayescale.data.log import LogEntry
from bayescale.errors import InputError, Status
from bayescale.fitting import cache
from bayescale.fitting.plan import FitPlan, plan_fit
from bayescale.inference.diagnostics import Diagnostics
from bayescale.model.parameters import compact, constrain_draws, coordinates
from bayescale.posterior import datatree, io
from bayescale.posterior.encoding import decode_table, encode_prior, encode_table, law_print, registered_law
from bayescale.posterior.mixture import combine
from bayescale.posterior.posterior import Posterior

ONE = (
    *("flops", "n_params", "n_tokens", "n_samples", "step", "width", "value", "batch", "seed", "kind", "level"),
    *("draws", "at", "self", "target", "cost", "ratio", "mean", "chain", "draw", "row", "coordinate", "x", "E"),
    *("model.num_params", "train/steps", "größe 1", ".", "a b\tc", "  padded "),
)
SEVERAL = (
    *(("n_params", "n_tokens"), ("n_tokens", "n_params"), ("step", "width"), ("kind", "value"), ("seed", "batch")),
    *(("level", "draws"), ("row", "chain"), ("model.num_params", "data/tokens"), ("n_tokens", "depth é")),
    *itertools.permutations(("n_params", "n_tokens", "unique_tokens")),
    *(("value", "seed", "kind"), ("a/b", "a_b", "a.b"), ("step", "n_params", "lr")),
)
INPUTS = (*((name,) for name in ONE), *SEVERAL)
SHAPES = ("plain", "replicates", "standard errors", "labels", "averaged checkpoints")
NOISES = ("normal", "student")
DISCREPANCIES = (None, "auto", "scale", bs.Discrepancy(median=0.3, interaction=0.5))
FEW_ROWS = 9


@functools.cache
def runs(inputs, shape):
    """Runs of one family, which lie on no ray."""
    rows = 150 if shape == "averaged checkpoints" else FEW_ROWS
    rng = np.random.default_rng(len(inputs))
    scales = [np.geomspace(2e3, 1e6, rows)] + [rng.permutation(np.geomspace(1e3, 1e5, rows)) for _ in inputs[1:]]
    table = pd.DataFrame(dict(zip(inputs, scales, strict=True)))
    table["loss"] = 2.0 + np.sum([30.0 * x**-0.4 for x in scales], 0) * (1 + 0.01 * rng.normal(size=rows))
    if shape == "replicates":
        table = pd.concat([table, table.head(5).assign(loss=lambda part: part["loss"] * 1.003)])
    if shape == "standard errors":
        table["value_se"] = rng.uniform(0.001, 0.02, rows)
    if shape == "labels":
        table["run"] = [f"r{i % 3}" for i in range(rows)]
        for name, values in (("seed", np.arange(rows)), ("step", np.arange(rows) * 100)):
            table[name] = table.get(name, pd.Series(values))
    if shape == "averaged checkpoints" and len(inputs) > 1:
        table["run"] = [f"r{i % 2}" for i in range(rows)]
    return bs.Runs.from_frame(table.reset_index(drop=True), inputs=inputs, name=" / ".join(inputs))


def synthetic(given, law, discrepancy, noise):
    """Return a fit with made-up draws, which needs no sampler."""
    if discrepancy == "scale":
        discrepancy = bs.Discrepancy(along="scale")
    plan = plan_fit(given, law, discrepancy=discrepancy, likelihood=noise)
    return combine([made_up_posterior(job, number) for number, job in enumerate(plan.jobs)], plan.weights)


def plan_of(fit):
    """Return the plan that a fit is of."""
    return FitPlan(tuple(part.job for part in fit.components), fit.weights)


def made_up_posterior(job, seed):
    rng = np.random.default_rng(seed)
    size = len(coordinates(job.model, job.problem))
    position = 0.3 * rng.normal(size=(2, 5, size))
    values = constrain_draws(position, job.model, job.problem)._replace(level=0.01 * rng.normal(size=(2, 5)))
    stats = {"diverging": rng.random((2, 5)) < 0.2, "energy": rng.normal(size=(2, 5))}
    measures = Diagnostics(rng.random(size), rng.random(size), rng.random(size), rng.random(2), 1, Status.DIVERGENT)
    return Posterior(job, 7, bs.Nuts(chains=2, draws=5), position, compact(values), stats, measures)


def assert_same(fit, again):
    """All that any answer is computed from is equal bit for bit."""
    assert again.weights == fit.weights
    for one, other in zip(fit.components, again.components, strict=True):
        assert_same_posterior(one, other)


def assert_same_posterior(one, other):
    """All that an answer of one posterior is computed from is equal bit for bit."""
    pd.testing.assert_frame_equal(other.runs.frame, one.runs.frame, check_exact=True)
    for name in ("inputs", "name", "log", "one_ray"):
        assert getattr(other.runs, name) == getattr(one.runs, name)
    assert other.runs.digest == one.runs.digest
    assert dataclasses.replace(other.law, priors={}) == dataclasses.replace(one.law, priors={})
    assert list(other.law.priors) == list(one.law.priors)
    for name in ("law", "discrepancy", "likelihood", "model", "problem", "low", "reference", "ray"):
        mine, yours = getattr(one.job, name), getattr(other.job, name)
        assert jax.tree.structure(mine) == jax.tree.structure(yours)
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(yours), strict=True))
    assert (one.seed, one.settings) == (other.seed, other.settings)
    np.testing.assert_array_equal(other.unconstrained, one.unconstrained, strict=True)
    assert one.stats.keys() == other.stats.keys()
    for name, values in one.stats.items():
        np.testing.assert_array_equal(other.stats[name], values, strict=True)
    for a, b in zip(jax.tree.leaves(one.values), jax.tree.leaves(other.values), strict=True):
        np.testing.assert_array_equal(b, a)
    for field in dataclasses.fields(one.diagnostics):
        np.testing.assert_array_equal(getattr(other.diagnostics, field.name), getattr(one.diagnostics, field.name))
    assert other.names == one.names


def combinations():
    """Return every job of the named inputs, shapes, noises and discrepancies."""
    for inputs, shape, noise, discrepancy in itertools.product(INPUTS, SHAPES, NOISES, DISCREPANCIES):
        if discrepancy == "scale" and len(inputs) == 1:
            continue
        yield inputs, shape, noise, discrepancy


def through_a_file(posterior, path):
    io.save(posterior, path, derived=False)
    return bs.load(path)


@pytest.mark.long
@pytest.mark.slow
def test_combinations_are_rebuilt(quickly_compiled):
    """In memory: files are next. A step without a common factor with any axis meets every pair of values."""
    every = list(combinations())
    assert len(every) == 1620
    for inputs, shape, noise, discrepancy in every[:: 1 if os.environ.get("BAYESCALE_ALL_COMBINATIONS") else 13]:
        posterior = synthetic(runs(inputs, shape), "auto", discrepancy, noise)
        tree = datatree.to_datatree(posterior, derived=False)
        nodes = [node for node in tree.subtree if node.data_vars]
        arrays = {node.path.lstrip("/"): datatree.arrays_of(node) for node in nodes}
        jobs = [io.rebuilt_job(tree.attrs, own) for own in io.by_component(tree.attrs, arrays)]
        assert_same(posterior, io.assembled(jobs, io.weights_of(tree.attrs), tree.attrs, arrays))


@pytest.mark.parametrize("inputs", INPUTS, ids=" ".join)
def test_names_and_orders_come_back_from_files(inputs, tmp_path):
    discrepancy, noise = ("scale" if len(inputs) > 1 else "auto"), NOISES[len(inputs[0]) % 2]
    shape = SHAPES[len("".join(inputs)) % len(SHAPES)]
    posterior = synthetic(runs(inputs, shape), "auto", discrepancy, noise)
    file = io.save(posterior, tmp_path / "fit.nc", derived=False, key="fit")
    assert_same(posterior, bs.load(file))
    again = cache.read(cache.open_folder(tmp_path), "fit", plan_of(posterior))
    assert again is not None
    assert_same(posterior, again)


@pytest.mark.parametrize("name", laws.BUILT_IN)
def test_every_law_is_found_again(name):
    law = laws.get(name)
    priors = {key: encode_prior(prior) for key, prior in law.priors.items()}
    inputs = tuple(f"{one}_of_mine" for one in law.inputs)
    assert registered_law(name, inputs, priors, law_print(law)) == laws.renamed(law, inputs)


def kinds_of(law):
    """What decides how a file of a law looks: its function and the kinds of its priors."""
    return (law.function, *((key, type(prior)) for key, prior in law.priors.items()), law.info.describes)


@pytest.mark.parametrize("name", {kinds_of(bs.LAWS[name]): name for name in laws.BUILT_IN}.values())
def test_laws_come_back_from_files(name, tmp_path):
    law = laws.get(name)
    inputs = ("n_tokens",) if law.inputs == ("x",) else law.inputs
    rng = np.random.default_rng(0)
    table = pd.DataFrame({column: 0.1 + 0.8 * rng.random(12) for column in inputs}) * 1e3
    for column in inputs:
        if "share" in column:
            table[column] *= 1e-4
        if column == "schedule":
            table[column] = 1.0
    scored = law.info.describes == "odds"
    table = table.assign(score=rng.random(12), n_items=50) if scored else table.assign(loss=2.0 + rng.random(12))
    given = bs.Runs.from_frame(table, inputs=inputs)
    posterior = synthetic(given, name, None, "binomial" if scored else "normal")
    assert_same(posterior, through_a_file(posterior, tmp_path / "fit.nc"))


# --- Tables -------------------------------------------------------------------------------------------------

COLUMNS = {
    "text": ["a", "ü", ""],
    "holes": ["a", np.nan, "b"],
    "mixed": [1, "two", 3.5],
    "flags": [True, False, True],
    "small": np.array([1, 2, 3], np.int8),
    "float32": np.array([0.1, np.nan, np.inf], np.float32),
    "times": pd.to_datetime(["2026-01-01", "2026-01-02", None]),
    "zoned": pd.to_datetime(["2026-01-01", "2026-01-02", None], utc=True),
    "kinds": pd.Categorical(["x", "y", "x"]),
    "whole": pd.array([1, None, 3], dtype="Int64"),
    "lists": [[1, 2], [], [3]],
    "val/loss": [1.0, 2.0, 3.0],
    "": [1.0, 2.0, 3.0],
    7: [1.0, 2.0, 3.0],
}


def test_columns_of_any_type_come_back():
    frame = pd.DataFrame(COLUMNS)
    again = decode_table(*encode_table(frame))
    assert list(again) == list(frame)
    pd.testing.assert_frame_equal(again, frame)


def test_what_was_carried_along_comes_back(marin_post, tmp_path):
    rows = len(marin_post.runs)
    extra = pd.DataFrame(COLUMNS).iloc[np.arange(rows) % 3].reset_index(drop=True)
    frame = pd.concat([marin_post.runs.frame, extra], axis=1)
    log = (LogEntry("diverged", "excluded", "row 3 is gone", (3,), ("loss",)), LogEntry("unused", "info", "ß"))
    given = dataclasses.replace(marin_post.runs, frame=frame, name="a/b\0 ü" * 3, log=log, one_ray=False)
    posterior = with_job(marin_post, runs=given)
    posterior.save(tmp_path / "fit.nc")
    assert_same(posterior, bs.load(tmp_path / "fit.nc"))


def test_groups_of_arviz_take_any_name(tmp_path):
    posterior = synthetic(runs(("run_length", "chain"), "labels"), "auto", "auto", "normal")
    posterior.save(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc", engine="h5netcdf") as tree:
        assert {"posterior", "sample_stats", "observed_data", "constant_data", "log_likelihood"} <= set(tree.children)
        # The names of the runs are not unique, so they are a variable and not the coordinate.
        names = {"run_length", "chain_", "run_", "family", "seed", "step"}
        assert names == set(tree["constant_data"].data_vars)


# --- Own laws -----------------------------------------------------------------------------------------------


def own(x, *, E, A, c):
    """Power law of mine."""
    return E + A * x**-c


def other(x, *, E, A, c):
    """Another one."""
    return E + A * x ** -(2 * c)


@record
class Mine(bs.laws.priors.Exponent):
    """A prior of the user's own."""


def register(curve=own, exponent=None):
    fall = bs.laws.priors.Fall(("c",)) if exponent is None else exponent
    terms = {"terms": bs.laws.priors.Shares(("E", "A")), "c": fall}
    return bs.register_law(
        name="of_mine", inputs="x", priors=terms, floor="E", decreasing=("x",), cite="hestness2017deep"
    )(curve)


@pytest.fixture
def own_law():
    registered = dict(laws.LAWS)
    yield
    laws.LAWS.clear()
    laws.LAWS.update(registered)


def test_own_laws_must_be_registered_and_the_same(own_law, tmp_path):
    register()
    posterior = synthetic(runs(("kind",), "plain"), "of_mine", "auto", "normal")
    path = tmp_path / "fit.nc"
    assert_same(posterior, through_a_file(posterior, path))
    del laws.LAWS["of_mine"]
    with pytest.raises(InputError, match=r"'of_mine' is not registered here: register it first"):
        bs.load(path)
    register(other)
    with pytest.raises(InputError, match="differs from the law that is registered"):
        bs.load(path)


def test_own_priors_are_those_of_the_registered_law(own_law, tmp_path):
    register(exponent=Mine(0.5))
    posterior = synthetic(runs(("kind",), "plain"), "of_mine", None, "normal")
    path = tmp_path / "fit.nc"
    assert through_a_file(posterior, path).law.priors["c"] == Mine(0.5)
    del laws.LAWS["of_mine"]
    register(exponent=Mine(0.7))
    with pytest.raises(InputError, match="has a class that is not part of bayescale"):
        bs.load(path)


# --- Altered files ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    posterior = synthetic(runs(("n_tokens", "n_params"), "labels"), "auto", "auto", "normal")
    path = tmp_path_factory.mktemp("saved") / "fit.nc"
    posterior.save(path)
    return posterior, path


def arrays_in(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        return [name for name in found if file[name].size and not is_phantom(file[name])]


def is_phantom(values):
    return bytes(values.attrs.get("NAME", b"")).startswith(b"This is a netCDF dimension but not")


def alter(file, name):
    values = file[name][()]
    flat = np.ravel(values).copy()
    if flat.dtype.kind == "O":
        flat[0] = b"other"
    elif flat.dtype.kind == "f":
        flat[0] = np.nextafter(flat[0], np.inf)
    else:
        flat[0] ^= 1
    file[name][...] = flat.reshape(np.shape(values))


def test_any_altered_number_is_refused(saved, tmp_path):
    posterior, path = saved
    names = arrays_in(path)
    assert len(names) >= 40
    for name in names:
        copy = tmp_path / "copy.nc"
        shutil.copy(path, copy)
        with h5py.File(copy, "r+") as file:
            alter(file, name)
        with pytest.raises(InputError, match=r"altered|damaged"):
            bs.load(copy)
        if name.split("/")[0] in ("unconstrained_posterior", "sample_stats", "values", "fit"):
            with pytest.raises(InputError, match=r"altered|damaged"):
                io.load_for(copy, plan_of(posterior).jobs, posterior.weights)


def test_swapped_and_scrambled_arrays_are_refused(saved, tmp_path):
    _, path = saved

    def swap(file, one, two):
        a, b = file[one][()], file[two][()]
        file[one][...], file[two][...] = b, a

    def scramble(file, name, axis):
        file[name][...] = np.flip(file[name][()], axis)

    changes = (
        lambda file: swap(file, "posterior/A", "posterior/B"),
        lambda file: swap(file, "fit/column_1", "fit/column_2"),
        lambda file: file["posterior"].move("A", "A2"),
        lambda file: scramble(file, "unconstrained_posterior/log_residual_sd", 1),
        lambda file: swap(file, "unconstrained_posterior/log_residual_sd", "unconstrained_posterior/log_seed_sd"),
        lambda file: scramble(file, "log_likelihood/loss", 0),
        lambda file: file.attrs.__setitem__("status", "OK"),
        lambda file: file.attrs.__setitem__("digest", "0" * 64),
        lambda file: file.attrs.__delitem__("digests"),
        lambda file: file.__delitem__("log_likelihood"),
    )
    for change in changes:
        copy = tmp_path / "copy.nc"
        shutil.copy(path, copy)
        with h5py.File(copy, "r+") as file:
            change(file)
        with pytest.raises(InputError):
            bs.load(copy)


def test_flipped_bits_never_change_an_answer(saved, tmp_path):
    posterior, path = saved
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(whole), 60):
        copy = tmp_path / "copy.nc"
        copy.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
        try:
            again = bs.load(copy)
        except InputError:
            refused += 1
        else:
            # The bit was in none of what is read.
            assert_same(posterior, again)
    assert refused > 10


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_truncated_files_are_refused(saved, tmp_path, size):
    _, path = saved
    copy = tmp_path / "copy.nc"
    copy.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError):
        bs.load(copy)


def test_damaged_results_in_a_folder_are_told_and_made_again(saved, tmp_path):
    posterior, _ = saved
    io.save(posterior, tmp_path / "key.nc", key="key")
    place = cache.open_folder(tmp_path)
    assert cache.read(place, "key", plan_of(posterior)) is not None
    with h5py.File(tmp_path / "key.nc", "r+") as file:
        alter(file, "unconstrained_posterior/log_residual_sd")
    with pytest.warns(UserWarning, match="sampled again"):
        assert cache.read(place, "key", plan_of(posterior)) is None


def test_fits_that_are_absent_are_told_with_those_that_look_like_them(tmp_path):
    for name in ("ladder-A.nc", "ladder-B.nc", "other.nc"):
        (tmp_path / name).touch()
    for path, words in (
        ("ladder.nc", "Like it are ladder-A.nc, ladder-B.nc."),
        ("laddr-A.nc", "ladder-A.nc"),
        ("zzz.nc", "In that folder are ladder-A.nc, ladder-B.nc, other.nc."),
        (".", "ladder-A.nc, ladder-B.nc"),
        ("nowhere/fit.nc", "there is no folder"),
    ):
        with pytest.raises(bs.InputError, match=re.escape(words)):
            bs.load(tmp_path / path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(bs.InputError, match="there is none in that folder"):
        bs.load(tmp_path / "empty" / "fit.nc")


def test_refused_paths_cost_no_work(saved, monkeypatch):
    posterior, _ = saved
    monkeypatch.setattr(io, "to_datatree", lambda *a, **o: pytest.fail("work was done"))
    for path in ("/dev/null", "/nowhere/fit.nc", "n" * 300):
        with pytest.raises(InputError):
            posterior.save(path)
