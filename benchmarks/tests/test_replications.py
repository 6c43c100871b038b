"""The page about replications follows from stored rows, and rows from fits."""

import json

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.data.design import reduce_runs
from benchmarks.replications import measure as replications
from benchmarks.replications import page as replications_page
from benchmarks.replications.data import FITTED, UNSEEN, WARMUP, above, schedule, scheduled_law, thin
from benchmarks.replications.entries import entries


def row(kind, middle, cover):
    """A stored row of the Chinchilla entry: every constant `middle` times the published one, give or take 5 %."""
    known = entries()["chinchilla"].sources[0].constants()
    constants = {name: [middle * value, 0.95 * middle * value, 1.05 * middle * value] for name, value in known.items()}
    quality = {"rows": 50, "converged": 1, "fits": 1, "rhat": 1.001, "divergences": 0}
    forecast = {"rows": 2, "coverage": {"0.5": 0.5, "0.8": 0.5, "0.9": cover, "0.95": 1.0}, "error": 0.0123}
    forecast |= {"bias": 0.0, "absolute": 0.0345, "width": 0.0567}
    forecast["points"] = [[1e20, 1e21], [0.01, -0.01], [-0.02, -0.02], [0.02, 0.02]]
    spreads = {"residual_sd": [0.01, 0.008, 0.012]} | ({"discrepancy": [0.1, 0.05, 0.2]} if kind == "on" else {})
    found = {"constants": constants, "spreads": spreads, "full": quality, "early": quality, "forecast": forecast}
    return {"entry": "chinchilla", "kind": kind, **found, "published": 0.0078, "seconds": 1.0}


def test_page_says_what_rows_say(tmp_path):
    path, page = tmp_path / "rows.json", tmp_path / "page.md"
    replications.store([row("off", 1.01, 0.5), row("on", 0.3, 1.0)], path)
    written = replications_page.write(path, page)
    assert written == [page, tmp_path / "page-chinchilla.png"] and all(p.exists() for p in written)
    text = page.read_text()
    low, high = (1.01 * 0.34781 * edge for edge in (0.95, 1.05))
    assert f"{1.01 * 0.34781:.3g} ({low:.3g} to {high:.3g})" in text
    assert "5 of 5 / 0 of 5" in text and "50 % / 100 %" in text and "1.2 % / 1.2 % / 0.78 %" in text
    assert (
        "With discrepancy off, all 5 constants agree." in text
        and "With discrepancy on, none of the 5 constants agrees." in text
    )
    assert "mean absolute error 0.035" in text and "Not converged" not in text
    assert "Fine-tuning" in text.split("Not measured:")[1]


def test_page_names_fits_that_did_not_converge(tmp_path):
    bad = row("off", 1.0, 0.5)
    bad["full"] = bad["full"] | {"converged": 0, "rhat": 1.2}
    replications.store([bad], tmp_path / "rows.json")
    replications_page.write(tmp_path / "rows.json", tmp_path / "page.md")
    assert (
        "the fit of the constants with discrepancy off (R-hat 1.200, 0 divergences)"
        in (tmp_path / "page.md").read_text()
    )


def test_committed_page_follows_from_committed_rows(tmp_path):
    replications_page.write(page=tmp_path / replications_page.PAGE.name)
    assert (tmp_path / replications_page.PAGE.name).read_text() == replications_page.PAGE.read_text()


def test_constants_of_the_page_are_verified():
    for entry in entries().values():
        for source in entry.sources:
            verified = {found.key: found.verified for found in bs.LAWS[source.law].info.published}
            assert verified[source.key] in replications_page.KNOWN
            assert source.constants()


def test_failed_rows_are_tried_again(tmp_path):
    path = tmp_path / "rows.json"
    failed = {"entry": "shapes", "kind": "off", "failed": "ValueError: no"}
    replications.store([failed, row("off", 1.0, 0.5)], path)
    rows = replications.stored(path)
    assert replications.missing("shapes", "off", rows) and not replications.missing("chinchilla", "off", rows)
    assert json.loads(path.read_text())["rows"][0] == failed
    assert list(replications_page.by_entry(rows)) == ["chinchilla"]


@pytest.mark.slow
def test_streams_are_recovered_from_made_up_runs():
    entry = entries()["streams-pile"]
    known = entry.sources[0].constants()
    sizes, streams = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e8, 5e9, 8), [1.0, 2.0, 4.0, 8.0]))
    noise = np.exp(0.0005 * np.random.default_rng(0).standard_normal(len(sizes)))
    loss = bs.LAWS["parallel_streams"](sizes, streams, **known) * noise
    table = pd.DataFrame({"n_params": sizes, "p_streams": streams, "loss": loss, "held": sizes > 2e9})
    found = replications.measure(entry, "off", table)
    inside, outside = replications_page.agreeing(entry, found)
    assert "k" in inside and len(outside) <= 1
    assert found["full"]["rows"] == 32 and found["forecast"]["rows"] == table["held"].sum()
    assert found["forecast"]["error"] < 0.01 and 0 < found["published"] < 0.002


@pytest.mark.parametrize("name", [*FITTED, *UNSEEN])
def test_schedules(name):
    rates = schedule(name)
    lengths = {"wsdcon": 16_000}
    assert len(rates) == lengths.get(name.split("_")[0], int(name.split("_")[-1]))
    assert rates[0] == 0.0 and rates[WARMUP] == pytest.approx(3e-4)
    assert (np.diff(rates[WARMUP:]) <= 0).all() and rates[-1] >= 3e-5


def test_law_of_schedules():
    law = scheduled_law()
    constants = entries()["schedules-400M"].sources[0].constants()
    assert "nine_schedules" not in bs.LAWS
    # A constant rate, then the same with a cosine's lower sum and its drops.
    assert law(2.0, 20_000.0, **constants) < law(1.0, 20_000.0, **constants)
    # Where two schedules have the same rate at the same step, they are in one place for the discrepancy.
    number, step = np.array([1.0, 4.0, 2.0, 6.0]), np.array([2e4, 2e4, 23_999.0, 23_999.0])
    place = np.exp(law.referred([1.0, 1.0]).coordinates(np.log([number, step]).T))
    np.testing.assert_allclose(place[:, 0], step)
    np.testing.assert_allclose(place[:, 1], [3e-4, 3e-4, 3e-5, 3e-5], rtol=0.1)


def test_rows_are_chosen_alike_every_time():
    table = pd.DataFrame({"n_params": np.geomspace(1e6, 1e9, 300), "n_tokens": 1e9})
    assert thin(table).equals(thin(table)) and len(thin(table)) == 100 and len(thin(table.head(7))) == 7
    assert above(table, 10.0)["held"].sum() == 100


def test_checkpoints_of_a_curve_share_a_seed_where_the_entry_says_so():
    law, steps = bs.laws.get("multi_power"), np.geomspace(3e3, 2e4, 4)
    table = pd.DataFrame({"schedule": np.repeat([1.0, 2.0], 4), "step": np.tile(steps, 2)})
    table = table.assign(loss=3.0 - 0.1 * np.log(table["step"]), run=np.repeat(["a", "b"], 4))
    apart, shared = (reduce_runs(replications.runs_of(table, law, "x", checkpoints=on)) for on in (False, True))
    np.testing.assert_array_equal(apart.shared, np.eye(8))
    np.testing.assert_array_equal(shared.shared, np.kron(np.eye(2), np.ones((4, 4))))
