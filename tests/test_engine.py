"""Engine: what compiles, and when chains go on, begin anew or give way to other methods."""

import dataclasses
import importlib
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import APART, FEW, positions
from threadpoolctl import threadpool_info

import bayescale as bs
from bayescale._jax import make_room
from bayescale.errors import Status
from bayescale.fitting import batches, fit
from bayescale.fitting.batches import one_thread
from bayescale.model.prepare import make_job

# --- What compiles -----------------------------------------------------------------------------------------


def made_up(rows, seed=0):
    rng = np.random.default_rng(seed)
    x = 1e18 * 3.0 ** np.arange(rows)
    loss = (1.5 + 2.0 * (x / 1e18) ** -0.2) * np.exp(0.005 * rng.standard_normal(rows))
    return bs.Runs.from_frame(pd.DataFrame({"flops": x, "loss": loss}))


def traces_so_far():
    return importlib.import_module("bayescale.fitting.fit").TRACES["sample"]


def traces_of(*arguments, **options):
    """New traces of the compiled program that a fit costs."""
    before = traces_so_far()
    bs.fit(*arguments, settings=FEW, **options)
    return traces_so_far() - before


def test_programs_are_dropped_before_a_process_holds_too_many_mappings():
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux limits them")
    double = jax.jit(lambda x: 2.0 * x)
    double(1.0)
    assert not make_room(1.0)
    assert double._cache_size() == 1
    assert make_room(0.0)
    assert double._cache_size() == 0
    assert double(1.0) == 2.0


def test_numbers_never_recompile(marin):
    bs.fit(marin, seed=0, settings=FEW)
    law = bs.laws.get("plateau_power")
    assert traces_of(made_up(6), seed=0) == 0
    assert traces_of(made_up(8, seed=1), seed=0) == 0
    assert traces_of(made_up(5, seed=2), seed=0) == 0
    assert traces_of(marin, seed=1) == 0
    assert traces_of(marin, seed=0, priors={"terms": bs.Plateaus(spread=1.0)}) == 0
    assert traces_of(marin, dataclasses.replace(law, info=bs.laws.LawInfo(cite="elsewhere")), seed=0) == 0
    assert (
        traces_of(marin, seed=0, discrepancy=bs.Discrepancy(median=0.1), likelihood=bs.Likelihood(residual_sd=0.02))
        == 0
    )
    # No other test of this process fits the default law to 9 to 16 rows with these settings.
    assert traces_of(made_up(9), seed=0) == 1
    assert traces_of(made_up(12, seed=1), seed=0) == 0


def test_equal_seeds_give_equal_draws(marin):
    first, second = (bs.fit(marin, seed=3, settings=FEW) for _ in range(2))
    np.testing.assert_array_equal(positions(first), positions(second))
    assert not np.array_equal(positions(first), positions(bs.fit(marin, seed=4, settings=FEW)))


def test_many_is_one_by_one(marin):
    alone = bs.fit(marin, seed=0, settings=FEW)
    first, _ = bs.fit_many([marin, made_up(6)], seed=0, settings=FEW, progress=False)
    np.testing.assert_allclose(positions(first), positions(alone))


def test_default_fit(marin, marin_post):
    assert marin_post.status is bs.Status.OK
    low, high = marin_post.predict(flops=1e21).interval(0.95)[:, 0]
    assert low < 2.599 < high
    assert high / low < 1.1
    assert not jax.config.jax_enable_x64


def test_slips_are_told_what_was_expected(marin, marin_post):
    slips = [
        (lambda: bs.fit(marin.frame, seed=0), "found DataFrame. Read the table first"),
        (lambda: bs.fit(marin, seed=0, discrepancy=False), "discrepancy must be .* found False"),
        (lambda: marin_post.predict(1e21), r"predict\(at=\{.flops.: 1e21\}\)"),
        (lambda: marin_post.predict(flops=[[1e21]]), r"array of shape \(1, 1\)"),
        (lambda: marin_post.predict(flops=1e21).quantile([]), "found none"),
        (lambda: marin_post.predict(flops=1e21).probability_below(-1.0), "positive number"),
    ]
    for slip, words in slips:
        with pytest.raises(bs.InputError, match=words):
            slip()


def test_linear_algebra_has_one_thread_while_any_fit_needs_it():
    threads = lambda: {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}  # noqa: E731
    before = threads()
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    assert threads() == {1}
    first.__exit__(None, None, None)
    assert threads() == {1}
    second.__exit__(None, None, None)
    assert threads() == before


