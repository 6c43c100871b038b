"""Many families: one failure stays one, nothing finished is sampled twice, equal numbers wherever they are sampled."""

import concurrent.futures
import dataclasses
import importlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import distributed
import jax
import numpy as np
import pandas as pd
import pytest
from conftest import call, positions

import bayescale as bs
from bayescale import _jax
from bayescale.evaluate.designs import made_up
from bayescale.fitting import batches, cache, executors, fit, programs
from bayescale.fitting.executors import BuiltIn, pack, unpack
from bayescale.fitting.plan import FitPlan, plan_fit
from bayescale.model.prepare import make_job, make_jobs
from bayescale.posterior import io

SHORT = bs.Nuts(warmup=20, draws=20, chains=2, mode_steps=40)
PLAIN = {
    "law": "saturating_power",
    "seed": 0,
    "discrepancy": None,
    "likelihood": bs.Likelihood(seed_sd=None),
    "settings": SHORT,
}
"""Cheap to compile, and in one bucket."""


def family(number, rows=6):
    rng = np.random.default_rng(number)
    x = 1e18 * 3.0 ** np.arange(rows)
    loss = (1.5 + 2.0 * (x / 1e18) ** -0.2) * np.exp(0.005 * rng.standard_normal(rows))
    return bs.Runs.from_frame(pd.DataFrame({"flops": x, "loss": loss}), name=f"f{number}")


FAMILIES = [family(number) for number in range(5)]
GARBAGE = bs.Runs(FAMILIES[0].frame.assign(flops=1e18), ("flops",), "garbage")


@pytest.fixture(scope="module")
def here():
    return bs.fit_many(FAMILIES, **PLAIN)


def same(results, expected):
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert one.runs.name == other.runs.name
        np.testing.assert_array_equal(positions(one), positions(other))
        np.testing.assert_array_equal(one.flat_values.residual_sd, other.flat_values.residual_sd)
        assert one.draws.keys() == other.draws.keys()


# --- Streams and failures ----------------------------------------------------------------------------------


def test_draws_depend_on_the_place_only(here):
    same(bs.fit_many(FAMILIES[:3], **PLAIN), here[:3])
    same([bs.fit(FAMILIES[0], **PLAIN)], here[:1])
    mixed = bs.fit_many([FAMILIES[0], family(9, rows=5), *FAMILIES[2:]], **PLAIN)
    same([mixed[0], *mixed[2:]], [here[0], *here[2:]])


def test_cores_share_the_work_and_compile_once(here, monkeypatch):
    monkeypatch.setattr(executors, "usable_cores", lambda: 3)
    before, names = programs.TRACES["sample"], set()
    right = fit.sample_flat

    def noting(*arguments):
        names.add(threading.current_thread().name)
        return right(*arguments)

    monkeypatch.setattr(importlib.import_module("bayescale.fitting.fit_many"), "sample_flat", noting)
    wider = [family(number, rows=20) for number in range(6)]
    results = bs.fit_many([*FAMILIES, *wider], **PLAIN)
    same(results[:5], here)
    assert programs.TRACES["sample"] == before + 1
    assert len(names) > 1 and all(name.startswith("bayescale") for name in names)
    monkeypatch.setattr(executors, "usable_cores", lambda: 1)
    same(bs.fit_many([*FAMILIES, *wider], **PLAIN), results)


def job(rows, discrepancy=None):
    return make_job(family(0, rows), "saturating_power", discrepancy=discrepancy)


def test_batches_hold_one_shape_each():
    jobs = [job(6), job(12), job(7), job(5, "auto"), job(8)]
    tasks = [(one, bs.Nuts(), number) for number, one in enumerate(jobs)]
    assert batches.batch(tasks, lambda task, count: 2) == [[0, 2], [1], [3], [4]]
    tasks[2] = jobs[2], bs.Nuts(chains=2), 2
    assert batches.batch(tasks, lambda task, count: 2) == [[0, 4], [1], [2], [3]], "settings are of one batch too"
    one, four = batches.Machine((None,), False), batches.Machine((None,) * 4, True)
    assert [one.filled(n) for n in (1, 3)] == [1, 4]
    assert [four.filled(n) for n in (1, 4, 5, 17)] == [4, 4, 8, 32]
    # 38 rows in four buckets of 8 and one of 16; a batch of one for each of three families of four on four devices.
    assert batches.padding(jobs, [[n] for n in range(5)], lambda count: one) == pytest.approx(1 - 38 / 48)
    assert batches.padding(jobs[:1], [[0]], lambda count: four) == pytest.approx(1 - 6 / 32)


