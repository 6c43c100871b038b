"""Speed: how long fits take, how that grows, and what peers need for the same data.

    python -m benchmarks speed          measures everything (an hour) and writes benchmarks/results/speed.json
    python -m benchmarks pages speed    writes docs/evidence/speed.md and its pictures from that file

Every measurement runs in a process of its own, so that nothing is warm by accident and memory peaks are its own.
Seconds depend on the machine and its load; ratios within one run are what counts. Peers need their extra:
`pip install -e '.[peers]'`.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.core.rows import replace

RESULTS = Path(__file__).parents[1] / "results" / "speed.json"
ROWS = (10, 30, 100, 300, 1000, 3000, 10000)
FAMILIES = (1, 10, 100, 1000, 10000)
LAWS = ("power", "saturating_power", "plateau_power", "broken_1", "broken_2", "broken_3")
"""Laws of one input with 2 to 12 constants."""
WAYS = {"nuts": ("nuts", 500), "importance": ("importance", 500), "importance, 6,000 draws": ("importance", 1500)}
"""Our ways to a posterior beside peers, with the draws of each of four chains; the last has peers' sample sizes."""
REPEATS = 3
"""Measurements of each kind, for the spread,"""
ONCE = ("peer", "families", "checkpoints", "runs", "warm grid", "warm one input, importance", "gradients")
"""but of these: they take minutes, or measure many fits each."""
GRADIENTS, GRADIENT_ROWS, ROUNDS = 500, 32, 61
"""Gradients in a row, rows of each, and how often laws take turns with Chinchilla's."""


# --- Data ----------------------------------------------------------------------------------------------------


def curve(number: int, rows: int = 30, own: bool = False) -> Any:
    """Make up a curve of one input: a floor, a power law, a wandering slope and half a percent of noise.

    Args:
        number: Number of the curve.
        rows: Its points.
        own: Each point names a run of its own, so that none are averaged however many there are.
    """
    import bayescale as bs
    from bayescale.data.checkpoints import own_runs

    rng = np.random.default_rng(number)
    x = np.geomspace(1e18, 1e21, rows)
    z = np.log(x / np.sqrt(x[0] * x[-1]))
    floor, slope = rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.2)
    steps = np.diff(z, prepend=z[0])
    # The slope wanders slowly: a sum of many small steps, the same law for any number of rows.
    departure = 0.01 * np.cumsum(np.interp(z, np.linspace(z[0], z[-1], 12), rng.standard_normal(12)) * steps)
    loss = 3.0 * (floor + (1 - floor) * np.exp(-slope * z)) * np.exp(departure + 0.005 * rng.standard_normal(rows))
    frame = pd.DataFrame({"flops": x, "loss": loss})
    if own:
        frame["run"] = own_runs(rows)
    return bs.Runs.from_frame(frame, inputs=["flops"], name=f"curve {number}")


def grid(number: int, rows: int = 40) -> Any:
    """Make up a design of parameters and tokens under Chinchilla's law with half a percent of noise."""
    import bayescale as bs

    rng = np.random.default_rng(number)
    params, tokens = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e9], [1e11]]), (2, rows)))
    law = bs.LAWS["chinchilla"].published("besiroglu2024")
    loss = law.predict(n_params=params, n_tokens=tokens).draws[0, 0] * np.exp(0.005 * rng.standard_normal(rows))
    frame = pd.DataFrame({"n_params": params, "n_tokens": tokens, "loss": loss})
    return bs.Runs.from_frame(frame, inputs=["n_params", "n_tokens"], name=f"grid {number}")


# --- Measurements, each in a process of its own --------------------------------------------------------------


def peak() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def quality(posteriors: Sequence[Any]) -> dict[str, Any]:
    """Effective sample sizes, leapfrog steps and convergence of fits."""
    parts = [part for p in posteriors for part in p.components]
    # The effective sample size of a mixture is that of its worst component, times their number.
    ess = np.array([len(p.components) * min(o.diagnostics.ess_bulk.min() for o in p.components) for p in posteriors])
    rhat = np.array([max(o.diagnostics.rhat.max() for o in p.components) for p in posteriors])
    steps = [float(part.stats["n_steps"].mean()) for part in parts if "n_steps" in part.stats]
    return {
        "ess": float(np.median(ess)),
        # Importance sampling has no chains to compare; its own diagnostic is Pareto k.
        "good": float(((np.nan_to_num(rhat) < 1.01) & (ess > 400)).mean()),
        "k_below": float(np.mean([part.diagnostics.pareto_k < 0.7 for part in parts]))
        if all(part.diagnostics.method == "importance" for part in parts)
        else None,
        "leapfrogs": float(np.mean(steps)) if steps else None,
    }


def warm(make: Callable[[int], Any], count: int, **options: Any) -> dict[str, Any]:
    """Fit `count` families after their program was compiled."""
    import bayescale as bs

    families = [make(number) for number in range(count)]
    begin = time.perf_counter()
    bs.fit_many([make(100_000 + i) for i in range(2)], seed=0, **options)
    cold = time.perf_counter() - begin
    begin = time.perf_counter()
    posteriors = bs.fit_many(families, seed=1, **options)
    seconds = time.perf_counter() - begin
    row = {"families": count, "seconds": seconds, "each": seconds / count, "compile": cold, "memory": peak()}
    return row | quality(posteriors)


