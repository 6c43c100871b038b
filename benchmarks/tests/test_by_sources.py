"""Figures in which every source counts the same, repeated problems, and bands over all held-out runs."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bayescale.evaluate.backtest import LEVELS, QUANTILES
from benchmarks.calibration import by_sources, nested, simultaneous, tally
from benchmarks.core.estimates import cluster_of
from benchmarks.core.problems import Problem


def row(source, family, split, number=0, **changes):
    fixed = {"source": source, "family": family, "metric": "m", "group": "one input", "split": split, "row": number}
    quantiles = {f"q{level:g}": np.exp(level - 0.5) for level in QUANTILES}
    scores = {"y": 1.0, "crps": 1.0, "log_score": 1.0, "width": 0.2, "pit": 0.5, "ratio": 2.0}
    rest = {"method": "bayescale", "n_train": 5, "seconds": 1.0, "status": "OK", "notes": ""}
    key = "|".join((source, family, "m", changes.get("group", "one input"), split))
    return {**fixed, **quantiles, **scores, **rest, "key": key, **changes}


# --- Repeated problems ---------------------------------------------------------------------------------------


def kept(rows):
    return sorted(tally.distinct(pd.DataFrame(rows))["key"].unique())


def test_a_problem_under_two_names_counts_once_and_the_same_one_for_every_method():
    largest, near = row("coverage", "a", "largest"), row("coverage", "a", "R=2")
    assert kept([largest, near]) == kept([near, largest]) == [near["key"]]
    # Another method was scored in another order.
    other = [{**near, "method": "last slope"}, {**largest, "method": "last slope"}]
    found = tally.distinct(pd.DataFrame([largest, near, *other]))
    assert found.groupby("method")["key"].agg(list).tolist() == [[near["key"]], [near["key"]]]
    # A curve that a second source published again.
    assert len(kept([near, row("sloth", "b", "R=2")])) == 1
    assert len(kept([near, row("sloth", "b", "R=2", y=1.0001)])) == 2
    assert len(kept([near, row("sloth", "b", "R=2", n_train=6)])) == 2


def test_problems_that_only_look_alike_stay():
    # Coarse errors of LCDB agree by chance; small designs differ in the runs that they fit.
    assert (
        len(kept([row("lcdb even", "2/a", "half", group="lcdb"), row("lcdb even", "2/b", "half", group="lcdb")])) == 2
    )
    designs = [row("overtrain", "a", f"design {k}", group="small design") for k in (1, 2)]
    assert len(kept(designs)) == 2
    assert len(kept([row("coverage", "a", "R=2"), row("coverage", "a", "R=4", group="known errors")])) == 2
    halves = [row("coverage", "a", "half", number, y=float(number + 1)) for number in range(2)]
    assert len(kept([*halves, row("coverage", "a", "R=2")])) == 2


# --- Every source alike --------------------------------------------------------------------------------------


def test_every_source_counts_the_same():
    # One source has ten families that all hold, the other a single one that never does.
    rows = [row("coverage", f"f{i}", "R=2", y=1 + 0.01 * i) for i in range(10)] + [row("sloth", "g", "R=2", pit=0.999)]
    cells = tally.cells(pd.DataFrame(rows))
    found = by_sources.errors(by_sources.covers(cells))
    assert [error.value for error in found] == pytest.approx([0.5 * (1 - level + level) for level in LEVELS])
    assert all(np.isnan(error.low) for error in found), "two sources are too few to resample"


def simulated_rows(sources, per_source, runs, shared, seed=0):
    """Held-out runs of a calibrated forecaster: problems of one family each, runs that depend on each other."""
    rng = np.random.default_rng(seed)
    rows = []
    for s in range(sources):
        for f in range(per_source):
            z = np.sqrt(shared) * rng.standard_normal() + np.sqrt(1 - shared) * rng.standard_normal(runs)
            pits = 0.5 + 0.5 * norm.cdf(z)
            rows += [row(f"s{s}", f"f{f}", "R=2", i, pit=pit, y=rng.random()) for i, pit in enumerate(pits)]
    table = pd.DataFrame(rows)
    return table.assign(cluster=cluster_of(table), family_id=table["source"] + "|" + table["family"])


def test_chance_is_what_a_calibrated_forecaster_shows():
    tables = [simulated_rows(4, 12, 6, 0.6, seed) for seed in range(40)]
    shown = []
    for table in tables:
        covers = by_sources.covers(tally.cells(table))
        shown.append([error.value for error in by_sources.errors(covers)])
    # Three of them together tell the dependence well.
    many = [
        table.assign(**{name: f"{number} " + table[name] for name in ("source", "key", "family_id", "cluster")})
        for number, table in enumerate(tables[:3])
    ]
    found = by_sources.chance(pd.concat(many, ignore_index=True))
    np.testing.assert_allclose(found.errors.mean(0), np.mean(shown, axis=0), rtol=0.25)
    # Without dependence chance has less to give.
    apart = by_sources.chance(simulated_rows(12, 12, 6, 0.0))
    assert (apart.errors.mean(0) < 0.8 * found.errors.mean(0)).all()


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_latent_correlations_give_the_binary_ones(level):
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(40_000)
    cut = norm.ppf(level)
    inside = [np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.standard_normal(40_000) <= cut for _ in range(2)]
    assert by_sources.latent(np.corrcoef(inside)[0, 1], level) == pytest.approx(0.6, abs=0.03)


def test_sources_are_ahead_within_or_behind():
    def both(source, ours, rival, count):
        return [
            {**row(source, f"f{i}", "R=2", y=1 + 0.01 * i, crps=value), "method": method}
            for method, value in (("bayescale", ours), ("last slope", rival))
            for i in range(count)
        ]

    rows = [*both("coverage", 1.0, 2.0, 8), *both("sloth", 2.0, 1.0, 8), *both("routing", 2.0, 1.0, 3)]
    found = by_sources.against_best(tally.cells(pd.DataFrame(rows)), "bayescale", ["last slope"]).set_index("source")
    assert found["order"].to_dict() == {"coverage": "ahead", "sloth": "behind", "routing": "within the error"}
    assert found["ratio"]["coverage"].value == 0.5
    assert "ahead in 1, within the error in 1 and behind in 1 of 3" in by_sources.counts(found)


def test_scores_on_the_scale_of_the_response_have_its_unit():
    near, far = row("coverage", "a", "R=2"), row("coverage", "a", "R=2", y=2.0)
    scores = tally.own_scale(pd.DataFrame([near, far]))
    assert scores[0] < 0.2 * scores[1]
    tens = {name: 10 * near[name] for name in near if name == "y" or name.startswith("q0")}
    assert tally.own_scale(pd.DataFrame([{**near, **tens}]))[0] == pytest.approx(10 * scores[0])
    # A point forecast is charged its distance.
    sharp = {name: 3.0 for name in near if name.startswith("q0")}
    assert tally.own_scale(pd.DataFrame([{**near, **sharp}]))[0] == pytest.approx(2.0)
    assert tally.own_scale(pd.DataFrame([{**near, "q0.975": np.nan}]))[0] == tally.LARGEST


# --- All held-out runs at once -------------------------------------------------------------------------------


def test_bands_of_the_true_distribution_hold_what_they_state():
    rng = np.random.default_rng(1)
    factor = np.linalg.cholesky(0.7 * np.ones((5, 5)) + 0.3 * np.eye(5))
    found = [
        simultaneous.level_of(factor @ rng.normal(size=5), rng.normal(size=(600, 5)) @ factor.T) for _ in range(1500)
    ]
    band, widest = np.array(found).T
    for level in LEVELS:
        assert (band <= level).mean() == pytest.approx(level, abs=0.04)
    assert (widest <= 0.8).mean() < 0.6, "five intervals of 80 % hold together less often"
    # Draws that know nothing of each other make a band too wide for runs that rise and fall together.
    apart = [simultaneous.level_of(factor @ rng.normal(size=5), rng.normal(size=(600, 5)))[0] for _ in range(800)]
    assert (np.array(apart) <= 0.8).mean() > 0.83


def test_the_subsample_spreads_over_families_and_groups():
    def problem(family, split):
        table = pd.DataFrame({"flops": [1.0, 2.0], "loss": 1.0})
        return Problem("coverage", family, "m", "one input", split, ("flops",), table, table)

    everything = [problem(f"f{i}", split) for i in range(40) for split in ("half", "R=2", "R=4")]
    chosen = simultaneous.suited(everything)
    assert len(chosen) == simultaneous.MOST
    assert len({one.family for one in chosen}) == simultaneous.MOST
    assert {one.split for one in chosen} == {"half", "R=2", "R=4"}
    few = simultaneous.suited(everything[:6])
    assert {one.key for one in few} == {one.key for one in everything[:6]}


# --- Nested choices ------------------------------------------------------------------------------------------


def test_each_source_is_forecast_with_what_the_others_choose():
    def scored(candidate, source, crps):
        return {"candidate": candidate, "source": source, "crps": crps, "log_score": 0.0}

    # One is best on the first source only, by so much that all sources together choose it.
    table = pd.DataFrame(
        [scored("one", "a", 0.01), scored("one", "b", 1.1), scored("one", "c", 1.1)]
        + [scored("two", source, 1.0) for source in "abc"]
    )
    assert nested.choose(table) == "one"
    found = nested.nested(table).set_index("source")["candidate"]
    assert found.to_dict() == {"a": "two", "b": "one", "c": "one"}


def test_a_mixture_takes_components_by_weight():
    parts = {shape: (np.full((400, 2), place), np.ones((400, 2))) for place, shape in enumerate(["present", "absent"])}
    parts["power"] = (np.full((400, 2), 2.0), np.ones((400, 2)))
    halves, quarters = (next(c for c in nested.CANDIDATES if c.weights == weights) for weights in nested.MIXTURES[:2])
    for candidate, counts in ((halves, [200, 200, 0]), (quarters, [200, 100, 100])):
        location, scale = nested.mixed(candidate, parts)
        assert [int((location[:, 0] == place).sum()) for place in range(3)] == counts
        assert location.shape == scale.shape
