"""The decision benchmark: distribution functions from stored quantiles, regret, rules that keep to their budget."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri

from bayescale.evaluate.backtest import QUANTILES
from benchmarks.core.store import RESULTS, read_rows
from benchmarks.decisions import page as decisions
from benchmarks.decisions import pilots as pilot_choices


def test_stored_quantiles_give_the_distribution_back():
    center, spread = np.log(2.5), 0.03
    ends = center + spread * ndtri(np.array(QUANTILES))
    at = center + spread * np.array([-4.0, -1.3, 0.0, 0.4, 3.0])
    np.testing.assert_allclose(decisions.distribution(ends, at), ndtr((at - center) / spread), atol=1e-6)


def test_a_forecast_without_width_is_a_step():
    ends = np.full(len(QUANTILES), np.log(2.0))
    assert decisions.distribution(ends, np.log([1.9, 2.1])).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_regret_of_every_outcome():
    chance = np.array([0.9, 0.9, 0.1, 0.1])
    met = np.array([True, False, True, False])
    # Cost .25, value 1: a missed run loses its cost, a run not made that would have met loses the rest of the value.
    assert decisions.regret(chance, met, 0.25).tolist() == [0.0, 0.25, 0.75, 0.0]


def test_a_sure_forecaster_has_no_regret_and_a_random_one_half():
    rng = np.random.default_rng(0)
    met = rng.random((4000, 5)) < 0.5
    base = pd.DataFrame({"source": "s", "family": np.arange(4000).astype(str), "cluster": np.arange(4000).astype(str)})
    found = decisions.Decisions(base, met, {"sure": met.astype(float), "flat": np.full(met.shape, 0.5)})
    assert found.by_family(found.regret("sure", 0.5)).value == 0.0
    assert found.by_family(found.regret("flat", 0.5)).value == pytest.approx(0.25, abs=0.01)
    steps = decisions.fifths(found, "flat").dropna()
    assert steps["realised"].tolist() == pytest.approx([0.5], abs=0.02)


def test_rules_keep_to_their_budget():
    offers = pd.DataFrame({"cost": [5.0, 4.0, 3.0, 2.0, 1.0]})
    bought = pilot_choices.fill(9.5, offers, lambda bought: offers["cost"].to_numpy())
    assert bought == [0, 1]
    assert pilot_choices.fill(0.5, offers, lambda bought: offers["cost"].to_numpy()) == []


def test_the_page_says_what_the_results_say():
    page = decisions.PAGE.read_text(encoding="utf-8")
    rows = read_rows(RESULTS / "pilot_choices.parquet")
    assert f"{len({row['key'] for row in rows})} starts" in page
    table = decisions.pilot_table(RESULTS / "pilot_choices.parquet")
    assert f"{table[table['rule'] == 'largest']['spent'].mean():.2f}"[1:] in page
    found = decisions.collect()
    assert f"{found.met.size:,} decisions on {len(found.base):,} problems" in page
    assert decisions.PAGE.with_name("decisions-chance.png").exists()
