"""Engine: what compiles, what is imported, and forecasts against independent samplers."""

import ast
import dataclasses
import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import APART, FEW, positions, with_job
from numpyro.infer import MCMC, NUTS
from threadpoolctl import threadpool_info

import bayescale as bs
from bayescale._jax import make_room
from bayescale.errors import Status
from bayescale.fitting import batches, fit
from bayescale.fitting.batches import one_thread
from bayescale.model.discrepancy import innovation_kernel, kernel
from bayescale.model.parameters import coordinates
from bayescale.model.prepare import axis_positions, make_job

PACKAGE = Path(bs.__file__).parent

# --- What compiles -----------------------------------------------------------------------------------------


def with_discrepancy(post, **changes):
    """The same draws, of which forecasts are made with another discrepancy."""
    model = post.first.job.model
    discrepancy = dataclasses.replace(model.discrepancy, **{name: np.asarray(value) for name, value in changes.items()})
    return with_job(post, model=dataclasses.replace(model, discrepancy=discrepancy))


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


def test_innovations_beyond_the_data_have_a_factor_for_each_draw(marin_post):
    part = marin_post.components[0]
    amplitude = np.asarray(part.flat_values.amplitude)
    factors = part.discrepancy.factors(len(amplitude), len(part.runs.frame))
    scaled = with_discrepancy(part, trend=0.0)
    unscaled = with_discrepancy(part, ahead=0.0, ahead_median=1.0, trend=0.0)
    flops = np.array([1e20, 1e21, 1e22])
    one, other = (post.predict(flops=flops, kind="mean") for post in (scaled, unscaled))
    np.testing.assert_allclose(one.location, other.location)
    # Between the smallest and the largest run nothing changes.
    np.testing.assert_allclose(one.scale[:, 0], other.scale[:, 0])
    job = part.job
    old, new = (
        axis_positions(job.model.law, job.problem, job.low, z)
        for z in (job.problem.z[: job.problem.rows], np.log(flops[:, None] / job.reference))
    )
    fresh = np.diag(innovation_kernel(new, old, part.discrepancy))
    gained = one.scale**2 - other.scale**2
    expected = (amplitude**2 * (factors**2 - 1.0))[:, None] * fresh
    np.testing.assert_allclose(gained, expected, rtol=1e-6, atol=1e-12)
    # Joint draws have the same spread.
    np.testing.assert_allclose(
        one.log_draws.std(axis=(0, 1)), np.sqrt((one.scale**2).mean(0) + one.location.var(0)), rtol=0.2
    )


def test_more_rows_of_a_curve_lower_the_factor_up_to_the_many_of_the_record():
    curve, ladder = (bs.Discrepancy().completed(design) for design in ("curve", "ladder"))
    medians = [np.median(curve.factors(2001, rows)) for rows in (4, 8, 16, 40, 1000)]
    np.testing.assert_allclose(medians, 0.75 * np.array([1.0, 1.0, 0.5**0.4, 0.2**0.4, 0.2**0.4]))
    np.testing.assert_array_equal(ladder.factors(100, 4), ladder.factors(100, 400))


def test_innovations_are_what_value_and_slope_at_the_edge_leave_open():
    discrepancy = bs.Discrepancy(memory=0.7).completed("curve")
    old = np.array([0.0, 0.3, 1.0 - 2e-4, 1.0])[:, None]
    new = np.array([0.5, 1.2, 2.5, -0.4])[:, None]
    fresh = innovation_kernel(new, old, discrepancy)
    within, cross = kernel(old[1:], old[1:], discrepancy), kernel(new, old[1:], discrepancy)
    left = kernel(new, new, discrepancy) - cross @ np.linalg.solve(within, cross.T)
    np.testing.assert_allclose(fresh[1:3, 1:3], left[1:3, 1:3], rtol=2e-3)
    # None within the data, and none that both sides share.
    assert not fresh[0].any()
    assert not fresh[3, 1:3].any()
    assert fresh[3, 3] > 0.0


def test_innovations_of_several_inputs_leave_a_covariance():
    rng = np.random.default_rng(0)
    discrepancy = bs.Discrepancy().completed("several")
    old, new = rng.uniform(0.0, 1.0, (6, 2)), rng.uniform(-0.5, 3.0, (9, 2))
    everywhere = np.concatenate([old, new])
    fresh, carried = innovation_kernel(new, old, discrepancy), kernel(everywhere, everywhere, discrepancy)
    carried[6:, 6:] -= fresh
    assert np.linalg.eigvalsh(fresh).min() > -1e-9
    assert np.linalg.eigvalsh(carried).min() > -1e-9


