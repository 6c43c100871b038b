"""A saved fit answers every question in a fresh process as the one in memory does, to the last bit.

Apart from other tests of files, some of which compile without optimisations, which rounds otherwise. For the same
reason linear algebra has one thread in both processes: tests that ran before may have changed how many a new one has.
"""

import subprocess
import sys

import numpy as np
import pytest
from conftest import FEW
from test_storage import assert_same, runs

import bayescale as bs

QUESTIONS = """
import sys
import numpy as np
import bayescale as bs
from threadpoolctl import threadpool_limits

def answers(posterior):
    with threadpool_limits(limits=1, user_api="blas"):
        return asked(posterior)

def asked(posterior):
    names = posterior.law.inputs
    frame = posterior.runs.frame
    at = {name: 3.0 * float(frame[name].max()) for name in names}
    table = frame[list(names)] * 2.0
    found = {"draws " + name: values for name, values in posterior.draws.items()}
    for kind in ("run", "mean"):
        forecast = posterior.predict(at=at, kind=kind)
        found[kind] = forecast.draws
        found[kind + " quantiles"] = forecast.to_frame().select_dtypes("number").to_numpy()
        found[kind + " table"] = posterior.predict(table, kind=kind).draws
    found["summary"] = posterior.summary().select_dtypes("number").to_numpy(float)
    found["text"] = str(posterior)
    found["check"] = str([str(note) for note in posterior.check(posterior.predict(at=at))])
    target = float(frame["loss"].min()) * 0.99
    found["go"] = str(bs.decide.go(posterior, target, cost=1.0, value=2.0, at=at).to_dict())
    found["next_run"] = str(bs.decide.next_run(posterior, target=target, cost=1.0, value=2.0, at=at).to_dict())
    found["stop"] = str(bs.decide.stop_early(posterior, target, at=at).to_dict())
    plans = {"two": frame[list(names)].head(2) * 1.5}
    found["power"] = str(bs.decide.power(posterior, plans, target=target, at=at).to_dict())
    if len(names) == 1:
        both = {"a": posterior, "b": posterior}
        found["compare"] = str(bs.decide.compare(both, at=at, pairing="independent").to_dict())
    return {name: np.asarray(value) for name, value in found.items()}

if len(sys.argv) > 1:
    for path in sys.argv[1:]:
        np.savez(path + ".npz", **answers(bs.load(path)))
"""


def answered(posterior):
    scope = {}
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        exec(QUESTIONS, scope)
    finally:
        sys.argv = arguments
    return scope["answers"](posterior)


@pytest.fixture(scope="module")
def fits(marin_post):
    """Fits of all kinds: mixtures, one model, importance draws, steps, names of options, orders, checkpoints."""
    plain = {"settings": FEW, "seed": 3}
    weighted = plain | {"method": "importance"}
    one = {"priors": {"terms": bs.Plateaus(plateau="present")}}
    return {
        "mixture": marin_post,
        "steps": bs.fit(runs(("step",), "averaged checkpoints"), **weighted),
        "kind": bs.fit(runs(("kind",), "replicates"), method="nuts", **one, **plain),
        "two": bs.fit(runs(("n_tokens", "n_params"), "plain"), **weighted),
        "options": bs.fit(
            runs(("value", "seed"), "standard errors"), discrepancy=bs.Discrepancy(along="scale"), **plain
        ),
        "student": bs.fit(runs(("level",), "plain"), likelihood="student", discrepancy=None, **plain),
    }


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.oldest
@pytest.mark.filterwarnings("ignore:.*converge")
def test_every_question_has_the_same_answer_in_a_fresh_process(fits, tmp_path):
    paths = {name: tmp_path / f"{name}.nc" for name in fits}
    wanted = {}
    for name, posterior in fits.items():
        posterior.save(paths[name])
        assert_same(posterior, bs.load(paths[name]))
        wanted[name] = answered(posterior)
    command = [sys.executable, "-c", QUESTIONS, *map(str, paths.values())]
    subprocess.run(command, check=True, timeout=500)
    for name, mine in wanted.items():
        with np.load(f"{paths[name]}.npz") as found:
            assert set(found) == set(mine)
            for question, values in mine.items():
                np.testing.assert_array_equal(found[question], values, err_msg=f"{name}: {question}")