def test_batches_fit_into_memory():
    class Device:
        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return {"bytes_limit": self.limit}

    def largest(rows, limit):
        return batches.Machine((Device(limit), Device(limit)), True).largest(job(rows), bs.Nuts())

    assert largest(8, 1) == 2
    sizes = [largest(8, limit) for limit in (1e8, 1e9, 1e10)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2] <= 2 * batches.LARGEST_SHARE
    assert largest(200, 1e9) < largest(8, 1e9)


def test_accelerators_take_many_families_and_cores_few(monkeypatch):
    assert not batches.machine(10**6).vectorized
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [batches.machine(n).vectorized for n in (1, 1023, 1024)] == [False, False, True]
    # JAX_PLATFORMS=cuda leaves no device on the CPU.
    monkeypatch.setattr(batches, "cores", tuple)
    assert batches.machine(1).vectorized


def test_few_families_of_a_batch_are_shared_by_threads():
    place, seen = batches.Machine((None, None), False), []

    def run(members):
        seen.append(members)
        return [10 * i for i in members]

    assert place.pieces(5, run) == [0, 10, 20, 30, 40]
    assert sorted(seen) == [[0, 1], [2, 3], [4]]
    assert batches.Machine((None,), True).pieces(3, run) == [0, 10, 20] and seen[-1] == [0, 1, 2]


def test_streams_beyond_32_bits():
    keys = [batches.stream_key(0, 0, stream) for stream in (7, 7 + 2**32, 7 + 2**33)]
    keys += [batches.stream_key(0, 1, 7), batches.stream_key(1, 0, 7)]
    assert len({tuple(key) for key in keys}) == 5
    assert jax.random.key_data(_jax.key_of(keys[0])).tolist() == keys[0].tolist()
    with pytest.raises(bs.InputError, match="zero or more; found -1"):
        bs.fit(FAMILIES[0], seed=-1)


def test_garbage_ends_as_a_status(here):
    good, bad, other = bs.fit_many([FAMILIES[0], GARBAGE, FAMILIES[2]], **PLAIN)
    same([good, other], [here[0], here[2]])
    assert isinstance(bad, bs.Failure)
    assert bad.status is bs.Status.REFUSED
    assert "one scale" in bad.reason and "garbage" in str(bad)
    with pytest.raises(AttributeError, match=r"garbage.*one scale.*failures='raise'"):
        bad.predict(flops=1e20)


@pytest.mark.parametrize("name", sorted(bs.LAWS))
def test_every_law_crosses_processes(name):
    for job in make_jobs(made_up(bs.LAWS[name]), name):
        packed = pack(job)
        assert isinstance(packed.law, BuiltIn)
        there = unpack(pickle.loads(pickle.dumps(packed)))
        assert there.law == job.law
        # What a program is compiled for is equal too.
        assert jax.tree.structure(there.model) == jax.tree.structure(job.model)


def test_an_error_in_a_law_is_told_in_its_own_words(here):
    def broken(runs, law, **options):
        if runs.name == "f1":
            raise ZeroDivisionError("no such scale")
        return plan_fit(runs, law, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("bayescale.fitting.options"), "plan_fit", broken)
        results = bs.fit_many(FAMILIES, **PLAIN)
    assert (results[1].status, results[1].reason) == (bs.Status.FAILED, "ZeroDivisionError: no such scale")
    same([results[0], *results[2:]], [here[0], *here[2:]])


def test_what_concerns_all_raises_at_once():
    with pytest.raises(bs.InputError, match="one scale"):
        bs.fit(GARBAGE, **PLAIN)
    with pytest.raises(bs.InputError, match="one scale"):
        bs.fit_many([GARBAGE, GARBAGE], **PLAIN)
    with pytest.raises(bs.InputError, match="one scale"):
        bs.fit_many([*FAMILIES, GARBAGE], failures="raise", **PLAIN)
    with pytest.raises(bs.InputError, match="saturating_power"):
        bs.fit_many(FAMILIES, "saturating_powr", seed=0)
    with pytest.raises(bs.InputError, match="found DataFrame"):
        bs.fit_many([FAMILIES[0], FAMILIES[1].frame], **PLAIN)
    with pytest.raises(bs.InputError, match="'keep' or 'raise'"):
        bs.fit_many(FAMILIES, failures="ignore", **PLAIN)
    assert bs.fit_many([], **PLAIN) == []


