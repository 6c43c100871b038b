"""Problems without leaks, methods, and runs that survive being killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayescale.errors import InputError
from benchmarks.core import run, store
from benchmarks.core.methods import METHODS, Prediction, conformal, last_slope
from benchmarks.core.problems import DEVELOPMENT, Problem, scale, thin
from benchmarks.core.sources import SOURCES
from benchmarks.tests.conftest import lines, no_leak

ROOT = Path(__file__).parents[2]


# --- Problems ------------------------------------------------------------------------------------------------


def test_problems_do_not_leak(printed):
    no_leak(printed)
    assert len({problem.family for problem in printed}) >= 20


def test_ratio_splits_are_exact(printed):
    for problem in printed:
        if problem.split.startswith("R="):
            # The largest run of a curve is always held out, so the cut can be worked out from it.
            limit = scale(problem.held, problem.inputs).max() / int(problem.split[2:])
            assert scale(problem.train, problem.inputs).max() <= limit * (1 + 1e-9)
            assert scale(problem.held, problem.inputs).min() > limit


def test_thinning_keeps_the_ends():
    x = np.geomspace(1, 1000, 400)
    rows = pd.DataFrame({"flops": x, "loss": 1 / x})
    few = thin(rows, ("flops",), 9)
    assert len(few) == 9
    assert few["flops"].iloc[0] == 1
    assert few["flops"].iloc[-1] == x[-1]
    assert np.ptp(np.diff(np.log(few["flops"]))) < 0.05
    assert thin(few, ("flops",), 9) is few


def test_sources_that_were_tuned_on_are_known():
    assert all(name.split()[0] in {source.split()[0] for source in SOURCES} for name in DEVELOPMENT)


# --- Methods -------------------------------------------------------------------------------------------------


def made(source, number, error):
    """A problem whose least-squares centre is 0 and spread 1 in ln(loss), and that prediction."""
    train = pd.DataFrame({"flops": [1.0, 2.0, 4.0, 8.0], "loss": 1.0})
    held = pd.DataFrame({"flops": [16.0, 32.0], "loss": np.exp([error, error])})
    problem = Problem(source, f"family {number}", "loss", "one input", "half", ("flops",), train, held)
    return problem, Prediction(np.zeros((4, 2)), np.ones((4, 2)), "OK", 0.0)


def test_conformal_never_uses_the_own_source():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=40)

    def forecasts(own, others):
        sources = ["lcdb odd", "lcdb even", "one", "two"]
        pairs = [made(sources[i % 4], i, (own if i % 4 < 2 else others) * errors[i]) for i in range(40)]
        chosen, base = zip(*pairs, strict=True)
        return list(conformal(list(chosen), list(base)))

    # Both halves of LCDB are one source, whose own errors do not matter to it but to the others.
    first, second, third = forecasts(1, 1), forecasts(9, 1), forecasts(1, 9)
    for i in range(40):
        same, changed = (second, third) if i % 4 < 2 else (first, second)
        np.testing.assert_array_equal(first[i].location, same[i].location)
        assert not np.array_equal(first[i].location, changed[i].location)


def untimed(rows):
    """Rows without what differs between equal runs, in a fixed order."""
    return sorted(json.dumps({k: v for k, v in row.items() if k != "seconds"}) for row in rows)


# --- Runs that are interrupted -------------------------------------------------------------------------------

SLOW = """
import sys, time
from pathlib import Path
from benchmarks.core import methods
from benchmarks.core import run
from benchmarks.core.sources import problems

def slow(chosen):
    for prediction in methods.last_slope(chosen):
        time.sleep(0.03)
        yield prediction

