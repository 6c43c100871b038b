"""Simulation-based calibration of every law and of wrong models: its table, and the rows under it."""

import numpy as np
import pandas as pd
import pytest
from conftest import FEW

import bayescale as bs
from bayescale.evaluate import sbc
from benchmarks.calibration import page as report
from benchmarks.simulated import drawn
from benchmarks.simulated import sbc as sbc_laws


def test_table_of_laws_says_what_rows_say(tmp_path):
    path, page = tmp_path / "sbc.json", tmp_path / "page.md"
    plain = {"long": False, "discrepancy": True, "simulations": 60, "outside": [], "converged": 0.95, "seconds": 1.0}
    bad = {"law": "chinchilla", "p": {"level": 0.0003, "likelihood": 0.6}}
    rows = [{**plain, "law": "power", "p": {"level": 0.2, "log_fall": 0.04}}, {**plain, **bad, "outside": ["level"]}]
    sbc_laws.store(rows, path)
    assert sbc_laws.stored(path) == rows
    text = sbc_laws.section(path)
    assert "| `power` | 0.04 of 2 (log_fall) | none | 95 % |" in text
    assert "| `chinchilla` | 0.0003 of 2 (level) | level | 95 % |" in text
    assert "`gadre`" in text.split("Not simulated:")[1].split("\n")[0]
    # Longer chains take the place of short ones.
    sbc_laws.store([*rows, {**rows[1], "long": True, "outside": [], "p": {"level": 0.3}}], path)
    assert "`chinchilla` (long) | 0.3 of 1 (level) | none |" in sbc_laws.section(path)
    # The defaults have a table of their own, above.
    case = {"case": "one input", "right": True, "simulations": 500, "outside": ["level"], "converged": 0.99}
    sbc_laws.store([*rows, {**case, "seconds": 1.0, "p": {"level": 0.0002}}], path)
    text = sbc_laws.section(path)
    assert "500 data sets" in text
    assert "| one input | 0.0002 of 1 (level) | level | 99 % |" in text.split("every law")[0]
    page.write_text(f"before\n\n{report.marked('old', 'simulated')}\n\nafter\n")
    report.renew(page, text, "simulated")
    assert page.read_text() == f"before\n\n{report.marked(text, 'simulated')}\n\nafter\n"


def test_committed_table_follows_from_committed_rows():
    _, rest = report.PAGE.read_text().split("<!-- simulated:begin -->\n")
    assert rest.split("\n<!-- simulated:end -->")[0] == sbc_laws.section()


def test_table_of_drawn_families_says_what_rows_say(tmp_path):
    assert drawn.section(tmp_path / "none.json") == ""
    inside = {"0.3": [0.5, 0.8, 0.95], "2": [0.44, 0.8, 0.95], "10": [0.5, 0.82, 0.95]}
    drawn.store([{"case": "ladder, 8 runs", "simulations": 50, "converged": 1.0} | inside], tmp_path / "rows.json")
    text = drawn.section(tmp_path / "rows.json")
    assert "| ladder, 8 runs | 50 | 0.500/0.800/0.950 | 0.440/0.800/0.950 | 0.500/0.820/0.950 | 100 % |" in text
    assert "nominal coverage is 6 points, and 8 of 9 fractions" in " ".join(text.split())


@pytest.mark.slow
def test_intervals_of_a_wrong_model_miss_runs_drawn_from_the_right_one(monkeypatch):
    case = drawn.Case("plateau_power", 8, simulations=40, input_name="n_samples")
    right = drawn.row_of(case)
    assert all(abs(share - 0.8) < 0.2 for share in (right["0.3"][1], right["2"][1], right["10"][1]))
    run = bs.sbc.run
    monkeypatch.setattr(bs.sbc, "run", lambda *a, **k: run(*a, true_discrepancy=bs.Discrepancy(median=2.0), **k))
    assert drawn.row_of(case)["2"][1] < right["2"][1] - 0.1


@pytest.mark.slow
def test_law_is_simulated():
    row = sbc_laws.simulate("leverage", False, simulations=3)
    assert row["simulations"] == 3 and 0 <= row["converged"] <= 1
    # An input that cannot grow has its forecast at the largest run.
    assert "forecast at 1x" in row["p"] and "likelihood" in row["p"]


@pytest.mark.slow
def test_case_is_calibrated():
    name = "wrong: a sampler that explores two thirds of the width"
    before = sbc.results_of
    row = sbc_laws.calibrated(name, simulations=5)
    assert row["case"] == name and not row["right"] and row["simulations"] == 5
    assert sbc.results_of is before


@pytest.mark.long
@pytest.mark.slow
def test_biased_sampler_is_noticed():
    curve = bs.Runs.from_frame(pd.DataFrame({"flops": 1e18 * 3.0 ** np.arange(8), "loss": np.linspace(3.5, 2.7, 8)}))
    with sbc_laws.narrowed(0.66):
        table = sbc.run(curve, simulations=150, seed=1, progress=False, settings=FEW).summary()
    assert table["outside"].any()