def test_sampling_that_raises_stays_one(here, monkeypatch):
    many, right = importlib.import_module("bayescale.fitting.fit_many"), fit.sample_flat

    def fragile(tasks, *rest):
        if any(job.runs.name == "f1" for job, _, _ in tasks):
            raise FloatingPointError("no luck")
        return right(tasks, *rest)

    monkeypatch.setattr(many, "sample_flat", fragile)
    results = bs.fit_many(FAMILIES, **PLAIN)
    assert results[1].status is bs.Status.FAILED
    assert results[1].reason == "FloatingPointError: no luck"
    same([results[0], *results[2:]], [here[0], *here[2:]])
    with pytest.raises(FloatingPointError):
        bs.fit_many(FAMILIES, failures="raise", **PLAIN)


def test_results_come_as_they_finish(here):
    stream = bs.fit_each(FAMILIES, **PLAIN)
    number, first = next(stream)
    same([first], [here[number]])
    stream.close()


def test_processes_of_a_distributed_job_share_the_families(here, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    same(bs.fit_many(FAMILIES, **PLAIN), here[1::2])
    # Results come as they finish, in no fixed order.
    assert sorted(number for number, _ in bs.fit_each(FAMILIES, **PLAIN)) == [1, 3]


def test_backtest_lists_what_could_not_be_fitted():
    two = bs.Runs.from_frame(FAMILIES[0].frame.assign(n_tokens=1e9), inputs=["flops", "n_tokens"], name="two inputs")
    options = {name: value for name, value in PLAIN.items() if name != "law"}
    back = bs.backtest([family(0, rows=8), two], "saturating_power", ratio=3, **options)
    assert [name for name, _, _ in back.skipped] == ["two inputs"]
    assert set(back.frame["family"]) == {"f0"}
    assert [posterior.runs.name for posterior in back.posteriors] == ["f0"]


def test_command_fits_the_others(tmp_path, capsys, monkeypatch):
    right = bs.fit_many
    monkeypatch.setattr(bs, "fit_many", lambda families, law, *, folder, **_: right(families, folder=folder, **PLAIN))
    rows = pd.concat([FAMILIES[0].frame.assign(family="good"), GARBAGE.frame.assign(family="bad")])
    rows.to_csv(tmp_path / "runs.csv", index=False)
    assert call("fit", tmp_path / "runs.csv", "--folder", tmp_path / "folder") == 2
    out, err = capsys.readouterr()
    assert "good" in out
    assert "1 of 2 families has no posterior. bad" in err
    assert len(list((tmp_path / "folder").iterdir())) == 1


# --- A folder of results -----------------------------------------------------------------------------------


def test_folder_is_read_whatever_the_order(tmp_path, monkeypatch):
    first = bs.fit_many([*FAMILIES, FAMILIES[0]], folder=tmp_path, **PLAIN)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(FAMILIES)
    np.testing.assert_array_equal(first[0].unconstrained, first[-1].unconstrained)
    assert not np.array_equal(first[0].unconstrained, first[1].unconstrained)
    loaded = bs.load(files[0])
    key = io.archive_key(files[0])
    read = cache.read(cache.open_folder(tmp_path), key, FitPlan((loaded.job,)))
    same([loaded], [read])
    assert {name: (v.dtype, v.sum()) for name, v in read.stats.items()} == {
        name: (v.dtype, v.sum()) for name, v in loaded.stats.items()
    }
    sampled = []
    right = importlib.import_module("bayescale.fitting.fit").run_compiled
    monkeypatch.setattr(fit, "run_compiled", lambda *a, **o: sampled.append(a) or right(*a, **o))
    same(bs.fit_many(FAMILIES[::-1], folder=tmp_path, **PLAIN), first[4::-1])
    renamed = dataclasses.replace(FAMILIES[2], name="other")
    (other,) = bs.fit_many([renamed], folder=tmp_path, **PLAIN)
    assert (other.runs.name, len(sampled)) == ("other", 0)
    np.testing.assert_array_equal(other.unconstrained, first[2].unconstrained)
    # Other seeds and priors are other posteriors; a damaged file is replaced.
    bs.fit_many(FAMILIES[:1], folder=tmp_path, **PLAIN | {"seed": 1})
    bs.fit_many(FAMILIES[:1], folder=tmp_path, priors={"falls": bs.Fall(median=0.3)}, **PLAIN)
    assert len(list(tmp_path.iterdir())) == len(FAMILIES) + 2
    files[0].write_bytes(files[0].read_bytes()[:500])
    with pytest.warns(UserWarning, match="sampled again"):
        same(bs.fit_many(FAMILIES, folder=tmp_path, **PLAIN), first[:5])


NAMES = ["Llama 3 / 8B", "llama_3_8b", "Llama_3_8B", "模型 é", "../up", ".hidden", "x" * 300, "", "con:*?"]
FILES = ["Llama_3_8B.nc", "llama_3_8b-2.nc", "Llama_3_8B-3.nc", "模型_é.nc", "up.nc", "hidden.nc", f"{'x' * 100}.nc"]
FILES += ["unnamed.nc", "con.nc"]


def test_files_of_a_folder_are_named_after_their_families(tmp_path):
    families = [dataclasses.replace(family(i), name=name) for i, name in enumerate(NAMES)]
    first = bs.fit_many(families, folder=tmp_path, **PLAIN)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    for name, file, posterior in zip(NAMES, FILES, first, strict=True):
        loaded = bs.load(tmp_path / file)
        assert loaded.runs.name == name
        np.testing.assert_array_equal(loaded.unconstrained, posterior.unconstrained)
    same(bs.fit_many(families[::-1], folder=tmp_path, **PLAIN), first[::-1])
    assert len(list(tmp_path.iterdir())) == len(FILES)


def test_weighted_draws_are_read_from_a_folder_too(tmp_path, monkeypatch):
    options = PLAIN | {"method": "importance", "folder": tmp_path}
    first = bs.fit_many(FAMILIES[:2], **options)
    monkeypatch.setattr(fit, "weigh_jobs", lambda *a, **o: pytest.fail("sampled again"))
    again = bs.fit_many(FAMILIES[1::-1], **options)
    same(again, first[::-1])
    assert again[1].diagnostics.pareto_k == first[0].diagnostics.pareto_k


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(bs.InputError, match="cannot be made as a folder"):
        bs.fit_many(FAMILIES, folder=tmp_path / "file", **PLAIN)


def test_laws_of_one_name_are_told_apart():
    first, second, again = (
        cache.fingerprint(lambda x, *, A, c, p=p: A * x ** -(c + p), 1, ("A", "c")) for p in (1, 2, 1)
    )
    assert first == again != second


def test_killed_in_the_middle_and_run_again(tmp_path):
    families = [family(number) for number in range(30)]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_many as t, bayescale as bs\n"
        "for number, result in bs.fit_each([t.family(n) for n in range(30)], folder=sys.argv[2], **t.PLAIN):\n"
        "    print(number, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    finished = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")}
    assert 4 <= len(finished) < 30
    results = bs.fit_many(families, folder=tmp_path, **PLAIN)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")}
    assert len(results) == len(after) == 30
    assert finished.items() <= after.items()
    same(results[:3], bs.fit_many(families[:3], folder=tmp_path / "elsewhere", **PLAIN))