def growth_families(count: int, method: str) -> dict[str, Any]:
    """Fit many families without keeping them: memory is that of the chunk."""
    import bayescale as bs

    bs.fit(curve(100_000), seed=0, method=method)
    begin, good = time.perf_counter(), 0
    for _, posterior in bs.fit_each((curve(number) for number in range(count)), seed=1, method=method):
        good += int(posterior.status is bs.Status.OK)
    seconds = time.perf_counter() - begin
    return {"families": count, "seconds": seconds, "each": seconds / count, "good": good / count, "memory": peak()}


def growth_rows(rows: int, own: bool) -> dict[str, Any]:
    """Fit curves of so many points, checkpoints or runs of their own."""
    found = warm(lambda number: curve(number, rows, own), 2)
    return {"rows": rows, **found}


def constants(law: str) -> dict[str, Any]:
    """Fit curves of 30 points with laws of more and more constants."""
    import bayescale as bs

    return {"law": law, "constants": len(bs.LAWS[law].constants), **warm(curve, 10, law=law)}


def gradients(law: Any) -> Callable[[], float]:
    """Prepare a timer of the gradient, in all constants, of a sum of squares over made-up rows; it returns seconds."""
    import jax
    import jax.numpy as jnp

    from bayescale.evaluate.designs import made_up
    from bayescale.laws.priors import Fixed
    from bayescale.model.parameters import relative_curve, simulate_prior
    from bayescale.model.prepare import make_job

    job = make_job(made_up(law, GRADIENT_ROWS), law, discrepancy=None)
    with jax.enable_x64(True):
        z, y = jnp.asarray(job.problem.z), jnp.asarray(job.problem.y)
        keys = jax.random.split(jax.random.key(0), 16)
        drawn = jax.vmap(lambda key: simulate_prior(key, job.model, job.problem)[1].constants)(keys)
        held = {name: value[0] for name, value in drawn.items() if isinstance(law.priors.get(name), Fixed)}
        drawn = {name: jnp.broadcast_to(value, 16) for name, value in drawn.items() if name not in held}

        def squares(constants: Any, held: Any, z: Any, y: Any) -> Any:
            return ((y - relative_curve(job.model.law, constants | held, z)) ** 2).sum()

        @jax.jit
        def many(drawn: Any, *rest: Any) -> Any:
            def step(number: Any, total: Any) -> Any:
                # Other constants each time, or the compiler would take the gradient out of the loop.
                constants = {name: values[number % 16] for name, values in drawn.items()}
                return jax.tree.map(jnp.add, total, jax.value_and_grad(squares)(constants, *rest))

            return jax.lax.fori_loop(0, GRADIENTS, step, (0.0, {name: jnp.zeros(()) for name in drawn}))

        jax.block_until_ready(many(drawn, held, z, y))

    def seconds() -> float:
        with jax.enable_x64(True):
            begin = time.perf_counter()
            jax.block_until_ready(many(drawn, held, z, y))
            return (time.perf_counter() - begin) / GRADIENTS

    return seconds


def gradient_ratios(names: Sequence[str] = ()) -> dict[str, Any]:
    """Time the gradient of laws in turns with Chinchilla's; the fastest of each, since load only ever adds time."""
    import bayescale as bs

    base, found = gradients(bs.LAWS["chinchilla"]), {}
    for name in names or bs.laws.BUILT_IN:
        one = gradients(bs.LAWS[name])
        mine, reference = np.min([(one(), base()) for _ in range(ROUNDS)], axis=0)
        found[name] = {"seconds": float(mine), "ratio": float(mine / reference)}
    return {"laws": found}


def cold(cached: bool) -> dict[str, Any]:
    """Nothing to do here: the parent times the whole process, from its start to a posterior."""
    import bayescale as bs

    posterior = bs.fit(curve(0, 6), seed=0)
    return {"cached": cached, "memory": peak(), **quality([posterior])}