def test_trend_moves_forecasts_beyond_the_data_only(marin_post):
    part = marin_post.components[0]
    flops = [1e17, 1e18, 5e19, 3e20, 3.1e20, 1e21, 4e21]
    even, moved = (with_discrepancy(part, trend=trend).predict(flops=flops, kind="mean") for trend in (0.0, 0.4))
    np.testing.assert_allclose(even.location[:, :4], moved.location[:, :4], atol=1e-9)
    np.testing.assert_allclose(even.scale, moved.scale, rtol=1e-6)
    # The law falls.
    assert (moved.location[:, 4:] < even.location[:, 4:]).all()
    # Joint draws follow, and nothing jumps where the data end.
    shift = np.median(moved.log_draws, axis=(0, 1)) - np.median(even.log_draws, axis=(0, 1))
    assert abs(shift[4]) < -0.2 * shift[6]


def test_trend_of_a_rising_law_is_upwards():
    size = np.geomspace(1e6, 1e10, 9)
    runs = bs.Runs.from_frame(pd.DataFrame({"x": size, "loss": 2.0 * size**0.1}), inputs="x")
    post = bs.fit(runs, law="growing_power", seed=0)
    even, moved = (with_discrepancy(post, trend=trend).predict(x=1.5e11, kind="mean") for trend in (0.0, 0.4))
    assert (moved.location > even.location).all()


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


# --- What is imported --------------------------------------------------------------------------------------


def in_a_fresh_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


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
    assert in_a_fresh_python(code) == "['jit(begin_batch)', 'jit(sample_batch)']"


def test_import_is_light():
    code = "import sys, bayescale; print([m for m in ('jax', 'numpyro', 'pandas', 'matplotlib') if m in sys.modules])"
    assert in_a_fresh_python(code) == "[]"


def test_import_leaves_precision_alone():
    assert in_a_fresh_python("import jax, bayescale.fitting.fit; print(jax.config.jax_enable_x64)") == "False"


@pytest.mark.parametrize(
    "first", ["import bayescale.fitting.fit", "bs.fit_many", "from bayescale.fitting.fit_many import fit_many"]
)
def test_fit_stays_the_function(first):
    assert in_a_fresh_python(f"import bayescale as bs\n{first}\nprint(callable(bs.fit))") == "True"


RANKS = (
    ("errors", "_display", "_record", "_jax"),
    ("checked", "digits"),
    ("_io",),
    ("data",),
    ("forecast",),
    ("laws",),
    ("model",),
    ("inference",),
    ("posterior",),
    ("fitting",),
    ("evaluate",),
    ("decide",),
    ("corpus",),
    ("plot",),
    ("reporting",),
    ("cli",),
)
"""Folders, and files beside them, in the order in which data flow through them: imports point to earlier ones."""
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
MOST_ROOMS = 25
LONGEST_FILE = 500


def imported(tree):
    """Folders of the package, and files beside them, that a file imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "bayescale":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bayescale."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bayescale."))


def test_imports_point_one_way():
    files = [path for path in PACKAGE.rglob("*.py") if path not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")]
    homes = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files}
    assert set(homes.values()) == set(RANK)
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, home in homes.items()
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name in RANK and RANK[name] > RANK[home]
    ]
    assert not wrong


def test_nothing_of_the_package_needs_the_benchmarks():
    """Neither the package nor its tests import `benchmarks`, which no wheel holds, inside functions either."""
    files = [path for folder in (PACKAGE, Path(__file__).parent) for path in folder.rglob("*.py")]
    wrong = []
    for path in [*files, PACKAGE.parent / "conftest.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong += [f"{path.name} imports {name}" for name in names if name.split(".")[0] == "benchmarks"]
    assert len(files) > 100 and not wrong


def test_package_stays_small_at_the_top():
    rooms = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name[0] not in "._")]
    assert len([room for room in rooms if room.name != "__pycache__"]) <= MOST_ROOMS
    long = [path for path in PACKAGE.rglob("*.py") if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE]
    assert not long


def lines_beside_docstring(node):
    """Lines of a function from `def` to its end, without those of its docstring."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    return lines - (node.body[0].end_lineno - node.body[0].lineno + 1)