# --- Executors ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_process_pool_draws_what_is_drawn_here(pool, here, monkeypatch):
    for size in (1, 8):
        monkeypatch.setattr(importlib.import_module("bayescale.fitting.fit_many"), "TASK", size)
        results = bs.fit_many([*FAMILIES, GARBAGE], executor=pool, **PLAIN)
        same(results[:-1], here)
        assert results[-1].status is bs.Status.REFUSED


def test_law_of_ones_own_is_sent(pool):
    shift = 0.1

    def own(x, *, A, c):
        return A * x ** -(c + shift)

    priors = {"A": bs.Level(), "falls": bs.Fall(("c",))}
    info = bs.laws.LawInfo(summary="A power law with a shifted exponent.")
    law = bs.Law(function=own, name="own", inputs=("x",), priors=priors, info=info)
    options = PLAIN | {"law": law}
    sent = bs.fit_many(FAMILIES[:2], executor=pool, **options)
    same(sent, bs.fit_many(FAMILIES[:2], **options))
    assert all(post.law.info == info for post in sent)


class Shaky(concurrent.futures.Executor):
    """An executor whose first tasks fail in some way."""

    def __init__(self, failures, error):
        self.failures, self.error, self.sizes = failures, error, []

    def submit(self, fn, /, *args, **kwargs):
        self.sizes.append(len(args[0]))
        future = concurrent.futures.Future()
        if len(self.sizes) <= self.failures:
            future.set_exception(self.error)
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_family_that_kills_every_worker_is_a_failure(here, monkeypatch):
    many = importlib.import_module("bayescale.fitting.fit_many")
    right, sent = many.sample_packed, []

    def deadly(tasks, *rest):
        streams = [stream for _, _, stream in tasks]
        sent.append(streams)
        if 3 in streams:
            raise OSError("killed")
        return right(tasks, *rest)

    monkeypatch.setattr(many, "sample_packed", deadly)
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        results = bs.fit_many(FAMILIES, executor=executor, **PLAIN)
    same([*results[:3], results[4]], [*here[:3], here[4]])
    assert (results[3].status, results[3].reason) == (bs.Status.FAILED, "OSError: killed")
    assert sent.count([3]) == executors.RETRIES


