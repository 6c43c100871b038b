"""Metrics: scores are of the right forecasts, and the table divides by the fit alone."""

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from benchmarks.calibration import metrics
from benchmarks.core.rows import store


def forecast(location, scale):
    shape = (200, len(location))
    spread = np.broadcast_to(scale, shape)
    points = pd.DataFrame({"flops": np.ones(len(location))})
    draws = np.broadcast_to(location, shape)
    return bs.Forecast(points, "run", draws, spread, draws[None], np.ones(len(location)))


def test_scores_of_several_forecasts_are_of_their_own_points():
    y = np.exp(np.array([0.1, 0.2, 0.9]))
    together = metrics.score(y, [forecast(np.array([0.1, 0.2, 0.3]), 0.1)])
    apart = metrics.score(y, [forecast(np.array([mean]), 0.1) for mean in (0.1, 0.2, 0.3)])
    assert together["crps"] == pytest.approx(apart["crps"]) and together["inside"] == apart["inside"]
    assert together["inside"] == pytest.approx([2 / 3] * 3)
    assert together["width"] == pytest.approx(2 * 0.1 * 1.2816, rel=1e-3)


def test_a_study_has_the_runs_with_all_metrics():
    rows = [(1e8, 1e9, m, loss) for m, loss in (("a", 3.0), ("b", 2.0))] + [(2e8, 1e9, "a", 2.8)]
    table = pd.DataFrame(rows, columns=["n_params", "n_tokens", "metric", "loss"]).assign(flops=1e18)
    found = metrics.study("source", "family", table)
    assert found.metrics == ("a", "b") and len(found.rows) == 1


def test_the_table_divides_by_the_fit_alone(tmp_path):
    way = {"crps": 0.02, "inside": [0.5, 0.8, 1.0], "width": 0.1}
    row = {"source": "s", "ratio": 3.0, "held": 4, "alone": way, "joint": way, "given": way | {"crps": 0.01}}
    table = metrics.summary_of([row, row | {"held": 8}]).set_index("way")
    assert table.loc["given", "CRPS / alone"] == pytest.approx(0.5)
    assert table.loc["joint", "CRPS / alone"] == pytest.approx(1.0)
    assert table.loc["given", "forecasts"] == 12
    store([row], tmp_path / "metrics.json")
    assert "| s | 3x | given | 4 | 0.50 |" in metrics.told(tmp_path / "metrics.json")
