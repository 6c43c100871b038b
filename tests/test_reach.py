"""At which size or budget a target is met."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import call

import bayescale as bs
from bayescale.decide.reach import first_met


def test_first_crossings_are_interpolated_and_ends_are_atoms():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    losses = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 0.5, 0.4, 0.3], [9.0, 8.0, 7.0, 6.0], [4.0, 2.0, 3.0, 1.0]])
    found = first_met(x, -losses, 2.5, False)
    np.testing.assert_allclose(found, [1.5, -np.inf, np.inf, 0.75])
    np.testing.assert_allclose(first_met(x, losses[:1, ::-1] / 10, 0.25, True), [1.5])


@pytest.fixture(scope="module")
def exact():
    """A fit to nearly exact losses of a power law, without discrepancy."""
    flops = np.geomspace(1e18, 1e20, 8)
    noise = 0.001 * np.random.default_rng(0).standard_normal(8)
    frame = pd.DataFrame({"flops": flops, "loss": 3.0 * (flops / 1e18) ** -0.1 * np.exp(noise)})
    return bs.fit(bs.Runs.from_frame(frame), law="power", discrepancy=None, seed=0)


@pytest.mark.slow
def test_a_known_law_meets_its_target_where_it_does(exact):
    target = 3.0 * 1e4**-0.1
    found = bs.decide.reach(exact, target)
    assert found.quantile(0.5) == pytest.approx(1e22, rel=0.15)
    assert found.probability_by(2e22) > 0.9 > 0.1 > found.probability_by(5e21)
    assert found.p_never == found.p_already == 0.0
    # The probability that the curve is below the target at the median of the answer is one half.
    there = exact.predict(flops=found.quantile(0.5), kind="mean")
    assert there.probability_below(target)[0] == pytest.approx(0.5, abs=0.05)
    assert bs.decide.reach(exact, 2.9).quantile(0.5) < 2e18
    far = bs.decide.reach(exact, target, upto=1e21)
    assert far.p_never == 1.0
    assert "beyond 1e+21" in far.text
    assert far.to_dict()["q0.5"] is None
    with pytest.raises(bs.InputError, match="has no input 'flop'"):
        bs.decide.reach(exact, target, input="flop")
    with pytest.raises(bs.InputError, match="larger than the smallest flops"):
        bs.decide.reach(exact, target, upto=1e17)


@pytest.mark.slow
def test_the_verb_says_the_same(exact, tmp_path, capsys):
    exact.save(tmp_path / "fit.nc")
    call("reach", str(tmp_path / "fit.nc"), "--target", "1.2", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["q0.5"] == pytest.approx(bs.decide.reach(exact, 1.2).quantile(0.5))
