"""Accelerator: how long many fits take on a GPU or TPU and on the cores beside it, and whether they agree.

    python -m benchmarks accelerator    # ten minutes on a machine with one; writes results/accelerator.json

Every measurement runs in a process of its own. "whole" fits families twice, so that the second time no program of the
first is compiled; "parts" times the compiled programs of NUTS alone, without what Python does for each family.
`speed_page` tells of it in docs/evidence/speed.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.core.rows import store
from benchmarks.speed import measure as speed

RESULTS = Path(__file__).parents[1] / "results" / "accelerator.json"
WAYS = {
    "one input, 30 points, NUTS": (speed.curve, "nuts"),
    "one input, 30 points, importance sampling": (speed.curve, "importance"),
    "parameters and tokens, 40 runs, NUTS": (speed.grid, "nuts"),
}
"""What is fitted and how, by what the page calls it."""
CURVES, WEIGHTED, GRIDS = WAYS
PLAN = (
    ("parts", "accelerator", CURVES, 2048),
    ("whole", "accelerator", CURVES, 2048),
    ("whole", "cores", CURVES, 1000),
    ("whole", "accelerator", WEIGHTED, 2048),
    ("whole", "cores", WEIGHTED, 2048),
    ("parts", "accelerator", GRIDS, 2048),
    ("whole", "cores", GRIDS, 300),
)
COMPARED = 200
"""Families whose means are compared between devices."""
SEEDS = {"accelerator": (0, 1), "cores": (2, 3)}
"""Seeds of both times; devices share none, so that means differ by chance."""
PATIENCE = 150
"""Seconds after which a measurement is given up."""


def whole(way: str, families: int, device: str, path: str) -> dict[str, Any]:
    """Fit families twice; write means and their standard errors to a file and return what the second time took."""
    import bayescale as bs
    from benchmarks.speed.agreement import moments

    make, method = WAYS[way]
    curves = [make(number) for number in range(families)]
    seconds, posteriors = [], []
    for seed in SEEDS[device]:
        begin = time.perf_counter()
        posteriors = bs.fit_many(curves, seed=seed, method=method)
        seconds.append(time.perf_counter() - begin)
    if method == "nuts":
        np.save(path, [list(moments(posterior.first.unconstrained)) for posterior in posteriors[:COMPARED]])
    row = {"first": seconds[0], "seconds": seconds[1], "each": seconds[1] / families, "memory": speed.peak()}
    return row | speed.quality(posteriors)


def parts(way: str, families: int, device: str, path: str) -> dict[str, Any]:
    """Time the search for modes and the chains of the first attempt, each compiled before."""
    del device, path
    import jax

    import bayescale as bs
    from bayescale.fitting import programs
    from bayescale.fitting.batches import stacked, stream_key
    from bayescale.inference import nuts_vectorized
    from bayescale.inference.modes import round_potential
    from bayescale.model.prepare import make_jobs

    # Of a mixture its first component.
    jobs = [make_jobs(WAYS[way][0](number), "auto")[0] for number in range(families)]
    numbers = {name: np.float64(getattr(bs.Nuts(), name)) for name in ("target_accept", "least_ess")}
    settings = dataclasses.replace(bs.Nuts(), **numbers)
    model = jobs[0].model

    def timed(function: Callable[..., Any], *values: Any) -> tuple[Any, float, float]:
        begin = time.perf_counter()
        program = jax.jit(function).lower(*values).compile()
        middle = time.perf_counter()
        jax.block_until_ready(program(*values))
        again = time.perf_counter()
        result = jax.block_until_ready(program(*values))
        return result, middle - begin, time.perf_counter() - again

    def begin(words: Any, problems: Any) -> Any:
        def one(word: Any, problem: Any) -> Any:
            return programs.beginning(word, model, problem, settings, True)

        return jax.vmap(one)(words, problems)

    def potential(scores: Any, family: Any) -> Any:
        return round_potential(family[0], model, family[1])(scores)

    def chains(geometry: Any, problems: Any, start: Any, states: Any) -> Any:
        return nuts_vectorized.run_chains(potential, (geometry, problems), start, settings, states)[0]

    with jax.enable_x64(True):
        words = np.stack([stream_key(0, 0, number) for number in range(families)])
        problems = stacked([job.problem for job in jobs], range(families))
        (geometry, start, states), compile_modes, modes = timed(begin, words, problems)
        drawn, compile_chains, sampling = timed(chains, geometry, problems, start, states)
    steps = np.asarray(drawn.steps)
    seconds = {"modes": modes, "chains": sampling, "compile": compile_modes + compile_chains}
    return seconds | {"leapfrogs": float(steps.mean()), "longest_chain": int(steps.sum(-1).max())}


def compared(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Differences of means in standard errors, from arrays of shape (family, coordinate, 2)."""
    number = min(len(one), len(other))
    one, other = one[:number], other[:number]
    gap = abs(one[..., 0] - other[..., 0]) / np.hypot(one[..., 1], other[..., 1])
    size = {"largest": float(gap.max()), "root_mean_square": float(np.sqrt((gap**2).mean()))}
    return {"families": number, "means": gap.size, **size}


def measure(kind: str, device: str, way: str, families: int, path: str) -> dict[str, Any]:
    """Measure in a process of its own; a failure is a row with its reason."""
    environment = os.environ | ({"JAX_PLATFORMS": "cpu"} if device == "cores" else {})
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.accelerator"]
    command += [kind, device, way, str(families), path]
    row: dict[str, Any] = {"kind": kind, "device": device, "way": way, "families": families}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return row | {"failed": f"not finished in {PATIENCE} s"}
    if done.returncode:
        return row | {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return row | json.loads(done.stdout.strip().splitlines()[-1])


def run(plan: Sequence[tuple[str, str, str, int]] = PLAN, path: Path = RESULTS) -> Path:
    """Measure everything and write what was found, after each measurement anew."""
    rows: list[dict[str, Any]] = []
    means: dict[tuple[str, str], np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, device, way, families in plan:
            place = Path(folder) / f"{len(rows)}.npy"
            rows.append(measure(kind, device, way, families, str(place)))
            if place.exists():
                means[device, way] = np.load(place)
                if all((side, way) in means for side in SEEDS):
                    rows[-1]["agreement"] = compared(means["accelerator", way], means["cores", way])
            print(rows[-1], flush=True)
            store(rows, path)
    return path


def described(device: str) -> dict[str, Any]:
    """The device and the libraries of this process."""
    import jax

    from bayescale.fitting.executors import usable_cores

    name = jax.devices()[0].device_kind if device == "accelerator" else f"{usable_cores()} cores"
    return {"name": name, "python": platform.python_version(), "jax": jax.__version__}


if __name__ == "__main__":
    # One measurement in a process of its own, for `measure`.
    kind, device, way, families, path = sys.argv[1:]
    print(json.dumps(described(device) | {"whole": whole, "parts": parts}[kind](way, int(families), device, path)))