def test_functions_are_short():
    functions = [
        (path, node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    long = [f"{path.relative_to(PACKAGE)} {node.name}" for path, node in functions if lines_beside_docstring(node) > 60]
    assert not long


# --- Reference forecasts -----------------------------------------------------------------------------------

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
REFERENCE = {
    "marin": (
        {
            1e18: 3.522, 3e18: 3.339, 1e19: 3.154, 3e19: 3.000, 1e20: 2.848, 3e20: 2.725,
        },
        {
            1e21: (2.5555, 2.5766, 2.5895, 2.6004, 2.6115, 2.6253, 2.6486),
            1e23: (2.0252, 2.1048, 2.1597, 2.2159, 2.2743, 2.343, 2.4507),
        },
    ),
    "cerebras": (
        {111e6: 2.608, 256e6: 2.349, 590e6: 2.181, 1.3e9: 1.997},
        {
            2.7e9: (1.7475, 1.7988, 1.8332, 1.8651, 1.8989, 1.9375, 1.9998),
            6.7e9: (1.5104, 1.6036, 1.6649, 1.7234, 1.787, 1.8593, 1.9681),
            13e9: (1.3555, 1.4772, 1.5584, 1.6355, 1.7218, 1.8192, 1.9682),
        },
    ),
    "regnetx": (
        {
            0.2e9: 31.1, 0.4e9: 27.3, 0.6e9: 25.9, 0.8e9: 24.8, 1.6e9: 23.0, 3.2e9: 21.7, 4.0e9: 21.4, 6.5e9: 20.8,
        },
        {
            8.0e9: (20.2729, 20.4084, 20.4984, 20.5823, 20.6629, 20.7475, 20.8717),
            12.1e9: (19.671, 19.9219, 20.0757, 20.211, 20.3411, 20.4785, 20.6801),
            15.9e9: (19.2589, 19.6145, 19.8267, 20.0035, 20.1714, 20.3545, 20.6312),
            31.7e9: (18.2442, 18.9174, 19.2937, 19.5873, 19.8543, 20.1654, 20.6815),
        },
    ),
    "examples": (
        {16: 0.7456, 23: 0.6678, 32: 0.6089, 45: 0.517, 64: 0.4478, 91: 0.3878},
        {
            181: (0.2614, 0.2781, 0.291, 0.3045, 0.3189, 0.3346, 0.3571),
            512: (0.1495, 0.1775, 0.1996, 0.2248, 0.2557, 0.2929, 0.3523),
            874: (0.1132, 0.1437, 0.1685, 0.198, 0.2359, 0.2832, 0.3649),
        },
    ),
}  # fmt: skip
"""Training points and quantiles of the next run by an independent ensemble sampler, one input."""
TWO_INPUTS = {
    (3e9, 6e10): (2.1680, 2.2078, 2.2406, 2.2749, 2.3080, 2.3391, 2.3804),
    (1e10, 2e11): (1.8540, 1.9274, 1.9922, 2.0657, 2.1354, 2.1963, 2.2745),
    (1e10, 1.6e10): (2.1553, 2.2246, 2.2798, 2.3375, 2.3921, 2.4433, 2.5148),
}
TOLERANCE = np.array([0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02])
LONG = bs.Nuts(warmup=500, draws=4000)
# What the references were computed with.
AS_FAR = {"sd": 0.8, "ahead": 0.0, "ahead_median": 1.0, "ahead_power": 0.0, "trend": 0.0, "interaction": 0.0}
NO_SEED = bs.Likelihood(residual_sd=0.01, residual_spread=1.0, seed_sd=None)
WIDE = bs.Discrepancy(median=0.2, power=0.5, **AS_FAR)
NARROW = bs.Discrepancy(median=0.06, power=1.5, **AS_FAR)


def check_quantiles(forecast, reference):
    gap = np.log(forecast.quantile(LEVELS)) - np.log(np.array(reference).T)
    assert (np.abs(gap) <= TOLERANCE[:, None]).all(), f"largest gaps {np.abs(gap).max(1).round(4)}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "recoded"), [*((name, False) for name in REFERENCE), ("marin", True)])
def test_reference_forecasts(name, recoded):
    power = 2.0 if recoded else 1.0
    seen, targets = REFERENCE[name]
    frame = pd.DataFrame({"flops": np.array(list(seen)) ** power, "loss": list(seen.values())})
    post = bs.fit(
        bs.Runs.from_frame(frame),
        "saturating_power",
        seed=0,
        discrepancy=WIDE,
        likelihood=NO_SEED,
        settings=LONG,
    )
    assert post.diagnostics.rhat.max() < 1.01
    forecast = post.predict(flops=np.array(list(targets)) ** power)
    check_quantiles(forecast, list(targets.values()))


@pytest.mark.slow
@pytest.mark.parametrize("powers", [(1.0, 1.0), (2.0, 0.5)])
def test_reference_forecasts_of_two_inputs(powers):
    losses = [3.451, 3.090, 2.920, 3.191, 2.859, 2.648, 2.990, 2.684, 2.468]
    params, tokens = np.meshgrid([1e8, 3e8, 1e9], [2e9, 8e9, 3.2e10], indexing="ij")
    n, d = powers
    frame = pd.DataFrame({"n_params": params.ravel() ** n, "n_tokens": tokens.ravel() ** d, "loss": losses})
    post = bs.fit(
        bs.Runs.from_frame(frame), "chinchilla_outer", seed=0, discrepancy=NARROW, likelihood=NO_SEED, settings=LONG
    )
    assert post.diagnostics.rhat.max() < 1.01
    targets = np.array(list(TWO_INPUTS))
    forecast = post.predict(n_params=targets[:, 0] ** n, n_tokens=targets[:, 1] ** d)
    check_quantiles(forecast, list(TWO_INPUTS.values()))


def mean_and_error(draws):
    """Mean of draws, shape (chain, draw), and its Monte Carlo standard error."""
    from arviz_stats.base import array_stats

    ess = float(array_stats.ess(draws, chain_axis=0, draw_axis=1))
    return draws.mean(), draws.std() / np.sqrt(ess)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "priors"),
    [("marin_moe_v16_minima/paloma_macro_loss", None), ("gopher/curation_ppl_0shot", APART)],
)
def test_bare_numpyro_samples_the_same_posterior(name, priors):
    runs = bs.corpus.curves()[name]
    post = bs.fit(runs, seed=0, priors=priors)
    assert post.status is bs.Status.OK
    with jax.enable_x64(True):
        kernel = NUTS(bs.numpyro_model(runs, priors=priors), target_accept_prob=0.95)
        sampler = MCMC(
            kernel, num_warmup=500, num_samples=1500, num_chains=2, chain_method="sequential", progress_bar=False
        )
        sampler.run(jax.random.key(0))
        bare = {site: np.asarray(v) for site, v in sampler.get_samples(group_by_chain=True).items()}
    # Sites of a mixture begin with the names of its components.
    prefixes = ["present.", "absent.", "power."] if priors is None else [""]
    for prefix, part in zip(prefixes, post.components, strict=True):
        for i, site in enumerate(coordinates(part.job.model, part.job.problem)):
            (one, error), (other, wobble) = (
                mean_and_error(part.unconstrained[:, :, i]),
                mean_and_error(bare[prefix + site]),
            )
            assert abs(one - other) <= 4 * np.hypot(error, wobble), site