@pytest.mark.long
@pytest.mark.parametrize(("factor", "draws"), [(1.0, 1000), (1.7, 1500)])
def test_chains_that_are_only_short_go_on_as_one_long_run_would(monkeypatch, factor, draws):
    # Default chains, whose programs other tests need as well, are long enough for most curves.
    few, right = bs.Nuts(least_ess=1500.0), fit.diagnose
    bs.fit(made_up(7), seed=0, priors=APART)
    monkeypatch.setattr(fit, "diagnose", lambda *chains: right(*chains[:3], factor * chains[3], *chains[4:]))
    before = traces_so_far()
    post = bs.fit(made_up(7), seed=0, priors=APART, settings=few)
    assert traces_so_far() == before, "no program but the one that they began with"
    assert (post.settings.draws, post.settings.warmup, post.settings.target_accept) == (draws, 200, few.target_accept)
    job = make_job(made_up(7), "auto", priors=APART)
    ((first, _),) = fit.run_compiled([job], [0], 0, few, fit.FIRST)
    assert first.status is bs.Status.FEW_DRAWS
    ((whole, _),) = fit.run_compiled([job], [0], 0, dataclasses.replace(few, draws=draws), fit.FIRST)
    np.testing.assert_allclose(post.unconstrained, whole.unconstrained)
    np.testing.assert_array_equal(post.stats["n_steps"], whole.stats["n_steps"])
    np.testing.assert_allclose(post.diagnostics.ess_bulk, whole.diagnostics.ess_bulk)
    assert post.values.level.shape == whole.values.level.shape == (4, draws)


def test_chains_that_diverge_begin_anew():
    # Steps far too long, which more draws would not mend.
    for post in bs.fit(made_up(7), seed=0, settings=bs.Nuts(target_accept=0.3)).components:
        assert (post.settings.draws, post.settings.warmup, post.settings.target_accept) == (1500, 500, 0.99)
        assert not post.diagnostics.divergences


@pytest.mark.long
@pytest.mark.slow
def test_accelerators_draw_what_cpus_draw(monkeypatch):
    jobs = [make_job(runs, "auto", priors=APART) for runs in (made_up(6), made_up(7, seed=1), made_up(8, seed=2))]
    few = bs.Nuts(warmup=20, draws=20, chains=2)
    mapped = fit.run_compiled(jobs, range(3), 0, few, fit.FIRST)
    # Families of one bucket in one batch in lockstep, filled up to a power of two: the path of GPUs and TPUs.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(batches, "FEWEST_IN_LOCKSTEP", 3)
    lockstep = fit.run_compiled(jobs, range(3), 0, few, fit.FIRST)
    for (one, _), (other, _) in zip(mapped, lockstep, strict=True):
        # Rounding grows along a chain, so only its beginning is compared: other draws differ by about one.
        np.testing.assert_allclose(one.unconstrained[:2, :5], other.unconstrained[:2, :5], atol=2e-3)
    # Fewer go on on the cores, wherever they began.
    further = [
        fit.run_compiled(jobs[:1], [0], 0, few, fit.FURTHER, [begun[0][1]])[0][0] for begun in (mapped, lockstep)
    ]
    np.testing.assert_allclose(further[0].unconstrained[:, 0], further[1].unconstrained[:, 0], atol=1e-2)
    apart = further[0].unconstrained[:, 0] - mapped[0][0].unconstrained[:, 0]
    assert np.abs(apart).max() > 1e-2


def test_first_fit_compiles_two_programs():
    # One finds where chains begin, one runs them. Each array made outside of these costs a program of its own.
    code = """
import jax, pandas as pd, bayescale as bs
names = []
def listen(event, seconds, **more):
    if event.endswith("backend_compile_duration"):
        names.append(more["fun_name"])
jax.monitoring.register_event_duration_secs_listener(listen)
runs = bs.Runs.from_frame(pd.DataFrame({"flops": [1e18, 3e18, 9e18, 3e19], "loss": [3.5, 3.2, 3.0, 2.9]}))
bs.fit(runs, seed=0)
print(names)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['jit(begin_batch)', 'jit(sample_batch)']"


# --- Falling back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chains", "weights", "smallest", "found", "asked"),
    [
        ([Status.OK], None, None, [Status.OK], []),
        # Each component of a mixture is a job by itself.
        ([Status.DIVERGENT, Status.OK], [Status.OK], None, ["weights", "chains"], [("weights", 1)]),
        ([Status.DIVERGENT], [Status.HEAVY_WEIGHTS], [Status.OK], ["smallest"], [("weights", 1), ("smallest", 1)]),
        ([Status.DIVERGENT], [Status.HEAVY_WEIGHTS], [Status.DIVERGENT], ["chains"], [("weights", 1), ("smallest", 1)]),
        ([Status.NOT_MIXED], [Status.FEW_POINTS], None, ["chains"], [("weights", 1)]),
    ],
)
def test_chains_that_cannot_be_trusted_fall_back(monkeypatch, chains, weights, smallest, found, asked):
    calls = []

    def named(name, statuses, count):
        calls.append((name, count))
        return [types.SimpleNamespace(status=status, came=name) for status in statuses[:count]]

    sampled = [types.SimpleNamespace(status=status, came="chains") for status in chains]
    monkeypatch.setattr(fit, "sample_chains", lambda *_: sampled)
    monkeypatch.setattr(fit, "weigh_jobs", lambda jobs, *_: named("weights", weights, len(jobs)))
    monkeypatch.setattr(
        fit, "run_compiled", lambda jobs, *_: [(p, None) for p in named("smallest", smallest, len(jobs))]
    )
    jobs = [types.SimpleNamespace()] * len(chains)
    results = fit.sample_robustly(jobs, range(len(jobs)), 0, bs.Nuts(), weigh=True)
    wanted = ["chains" if isinstance(one, Status) else one for one in found]
    assert [result.came for result in results] == wanted
    assert calls == asked