methods.METHODS["last slope"] = slow
run.run("last slope", problems(["printed figures"]), Path(sys.argv[1]))
"""


def start(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, "-c", SLOW, str(folder)], env=environment)


@pytest.mark.long
def test_killed_runs_continue_without_a_lost_or_doubled_row(printed, tmp_path):
    path = tmp_path / "killed" / "last-slope.jsonl"
    sizes = [0]
    for _ in range(2):
        process = start(path.parent)
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_size <= sizes[-1] + 20_000:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        sizes.append(path.stat().st_size)
    done = {row["key"] for row in store.whole(store.read_journal(path))}
    assert 0 < len(done) < len(printed)
    assert start(path.parent).wait(120) == 0
    whole = run.run("last slope", printed, tmp_path / "whole")
    rows = lines(path)
    assert len({(row["key"], row["row"]) for row in rows}) == len(rows)
    assert untimed(rows) == untimed(lines(whole))
    assert list(path.parent.iterdir()) == [path]


def test_torn_lines_and_incomplete_problems_are_redone(printed, tmp_path):
    some = [problem for problem in printed if len(problem.held) > 2][:6]
    path = run.run("last slope", some, tmp_path)
    before = path.read_text()
    rows = before.splitlines(keepends=True)
    # The last line is cut off within a character, so its problem lacks a row.
    path.write_bytes("".join(rows[:-1]).encode() + rows[-1][:30].encode() + "é".encode()[:1])
    assert len(store.whole(store.read_journal(path))) == len(rows) - len(some[-1].held)
    run.run("last slope", some, tmp_path)
    assert untimed(lines(path)) == untimed(map(json.loads, rows))
    # A row in the middle is missing, and another is there twice.
    path.write_text("".join([*rows[:1], *rows[2:], rows[-1]]))
    run.run("last slope", some, tmp_path)
    assert untimed(lines(path)) == untimed(map(json.loads, rows))


def test_what_is_done_is_not_done_again(printed, tmp_path, monkeypatch):
    asked = []

    def noted(chosen):
        asked.extend(problem.key for problem in chosen)
        return last_slope(chosen)

    monkeypatch.setitem(METHODS, "last slope", noted)
    run.run("last slope", printed[:5], tmp_path)
    run.run("last slope", printed[:8], tmp_path)
    assert asked == [problem.key for problem in printed[:8]]
    run.run("last slope", printed[:2], tmp_path, again=True)
    assert asked[8:] == [problem.key for problem in printed[:2]]
    assert store.keys("last slope", tmp_path) == set(asked[8:])


def test_packed_results_are_continued(printed, tmp_path):
    path = run.run("last slope", printed[:6], tmp_path)
    (packed,) = store.pack(["last slope"], tmp_path)
    first = packed.read_bytes()
    path.unlink()
    # Only the packed file is there, as in a fresh checkout.
    assert store.keys("last slope", tmp_path) == {problem.key for problem in printed[:6]}
    assert store.pack(["last slope"], tmp_path) == []
    run.run("last slope", printed[:9], tmp_path)
    assert {row["key"] for row in lines(path)} == {problem.key for problem in printed[6:9]}
    assert store.keys("last slope", tmp_path) == {problem.key for problem in printed[:9]}
    # A journal that holds nothing takes nothing away from the packed file.
    path.write_text("")
    store.pack(["last slope"], tmp_path)
    assert packed.read_bytes() == first


def test_packed_rows_are_those_of_the_journal(printed, tmp_path):
    names = ["least squares", "last slope"]
    before = {}
    for method in names:
        run.run(method, printed[::3], tmp_path)
        before[method] = store.stored(method, tmp_path)
    store.pack(names, tmp_path)
    for method in names:
        store.journal(method, tmp_path).unlink()
        new = store.stored(method, tmp_path)
        old = before[method].set_index(["key", "row"])
        new = new.set_index(["key", "row"]).loc[old.index]
        assert set(new.columns) == set(old.columns)
        exact = ["source", "family", "metric", "group", "split", "method", "n_train", "rows", "y", "ratio", "status"]
        for name in [*exact, "seconds", "notes", "rises"]:
            assert new[name].tolist() == old[name].tolist(), name
        np.testing.assert_allclose(new[["crps", "width"]], old[["crps", "width"]], rtol=1e-4)
        np.testing.assert_allclose(new["pit"], old["pit"], atol=1e-4)
        np.testing.assert_allclose(new["log_score"], old["log_score"], atol=1e-3)
        gaps = np.log(new[list(store.LEVELS)]) - np.log(old[list(store.LEVELS)])
        assert (gaps.abs().max(axis=1) < 1e-3 * old["width"] + 2e-6).all()
        for level in (0.5, 0.8, 0.9, 0.95):
            inside = [(rows["pit"] - 0.5).abs() <= 0.5 * level + 1e-12 for rows in (old, new)]
            assert inside[0].equals(inside[1])


def test_a_problem_that_changed_is_another_one(printed, tmp_path):
    changed = dataclasses.replace(printed[0], held=printed[0].held.assign(loss=printed[0].held["loss"] * 1.01))
    run.run("last slope", printed[:3], tmp_path)
    store.pack(["last slope"], tmp_path)
    run.run("least squares", [changed, *printed[1:4]], tmp_path)
    store.pack(["least squares"], tmp_path)
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    key = changed.key
    held = [rows.loc[rows["key"] == key, "y"] for rows in map(stored_in(tmp_path), ("last slope", "least squares"))]
    np.testing.assert_allclose(held[1], 1.01 * held[0], rtol=1e-6)
    assert store.problems(tmp_path)["problem"].nunique() == 5


def stored_in(folder):
    return lambda method: store.stored(method, folder)


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_what_is_no_number_stays_so(value, printed, tmp_path):
    """Quantiles that under- or overflow have no width; what is infinite is no number in a row."""
    problem = printed[0]
    location = np.full((1, len(problem.held)), {0.0: -900.0, np.inf: 900.0}.get(value, np.nan))
    with np.errstate(all="ignore"):
        rows = run.rows_of(problem, "last slope", Prediction(location, np.ones_like(location), "OK", 1.0))
    store.replace(store.journal("last slope", tmp_path), rows)
    old = store.stored("last slope", tmp_path)
    store.pack(["last slope"], tmp_path)
    store.journal("last slope", tmp_path).unlink()
    new = store.stored("last slope", tmp_path)
    for name in (*store.LEVELS, "width"):
        np.testing.assert_array_equal(new[name].astype(float), old[name].astype(float))
    assert new["crps"].isna().tolist() == old["crps"].isna().tolist()


def test_unknown_method(printed, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'last slope'"):
        run.run("last slop", printed[:1], tmp_path)