@pytest.mark.slow
def test_built_in_curves_converge():
    posteriors = bs.fit_many(list(bs.corpus.curves().values())[::2], seed=0)
    measures = [[part.diagnostics for part in p.components] for p in posteriors]
    # Weighted draws, to which chains fall back, have no R-hat.
    sound = [
        all(m.method == "importance" or (m.rhat.max() < 1.01 and m.divergences == 0) for m in each) for each in measures
    ]
    assert np.mean(sound) >= 0.95, [p.runs.name for p, good in zip(posteriors, sound, strict=True) if not good]
    # A fit that is not sound says so.
    assert all(good or p.status is not bs.Status.OK for p, good in zip(posteriors, sound, strict=True))


@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.skipif(not os.environ.get("BAYESCALE_CORPUS"), reason="needs the downloaded corpus: set BAYESCALE_CORPUS")
def test_chinchilla_grid_gives_the_constants_of_its_replication():
    runs = bs.corpus.load("epoch_chinchilla", drop_flagged=False)
    # The replication leaves out the five highest of 245 losses (besiroglu2024chinchilla).
    runs = runs.select(runs.frame["loss"] < runs.frame["loss"].nlargest(5).min())
    post = bs.fit(runs, "chinchilla", seed=0, discrepancy=None, likelihood="student", settings=bs.Nuts(chains=2))
    assert len(runs) == 240
    assert post.status is bs.Status.OK
    middle = {name: float(np.median(draws)) for name, draws in post.draws.items()}
    assert abs(middle["alpha"] - 0.348) < 0.03
    assert abs(middle["beta"] - 0.366) < 0.05
    assert abs(middle["E"] - 1.82) < 0.05
    large = post.predict(n_params=70e9, n_tokens=1.4e12).quantile(0.5)
    assert abs(float(large[0]) - 1.97) < 0.03


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
