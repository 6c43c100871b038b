"""Agreement: every way to a posterior gives the same one, on ten real families.

    python -m benchmarks agreement      # samples every way and writes benchmarks/results/agreement.json; ten minutes

Means of all coordinates are compared with those of the default path, in units of the Monte Carlo standard error of the
difference. Ways that only place the same computation elsewhere (other batches, processes, a Dask cluster) must give the
same draws to the last bit. `speed_page` makes the table of docs/evidence/speed.md.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from numpyro.infer import MCMC, NUTS

import bayescale as bs
from bayescale.fitting.batches import stream_key
from bayescale.fitting.fit import sample_jobs
from bayescale.fitting.programs import begin_batch, compiled, sample_batch
from bayescale.model import prepare
from bayescale.model.numpyro import component_model, raw_problem
from bayescale.model.parameters import coordinates
from bayescale.model.prepare import make_job
from bayescale.model.problem import Job
from benchmarks.core.rows import replace

RESULTS = Path(__file__).parents[1] / "results" / "agreement.json"
NUMBER = 10
SETTINGS = bs.Nuts(warmup=500, draws=2000)
SEED = 0
DEVICES = 8
APART = {"terms": bs.Plateaus(plateau="present")}
"""One model, with its plateau: means over a mixture would compare its two components."""
AIM = 4.0
"""Largest difference of means, in standard errors, that counts as agreement."""


def families() -> list[bs.Runs]:
    """Ten published families of one input, spread evenly over the built-in ones."""
    curves = bs.corpus.curves()
    return [curves[name] for name in np.array(list(curves))[np.linspace(0, len(curves) - 1, NUMBER).astype(int)]]


def default(chosen: Sequence[bs.Runs], **options: Any) -> list[np.ndarray]:
    """Coordinates drawn by `fit_many`, one array of shape (chain, draw, coordinate) a family."""
    fits = bs.fit_many(chosen, seed=SEED, priors=APART, settings=SETTINGS, failures="raise", **options)
    return [post.unconstrained for post in fits]


def importance(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """Coordinates drawn by importance sampling."""
    return default(chosen, method="importance")


def one_by_one(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The default path, started for families in pairs; each keeps its place and so its stream."""
    jobs = [make_job(runs, "auto", priors=APART) for runs in chosen]
    return sampled(jobs)


def sampled(jobs: Sequence[Job]) -> list[np.ndarray]:
    """Sample each job by itself, on the stream of its place."""
    return [sample_jobs([job], [number], SEED, SETTINGS)[0].unconstrained for number, job in enumerate(jobs)]


def dense(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The path that factorises the covariance in every step."""
    jobs = []
    for runs in chosen:
        job = make_job(runs, "auto", priors=APART)
        jobs.append(dataclasses.replace(job, problem=raw_problem(job, job.runs)))
    return sampled(jobs)


def state_space(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The path in linear time, which otherwise serves long curves."""
    with mock.patch.object(prepare, "STATE_SPACE_ROWS", 0):
        return sampled([make_job(runs, "auto", priors=APART) for runs in chosen])


def numpyro(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """Stock NumPyro on the model written as an ordinary function of the raw rows."""
    found = []
    for number, runs in enumerate(chosen):
        job = make_job(runs, "auto", priors=APART)
        with jax.enable_x64(True):
            kernel = NUTS(
                component_model(job),
                dense_mass=True,
                target_accept_prob=0.97,
            )
            sampler = MCMC(
                kernel, num_warmup=1500, num_samples=4000, num_chains=2, chain_method="sequential", progress_bar=False
            )
            sampler.run(jax.random.key(number))
            draws = {site: np.asarray(values) for site, values in sampler.get_samples(group_by_chain=True).items()}
        found.append(np.stack([draws[site] for site in coordinates(job.model, job.problem)], axis=-1))
    return found


def single(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The default path's program in single precision, which the package does not use."""

    def narrow(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float32) if np.issubdtype(leaf.dtype, np.floating) else leaf

    numbers = {name: np.float32(getattr(SETTINGS, name)) for name in ("target_accept", "least_ess")}
    found, settings = [], dataclasses.replace(SETTINGS, **numbers)
    for number, runs in enumerate(chosen):
        job = make_job(runs, "auto", priors=APART)
        problems = jax.tree.map(lambda leaf: narrow(leaf)[None], job.problem)
        keys = stream_key(SEED, 0, number)[None]
        given = keys, jax.tree.map(narrow, job.model), problems, settings
        output = compiled(sample_batch)(*given, compiled(begin_batch)(*given, False), False)
        found.append(np.asarray(output["chains"].position[0], float))
    return found


def eight_devices(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The default path shared out among simulated devices, in a process of its own."""
    del chosen
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.npz"
        program = (
            "import numpy as np; from benchmarks.speed import agreement as a; "
            f"np.savez({str(path)!r}, *a.default(a.families()))"
        )
        subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, check=True)
        with np.load(path) as stored:
            return [stored[f"arr_{number}"] for number in range(NUMBER)]


def process_pool(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The default path in two processes."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return default(chosen, executor=executor)


def dask_cluster(chosen: Sequence[bs.Runs]) -> list[np.ndarray]:
    """The default path on a local Dask cluster of two workers."""
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        return default(chosen, executor=client.get_executor())


WAYS: dict[str, Callable[[Sequence[bs.Runs]], list[np.ndarray]]] = {
    "one family at a time": one_by_one,
    "process pool, two workers": process_pool,
    "Dask cluster, two workers": dask_cluster,
    f"{DEVICES} simulated devices": eight_devices,
    "dense covariance": dense,
    "linear time": state_space,
    "single precision": single,
    "importance sampling": importance,
    "stock NumPyro": numpyro,
}
"""Ways to a posterior, by what the page calls them."""


def moments(draws: np.ndarray) -> Iterator[tuple[float, float]]:
    """Mean of each coordinate and its Monte Carlo standard error."""
    from arviz_stats.base import array_stats

    for values in np.moveaxis(draws, -1, 0):
        ess = float(array_stats.ess(values, method="mean", chain_axis=0, draw_axis=1))
        yield float(values.mean()), float(values.std() / np.sqrt(ess))


def compared(way: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Largest difference of means over all coordinates of all families, in standard errors."""
    gaps = [
        abs(one - other) / np.hypot(error, wobble)
        for a, b in zip(ours, theirs, strict=True)
        for (one, error), (other, wobble) in zip(moments(a), moments(b), strict=True)
    ]
    equal = all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    return {
        "way": way,
        "families": len(ours),
        "means": len(gaps),
        "largest": max(gaps),
        "root_mean_square": float(np.sqrt(np.mean(np.square(gaps)))),
        "bitwise": equal,
    }


def run(path: Path = RESULTS) -> Path:
    """Sample every way and write the comparison."""
    chosen = families()
    ours = default(chosen)
    rows = []
    for way, sample in WAYS.items():
        rows.append(compared(way, ours, sample(chosen)))
        print(rows[-1], flush=True)
        replace(path, json.dumps({"names": [runs.name for runs in chosen], "rows": rows}, indent=1) + "\n")
    return path