def floor() -> dict[str, Any]:
    """Least that a first fit with these libraries can take: imports, and NumPyro's NUTS of five normal variables."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from arviz_stats.base import array_stats
    from numpyro.infer import MCMC, NUTS

    sampler = MCMC(NUTS(lambda: numpyro.sample("x", dist.Normal().expand([5]))), num_warmup=200, num_samples=500)
    sampler.run(jax.random.key(0))
    return {"ess": float(np.min(array_stats.ess(np.asarray(sampler.get_samples()["x"]).T[:, None], chain_axis=1)))}


def peer(name: str) -> dict[str, Any]:
    """One peer on its families."""
    from benchmarks.speed import peers

    if name in peers.TWO_INPUTS:
        return peers.TWO_INPUTS[name](grid(0))
    rows = [peers.ONE_INPUT[name](runs) for runs in (peers.families() if name != "bootstrap" else peers.families()[:1])]
    row = rows[0] | {"later": float(np.mean([row["later"] for row in rows]))}
    if "ess" in row:
        row |= {"ess": float(np.mean([r["ess"] for r in rows])), "rhat": float(np.max([r["rhat"] for r in rows]))}
    return row


def ours(way: str, cores: str) -> dict[str, Any]:
    """Our fit of the peers' families, ten seeds each after the first, on one core or on all."""
    import bayescale as bs
    from benchmarks.speed import peers

    if cores == "one core":
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    begin = time.perf_counter()
    families = peers.families()
    method, draws = WAYS[way]
    options = {"law": peers.LAW, "method": method, "settings": bs.Nuts(draws=draws)}
    first = bs.fit(families[0], seed=0, **options)
    cold, started = time.perf_counter() - begin, peers.since_start()
    assert first.status is not None

    def sample() -> list[Any]:
        return [p for seed in range(10) for p in bs.fit_many(families, seed=seed, **options)]

    # Once before the clock starts: a fit that is tried again needs a second program.
    sample()
    begin = time.perf_counter()
    posteriors = sample()
    each = (time.perf_counter() - begin) / len(posteriors)
    parts = [[part.diagnostics for part in p.components] for p in posteriors]
    ess = float(np.mean([len(own) * min(part.ess_bulk.min() for part in own) for own in parts]))
    rhat = float(np.max([part.rhat.max() for own in parts for part in own]))
    row = {"peer": f"bayescale, {way}, {cores}", "first": cold, "later": each, "cold": started}
    if method == "importance":
        light = float(np.mean([part.pareto_k < 0.7 for own in parts for part in own]))
        row["note"] = f"Pareto k below .7 in {light:.0%} of {len(posteriors)} fits"
    return row | {"ess": ess, "rhat": rhat}


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "warm one input": lambda: warm(curve, 300),
    "warm one input, importance": lambda: warm(curve, 1000, method="importance"),
    "warm grid": lambda: warm(grid, 300),
    "families": lambda count, method: growth_families(int(count), method),
    "checkpoints": lambda rows: growth_rows(int(rows), False),
    "runs": lambda rows: growth_rows(int(rows), True),
    "constants": constants,
    "gradients": lambda *names: gradient_ratios(names),
    "cold": lambda cached: cold(cached == "yes"),
    "floor": floor,
    "ours": ours,
    "peer": peer,
}
"""Every kind of measurement by name."""


def plan() -> list[tuple[str, ...]]:
    """All measurements in order: cheap ones first."""
    from benchmarks.speed import peers

    return [
        *[("cold", cached) for cached in ("no", "yes")],
        ("floor",),
        *[("ours", way, cores) for way in WAYS for cores in ("all cores", "one core")],
        *[("peer", name) for name in (*peers.ONE_INPUT, *peers.TWO_INPUTS)],
        ("warm one input",),
        ("warm one input, importance",),
        ("warm grid",),
        *[(kind, str(rows)) for kind in ("checkpoints", "runs") for rows in ROWS],
        *[("families", str(count), "nuts") for count in FAMILIES[:4]],
        *[("families", str(count), "importance") for count in FAMILIES],
        *[("constants", law) for law in LAWS],
        ("gradients",),
    ]


def measure(kind: tuple[str, ...], repeats: int, python: str) -> list[dict[str, Any]]:
    """Run one measurement in fresh processes."""
    from benchmarks.speed import peers

    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for number in range(repeats + (kind == ("cold", "yes"))):
            environment = os.environ | {peers.STARTED: str(time.time())}
            if kind == ("cold", "yes"):
                environment |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            begin = time.perf_counter()
            command = [python, "-W", "ignore", "-m", "benchmarks.speed.measure", *kind]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            wall = time.perf_counter() - begin
            if done.returncode:
                rows.append({"kind": list(kind), "failed": done.stderr.strip().splitlines()[-1:]})
                continue
            if kind == ("cold", "yes") and number == 0:
                # The first run fills the cache.
                continue
            rows.append({"kind": list(kind), "wall": wall, **json.loads(done.stdout.strip().splitlines()[-1])})
    return rows


def run(repeats: int = REPEATS, only: str | None = None, path: Path = RESULTS) -> Path:
    """Measure everything, or the kinds that begin with a text, and write the results."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    rows = [row for row in old["rows"] if only is not None and not " ".join(row["kind"]).startswith(only)]
    for kind in plan():
        if only is None or " ".join(kind).startswith(only):
            rows += measure(kind, 1 if kind[0] in ONCE else repeats, sys.executable)
            write(path, rows)
            print(" ".join(kind), rows[-1].get("each", rows[-1].get("later", rows[-1].get("wall"))), flush=True)
    return path


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write all rows with a description of the machine, completely or not at all."""
    import jax

    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "jax": jax.__version__}
    machine["backend"] = jax.default_backend()
    replace(path, json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    # One measurement in a process of its own, for `measure`.
    print(json.dumps(KINDS[sys.argv[1]](*sys.argv[2:])))
