"""Forecasts of simulated rewards."""

import numpy as np

from benchmarks.calibration import values


def test_simulated_rewards_are_reproducible_and_summed_up():
    first, again = (list(values.simulated(3)) for _ in range(2))
    assert [question.source for question in first] == list(values.SHAPES)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.measured, other.measured)
        assert one.runs.value is not None
        assert one.at.min() > one.runs.frame["flops"].max()
    assert not np.array_equal(first[0].measured, next(values.simulated(3, seed=1)).measured)


def test_rows_become_coverage(monkeypatch):
    question = next(values.simulated(3))
    monkeypatch.setattr(values, "simulated", lambda: [question])
    rows = values.measure(("simulated",))
    assert len(rows) == 3
    table = values.summary(rows)
    assert list(table["ahead"]) == [2.0, 4.0, 10.0]
    assert (table["curves"] == 1).all()
    assert ((table["in 50 %"] <= table["in 80 %"]) & (table["in 80 %"] <= table["in 95 %"])).all()
