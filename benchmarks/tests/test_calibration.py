"""The calibration page: its numbers are those of the rows."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayescale import corpus
from bayescale.errors import InputError
from benchmarks.calibration import headline, sections, tally
from benchmarks.calibration import page as report
from benchmarks.core import estimates, figures, run, sources, store
from benchmarks.core.sources import SOURCES, problems
from benchmarks.tests.conftest import lines, no_leak

ROOT = Path(__file__).parents[2]
CHEAP = ("least squares", "gaussian process", "last slope")

BEGIN, END = "<!-- calibration:begin -->", "<!-- calibration:end -->"


@pytest.fixture(scope="module")
def results(printed, tmp_path_factory):
    """Rows of cheap methods on the built-in curves."""
    folder = tmp_path_factory.mktemp("results")
    for method in CHEAP:
        run.run(method, printed[::2], folder)
    return folder


def by_hand(rows, measure):
    """Mean over families of the mean over a family's problems of the mean over rows, in plain loops."""
    cells = {}
    for row in rows:
        cells.setdefault((row["source"], row["family"]), {}).setdefault(row["key"], []).append(measure(row))
    return np.mean([np.mean([np.mean(values) for values in family.values()]) for family in cells.values()])


def brief(value):
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def table_under(text, title, first):
    """Cells of the table line that begins with `first`, after a title."""
    part = text[text.index(title) :]
    (line,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", part, re.MULTILINE)[:1]
    return [cell.strip() for cell in line.split("|")]


def kept(rows):
    """Rows of problems that repeat no other."""
    keys = set(tally.distinct(pd.DataFrame(rows))["key"])
    return [row for row in rows if row["key"] in keys]


def test_page_shows_what_the_rows_say(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    written = report.write(results, tmp_path / "calibration.md", readme, None, ours="least squares")
    text = (tmp_path / "calibration.md").read_text()
    rows = kept(lines(results / "least-squares.jsonl"))

    inside = {0.5: ("q0.25", "q0.75"), 0.8: ("q0.1", "q0.9"), 0.9: ("q0.05", "q0.95"), 0.95: ("q0.025", "q0.975")}
    for title, split in (("one input, 2x beyond the data", "R=2"), ("one input, the largest run", "largest")):
        own = [row for row in rows if row["split"] == split]
        shown = table_under(text, "## Coverage and scores", title)
        assert shown[0] == str(len({row["family"] for row in own}))
        covers = [by_hand(own, lambda r, e=ends: r[e[0]] <= r["y"] <= r[e[1]]) for ends in inside.values()]
        assert [cell.split()[0] for cell in shown[1:5]] == [brief(c) for c in covers]
        low, high = (float(x) for x in re.search(r"\((\S+) to (\S+)\)", shown[1]).groups())
        assert low <= covers[0] <= high
        off = {level: c - level for level, c in zip(inside, covers, strict=True)}
        missed = {f"{100 * level:g}" for level, gap in off.items() if abs(gap) > (0.06 if level == 0.5 else 0.03)}
        assert set(re.findall(r"(\d+) \([+-]", shown[5])) == missed
        assert (shown[5] == "met") == (not missed)
        scored = table_under(text[text.index("| mean PIT |") :], "", title)
        assert scored[1].split()[0] == brief(by_hand(own, lambda r: r["pit"]))
        assert scored[2].split()[0] == brief(100 * by_hand(own, lambda r: r["crps"]))

    # The CRPS of both methods, as a geometric mean over families.
    rival = kept(lines(results / "last-slope.jsonl"))
    rows, rival = ([row for row in some if row["group"] == "one input"] for some in (rows, rival))
    logs = [
        np.log(by_hand([r for r in rows if r["family"] == f], lambda r: r["crps"]))
        - np.log(by_hand([r for r in rival if r["family"] == f], lambda r: r["crps"]))
        for f in dict.fromkeys(row["family"] for row in rows)
    ]
    shown = table_under(text, "### CRPS of the default", "last slope")
    assert shown[0].split()[0] == brief(np.exp(np.mean(logs)))

    assert text.startswith("# Calibration")
    assert "[What was tried](choices.md)" in text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    pictures = re.findall(r"\]\((calibration-\S+\.png)\)", text)
    assert len(pictures) == 5
    assert {path.name for path in written} == {"calibration.md", "README.md", *pictures}
    assert all(3_000 < (tmp_path / name).stat().st_size <= figures.LARGEST for name in pictures)
    new = readme.read_text()
    assert new.startswith(f"before\n{BEGIN}\n")
    assert new.endswith(f"{END}\nafter\n")
    own = [row for row in kept(lines(results / "least-squares.jsonl")) if row["split"] == "R=2"]
    share = by_hand(own, lambda row: row["q0.025"] <= row["y"] <= row["q0.975"])
    assert re.search(rf"least squares contained {100 * share:.0f}\b", new)
    assert "old" not in new


def test_page_needs_results_and_markers(results, tmp_path):
    with pytest.raises(InputError, match="no results"):
        report.write(tmp_path, tmp_path / "page.md", None, None)
    with pytest.raises(InputError, match="no results of 'bayescale'"):
        report.write(results, tmp_path / "page.md", None, None)
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(InputError, match="needs the comments"):
        report.renew(tmp_path / "README.md", "table")
    assert (ROOT / "README.md").read_text().count(BEGIN) == 1


def test_method_of_some_problems_stands_apart(results, tmp_path):
    for name in ("least-squares", "last-slope"):
        (tmp_path / f"{name}.jsonl").write_text((results / f"{name}.jsonl").read_text())
    before = tally.common(tally.cells(tally.load(tmp_path)))
    few = [{**row, "method": "M4 by NUTS"} for row in lines(results / "last-slope.jsonl") if row["split"] == "R=2"]
    (tmp_path / "M4-by-NUTS.jsonl").write_text("".join(json.dumps(row) + "\n" for row in few))
    cells = tally.cells(tally.load(tmp_path))
    # Comparisons of all methods do not shrink to its problems; it is compared on its own ones.
    assert len(tally.common(cells)) == len(before)
    text = sections.sometimes(cells, "last slope")
    assert f"{len({row['key'] for row in few})} problems" in text
    assert "one input: 1.00 (1.00 to 1.00)" in text
    assert sections.sometimes(cells[cells["method"] != "M4 by NUTS"], "last slope") == ""


def test_every_family_counts_the_same():
    def row(family, key, pit, number):
        fixed = {"source": "coverage", "metric": "m", "group": "one input", "split": key, "method": "last slope"}
        scores = {"y": 1.0, "q0.5": 1.0, "q0.025": 0.9, "q0.975": 1.1, "crps": 1.0, "log_score": -99.0, "width": 0.2}
        rest = {"n_train": 5, "seconds": 1.0, "ratio": 2.0, "status": "OK", "notes": "far,not_monotone"}
        return {"key": f"{family}{key}", "family": family, "row": number, "pit": pit, **fixed, **scores, **rest}

    # One family has many rows that are all inside, the other a single one outside.
    rows = [row("a", "R=2", 0.5, i) for i in range(30)] + [row("a", "R=4", 0.99, 0), row("b", "R=2", 0.99, 0)]
    cells = tally.cells(pd.DataFrame(rows))
    table = tally.families(cells)
    assert table["cover80"].tolist() == [0.5, 0.0]
    found = tally.measured(table, "cover80")
    assert (found.value, found.low, found.high, found.families) == (0.25, 0.0, 0.5, 2)
    assert set(cells["log_score"]) == {tally.FLOOR}
    assert cells["flagged"].all()


def test_infinite_scores_are_not_skipped():
    def row(family, number, **changes):
        fixed = {"source": "coverage", "metric": "m", "group": "one input", "split": "R=2", "method": "last slope"}
        scores = {"y": 1.0, "q0.5": 1.0, "q0.025": 0.9, "q0.975": 1.1, "crps": 1.0, "log_score": 1.0, "width": 0.2}
        rest = {"n_train": 5, "seconds": 1.0, "ratio": 2.0, "status": "OK", "notes": "", "pit": 0.5}
        return {"key": family, "family": family, "row": number, **fixed, **scores, **rest, **changes}

    bad = {"crps": None, "log_score": None, "width": None, "pit": None, "q0.5": None}
    rows = [row("a", 0), row("a", 1, **bad), row("b", 0), row("b", 1)]
    table = tally.families(tally.cells(pd.DataFrame(rows)))
    assert table["crps"].tolist() == [np.inf, 1.0]
    assert table["rmsle"].tolist() == [np.inf, 0.0]
    assert table["log_score"].tolist() == [0.5 * (1 + tally.FLOOR), 1.0]
    assert table["cover80"].tolist() == [0.5, 1.0]
    assert np.isinf(tally.measured(table, "crps").value)
    assert np.isfinite(tally.measured(table.iloc[1:], "width").high)


def scored(method, family, crps, source="coverage"):
    """A row of a family of one problem with a CRPS."""
    fixed = {"source": source, "metric": "m", "group": "one input", "split": "R=2", "row": 0}
    scores = {"y": 1.0, "q0.5": 1.0, "q0.025": 0.9, "q0.975": 1.1, "log_score": 1.0, "width": 0.2, "pit": 0.5}
    rest = {"n_train": 5, "seconds": 1.0, "ratio": 2.0, "status": "OK", "notes": "", "key": family}
    return {"method": method, "family": family, "crps": crps, **fixed, **scores, **rest}


def test_ratios_of_crps_as_geometric_mean_and_of_means():
    # An easy family, where ours is ten times as far off, and a hard one, where it is half as far off.
    ours = [scored("bayescale", "easy", 0.01), scored("bayescale", "hard", 0.5)]
    cells = tally.cells(pd.DataFrame([*ours, scored("last slope", "easy", 0.001), scored("last slope", "hard", 1.0)]))
    geometric = tally.ratio(cells, "bayescale", "last slope")
    means = tally.ratio_of_means(cells, "bayescale", "last slope")
    assert geometric.value == pytest.approx(np.sqrt(10 * 0.5))
    assert (geometric.low, geometric.high) == (pytest.approx(0.5), pytest.approx(10))
    assert means.value == pytest.approx(0.51 / 1.001)
    assert (means.low, means.high, means.families) == (pytest.approx(0.5), pytest.approx(10), 2)


def test_a_source_is_lost_beyond_chance_if_families_agree_and_are_not_few():
    # Of ten families one decides; of ten all agree; of three all agree; and one source is won.
    ours = {"one decides": [0.1] * 9 + [3.0], "all agree": [0.2] * 10, "few": [0.2] * 3, "won": [0.1] * 10}
    rival = {"one decides": [0.2] * 10, "all agree": [0.1] * 10, "few": [0.1] * 3, "won": [0.2] * 10}
    rows = [
        scored(method, f"{source}{number}", crps, source)
        for method, of in (("bayescale", ours), ("last slope", rival))
        for source, values in of.items()
        for number, crps in enumerate(values)
    ]
    table = tally.cells(pd.DataFrame(rows))
    told = sections.behind(table, sections.lowest(table, ["bayescale", "last slope"]), "bayescale")
    assert "all agree, compared with last slope, 2.00 (2.00 to 2.00)" in told
    assert "few, compared with last slope, 2.00" in told
    assert "one decides, compared with last slope, 1.95" in told
    assert "won" not in told
    assert "Chance does not explain the difference in 1 of these 3 data sets" in told
    won = table[table["source"] == "won"]
    assert not sections.behind(won, sections.lowest(won, ["bayescale", "last slope"]), "bayescale")


def test_lcdb_curves_of_one_data_set_are_drawn_together():
    values = np.repeat([0.0, 1.0], 50)
    apart = estimates.estimate(values, [str(i) for i in range(100)])
    together = estimates.estimate(values, np.repeat(["a", "b"], 50))
    assert apart.value == together.value == 0.5
    assert apart.high - apart.low < 0.3
    assert (together.low, together.high) == (0.0, 1.0)
    frame = pd.DataFrame({"source": ["lcdb odd", "lcdb odd", "sloth"], "family": ["3/SVC", "3/tree", "3/x"]})
    assert estimates.cluster_of(frame).tolist() == ["lcdb odd|3", "lcdb odd|3", "sloth|3/x"]


def test_medians_of_widths_are_resampled_too():
    rng = np.random.default_rng(1)
    values = rng.lognormal(size=200)
    found = estimates.estimate(values, np.arange(200), "median")
    assert found.value == np.median(values)
    picks = rng.integers(200, size=(4000, 200))
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=0.06)


def test_an_aim_is_the_less_in_reach_the_more_families_differ_wherever_they_lie():
    """Around the stated levels, not around what was found: a constant gap changes nothing, spread and few do."""
    line, clusters = tally.LINES[0], [f"family {i}" for i in range(100)]

    def chance(inside, count):
        return tally.within_reach(
            line, pd.DataFrame(dict.fromkeys(tally.COVERS, inside), index=range(count)).assign(cluster=clusters[:count])
        )

    half = np.tile([0.0, 1.0], 50)
    assert chance(np.full(100, 0.3), 100) == 1.0
    # All four are the same here: half of the families inside, so a mean of 100 has a standard error of .05.
    assert chance(half, 100) == pytest.approx(0.45, abs=0.08), "P(|normal| < .03 / .05)"
    assert chance(half[:10], 10) < chance(half, 100)
    assert chance(0.1 * half, 100) == 1.0


def test_a_mean_pit_is_the_nearer_the_middle_the_more_families_agree():
    table = pd.DataFrame({"pit": np.tile([0.0, 0.4], 50), "cluster": [f"family {i}" for i in range(100)]})
    centred = lambda families: tally.within(families, "pit", sections.CENTRED).mean()  # noqa: E731
    assert centred(table) == 1.0
    # Ten such families have a mean with a standard error of .063, three one of .12.
    assert centred(table[:10]) == pytest.approx(0.89, abs=0.06), "P(|normal| < .1 / .063)"
    assert centred(table[:3]) < centred(table[:10])


# --- The whole benchmark, a few problems a source ------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.skipif(not os.environ.get("BAYESCALE_CORPUS"), reason="needs the downloaded corpus: set BAYESCALE_CORPUS")
def test_stratified_small_version(tmp_path, monkeypatch):
    # LCDB comes with an extra, and has as many problems as all others together: a few of its curves will do.
    monkeypatch.setattr(sources, "LCDB_CURVES", 60)
    names = [name for name in SOURCES if name != "lcdb" or corpus.state("lcdb") != "not installed"]
    everything = problems(names)
    keys = [problem.key for problem in everything]
    assert len(set(keys)) == len(keys)
    # Where the largest model is left out, smaller ones may have had more compute, so scales overlap there only.
    no_leak(everything[::20])
    strata = {}
    for problem in everything:
        strata.setdefault((problem.source, problem.group), []).append(problem)
    assert len({source for source, _ in strata} - {"double_descent", "repeated data"}) >= 14
    chosen = [problem for stratum in strata.values() for problem in stratum[:: max(1, len(stratum) - 1)]]
    for method in CHEAP[1:]:
        path = run.run(method, chosen, tmp_path)
        assert {row["key"] for row in lines(path)} == {problem.key for problem in chosen}
    few = [problem for problem in chosen if len(problem.inputs) == 1 and len(problem.train) <= 16][::24]
    run.run("bayescale", few, tmp_path)
    rows = store.stored("bayescale", tmp_path)
    assert set(rows["key"]) == {problem.key for problem in few}
    assert rows["pit"].between(0, 1).all() and np.isfinite(rows["crps"]).all()
    written = report.write(tmp_path, tmp_path / "calibration.md", None, None)
    assert (tmp_path / "calibration.md").stat().st_size > 3000
    assert len(written) >= 4


@pytest.mark.slow
def test_readme_and_its_picture_show_the_committed_record(tmp_path):
    rows = tally.load(store.RESULTS)
    rows = rows.assign(cluster=estimates.cluster_of(rows))
    cells = tally.cells(rows)
    text = headline.text(cells, rows, tally.OURS)
    assert text.strip() in (ROOT / "README.md").read_text("utf-8")
    case = headline.case(rows, tally.OURS)
    assert case.loc["least squares", "q0.025"] > case.loc["least squares", "y"]
    assert case.loc[tally.OURS, "q0.025"] < case.loc[tally.OURS, "y"] < case.loc[tally.OURS, "q0.975"]
    path = figures.save(headline.picture(cells, rows, tally.OURS)[0], tmp_path / "headline.png")
    assert 3_000 < path.stat().st_size <= figures.LARGEST