def test_lost_task_is_sent_again_family_by_family(here):
    executor = Shaky(3, RuntimeError("worker gone"))
    same(bs.fit_many(FAMILIES, executor=executor, **PLAIN), here)
    assert executor.sizes == [5, 1, 1, 1, 1, 1, 1, 1]


def test_what_is_no_longer_wanted_is_cancelled(monkeypatch):
    class Slow(concurrent.futures.Executor):
        def __init__(self):
            self.futures = []

        def submit(self, fn, /, *args, **kwargs):
            self.futures.append(concurrent.futures.Future())
            if len(self.futures) == 1:
                self.futures[0].set_result(fn(*args, **kwargs))
            return self.futures[-1]

    monkeypatch.setattr(importlib.import_module("bayescale.fitting.fit_many"), "TASK", 1)
    executor = Slow()
    stream = bs.fit_each(FAMILIES, executor=executor, **PLAIN)
    next(stream)
    stream.close()
    assert [future.cancelled() for future in executor.futures] == [False, True, True, True, True]


def test_dead_worker_of_a_pool_loses_nothing(here):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        os.kill(executor.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match="executor broke"):
            results = bs.fit_many(FAMILIES, executor=executor, **PLAIN)
    same(results, here)


def test_dask_cluster_loses_a_worker_and_nothing_else(tmp_path):
    families = [family(number) for number in range(40)]
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        victim = client.submit(os.getpid, pure=False).result()
        stream = bs.fit_each(families, executor=client.get_executor(), **PLAIN)
        found = dict([next(stream)])
        os.kill(victim, signal.SIGKILL)
        found |= dict(stream)
    assert len(found) == len(families)
    same([found[number] for number in range(40)], bs.fit_many(families, **PLAIN))


# --- Devices -----------------------------------------------------------------------------------------------

SHARED_OUT = """
import sys; sys.path.insert(0, sys.argv[1])
import jax, numpy as np, bayescale as bs, test_many as t
from bayescale.fitting import batches
assert jax.local_device_count() == 8
if sys.argv[3] == "vectorized":
    jax.default_backend = lambda: "gpu"
    batches.FEWEST_IN_LOCKSTEP = 1
results = bs.fit_many(t.FAMILIES, **t.PLAIN)
np.save(sys.argv[2], [result.unconstrained[:2] for result in results])
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("path", ["mapped", "vectorized"])
def test_eight_devices_draw_what_one_draws(path, here, tmp_path):
    # Five families on eight devices: the path of several GPUs or TPUs, padding included.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags}
    command = [sys.executable, "-c", SHARED_OUT, str(Path(__file__).parent), str(tmp_path / "out.npy"), path]
    subprocess.run(command, env=environment, check=True)
    for one, position in zip(here, np.load(tmp_path / "out.npy"), strict=True):
        # Rounding grows along a chain, so only its beginning is compared.
        np.testing.assert_allclose(one.unconstrained[:2, :5], position[:, :5], atol=1e-4)
