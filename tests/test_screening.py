import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import with_job

import bayescale as bs
from bayescale.data.log import LogEntry
from bayescale.data.neighbours import AFTER, SMALLEST, clear_of_neighbours, distances
from bayescale.data.outliers import find_outliers
from bayescale.data.screening import screen
from bayescale.errors import InputError


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis(range(1, len(table) + 1), axis=0)


def loss(n: np.ndarray, d: np.ndarray, noise: float = 0.002, seed: int = 0) -> np.ndarray:
    clean = 1.7 + 400.0 * n**-0.34 + 410.0 * d**-0.28
    return clean * np.exp(noise * np.random.default_rng(seed).normal(size=len(n)))


def ladder(rows: int = 8, seed: int = 0) -> pd.DataFrame:
    n = np.geomspace(5e7, 2e9, rows)
    return numbered(pd.DataFrame({"n_params": n, "n_tokens": 20.0 * n, "loss": loss(n, 20.0 * n, seed=seed)}))


def grid(seed: int = 0) -> pd.DataFrame:
    n, d = (side.ravel() for side in np.meshgrid(np.geomspace(5e7, 2e9, 5), np.geomspace(1e9, 1e11, 5)))
    return numbered(pd.DataFrame({"n_params": n, "n_tokens": d, "loss": loss(n, d, seed=seed)}))


def codes(log: tuple[LogEntry, ...]) -> list[str]:
    return [entry.code for entry in log]


def rows_of(log: tuple[LogEntry, ...], code: str) -> list[int]:
    return sorted(row for entry in log if entry.code == code for row in entry.rows)


BOTH = ("n_params", "n_tokens")


# --- Clean tables are left alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [grid, ladder])
def test_clean_tables_pass(make, seed):
    table = make(seed=seed)
    rows, log = screen(table, BOTH)
    pd.testing.assert_frame_equal(rows, table)
    assert log == ()


def test_plateaus_and_noisy_error_rates_pass():
    named = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.geomspace(16, 1e5, 24)
        error = (0.08 + 0.4 / (1 + (x / 300) ** 0.7)) * np.exp(0.04 * rng.normal(size=24))
        named += len(
            rows_of(screen(numbered(pd.DataFrame({"n_samples": x, "loss": error})), ("n_samples",))[1], "diverged")
        )
    assert named <= 4, "at most 1 % of 480 rows"


def test_few_points_pass_unless_gross():
    table = ladder(4)
    table.loc[3, "loss"] *= 1.05
    assert codes(screen(table, BOTH)[1]) == []
    table.loc[3, "loss"] *= 3.0
    assert rows_of(screen(table, BOTH)[1], "diverged") == [3]


def test_valley_of_a_setting_is_no_failure():
    n, rate = (side.ravel() for side in np.meshgrid([1e8, 3e8, 9e8], np.geomspace(3e-4, 1e-2, 7), indexing="ij"))
    values = loss(n, 20 * n) * np.exp(0.03 * np.log(rate / 4e-3) ** 2)
    table = numbered(pd.DataFrame({"n_params": n, "n_tokens": 20 * n, "lr": rate, "loss": values}))
    assert "diverged" not in codes(screen(table, BOTH)[1])


# --- Failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.05, 1.3, 2.0, 5.0])
@pytest.mark.parametrize("row", [7, 13, 19, 25])
def test_failure_in_a_grid_is_named(row, factor):
    table = grid(seed=row)
    table.loc[row, "loss"] *= factor
    rows, log = screen(table, BOTH)
    assert rows_of(log, "diverged") == [row]
    assert row not in rows.index
    assert f"row {row}" in log[0].text


def test_failures_do_not_hide_one_another():
    table = grid()
    bad = [4, 9, 14, 20, 22]
    table.loc[bad, "loss"] *= [1.4, 1.5, 2.0, 4.0, 3.0]
    assert rows_of(screen(table, BOTH)[1], "diverged") == bad


def test_uniform_guessing_is_told():
    table = ladder(10)
    table.loc[6, "loss"] = round(np.log(50257), 2)
    rows, log = screen(table, BOTH)
    assert rows_of(log, "diverged") == [6]
    assert "ln 50,257" in log[0].text and len(rows) == 9


def test_value_of_ln_vocabulary_alone_is_no_failure():
    # A loss that happens to be ln of a vocabulary, where the other runs lie as high.
    x = np.geomspace(1e4, 1e6, 9)
    table = numbered(pd.DataFrame({"n_tokens": x, "loss": np.log(32000) * (x / x[4]) ** -0.02}))
    assert codes(screen(table, ("n_tokens",))[1]) == []


def test_replicates_say_what_noise_is():
    n = np.repeat(np.geomspace(5e7, 2e9, 5), 3)
    quiet = numbered(pd.DataFrame({"n_params": n, "loss": loss(n, 20 * n, 0.001)}))
    quiet.loc[8, "loss"] *= 1.02
    assert rows_of(screen(quiet, ("n_params",))[1], "diverged") == [8]
    noisy = numbered(pd.DataFrame({"n_params": n, "loss": loss(n, 20 * n, 0.02)}))
    noisy.loc[8, "loss"] *= 1.02
    assert codes(screen(noisy, ("n_params",))[1]) == []


def test_families_are_screened_apart():
    one, other = ladder(8).assign(family="one"), ladder(8).assign(family="other")
    other["loss"] *= 1.3
    table = numbered(pd.concat([one, other]))
    assert codes(screen(table, BOTH)[1]) == []
    table.loc[12, "loss"] *= 1.4
    log = screen(table, BOTH)[1]
    assert rows_of(log, "diverged") == [12] and "of other" in log[0].text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_losses(value):
    table = ladder()
    table.loc[[2, 5], "loss"] = value
    rows, log = screen(table, BOTH)
    assert rows_of(log, "missing_loss") == [2, 5]
    assert "rows 2, 5 have no" in log[0].text and list(rows.index) == [1, 3, 4, 6, 7, 8]


def test_missing_input():
    table = ladder()
    table.loc[4, "n_tokens"] = np.nan
    rows, log = screen(table, BOTH)
    assert codes(log) == ["missing_input"] and 4 not in rows.index


def test_kept_on_request():
    table = ladder(10).assign(status=["finished"] * 9 + ["CRASHED"])
    table.loc[5, "loss"] *= 2
    rows, log = screen(table, BOTH, keep=True)
    pd.testing.assert_frame_equal(rows, table)
    assert codes(log) == ["unfinished", "diverged"] and all("kept, as requested" in entry.text for entry in log)


def test_nothing_left_is_said():
    with pytest.raises(InputError, match=r"No row is left of 8.*status 'running'.*--screen keep"):
        screen(ladder().assign(status="running"), BOTH)


def test_many_rows_are_dealt_out():
    x = np.geomspace(1e3, 1e7, 1000)
    rng = np.random.default_rng(0)
    y = np.log(2.0 + 30.0 * x**-0.3) + 0.01 * rng.normal(size=1000)
    y[500] += 0.5
    assert np.flatnonzero(find_outliers(np.log(x)[:, None], y).named).tolist() == [500]


# --- Curves of one input ---------------------------------------------------------------------------------------


def cliff(rows: int = 24, seed: int = 0, noise: float = 0.003) -> pd.DataFrame:
    """A curve that stays level, falls within few rows, and stays level again, as those of error rates often do."""
    x = np.geomspace(16, 1e5, rows)
    clean = 0.1 + 0.9 / (1 + (x / 300) ** 3)
    noisy = clean * np.exp(noise * np.random.default_rng(seed).normal(size=rows))
    return numbered(pd.DataFrame({"n_samples": x, "loss": noisy}))


def diverged(table: pd.DataFrame) -> list[int]:
    return rows_of(screen(table, ("n_samples",))[1], "diverged")


@pytest.mark.parametrize("rows", [12, 16, 24, 48])
def test_cliffs_are_no_failures(rows):
    assert sum(len(diverged(cliff(rows, seed))) for seed in range(10)) <= rows * 10 // 100


@pytest.mark.parametrize("row", [19, 20, 22, 24])
def test_small_failures_beside_a_cliff_are_named(row):
    found = 0
    for seed in range(5):
        table = cliff(seed=seed)
        table.loc[row, "loss"] *= 1.06
        found += row in diverged(table)
    assert found >= 4


def test_failures_beside_one_another_are_named():
    table = ladder(16)
    table.loc[[7, 8, 12], "loss"] *= [1.1, 1.3, 1.06]
    assert rows_of(screen(table, BOTH)[1], "diverged") == [7, 8, 12]


@pytest.mark.parametrize(("row", "factor"), [(1, 1.3), (10, 1.06)])
def test_failures_at_the_ends_are_named(row, factor):
    found = 0
    for seed in range(5):
        table = ladder(10, seed)
        table.loc[row, "loss"] *= factor
        found += rows_of(screen(table, ("n_params",))[1], "diverged") == [row]
    assert found >= 4


def test_start_that_falls_steeply_is_no_failure():
    x = np.geomspace(1e3, 1e7, 20)
    for seed in range(5):
        noise = 0.003 * np.random.default_rng(seed).normal(size=20)
        start = np.r_[1.6, 1.2, 0.7, 0.25, np.zeros(16)]
        table = numbered(pd.DataFrame({"n_samples": x, "loss": np.exp(start + noise) * (1 + x**-0.2)}))
        assert len(diverged(table)) <= 1
        # One row that failed there is.
        table.loc[1, "loss"] *= 20.0
        assert 1 in diverged(table)


def test_ray_is_one_curve():
    table = ladder(12)
    table.loc[1, "loss"] *= 1.2
    one, both = (screen(table, inputs)[1] for inputs in (("n_params",), BOTH))
    assert rows_of(one, "diverged") == rows_of(both, "diverged") == [1]


def test_rise_is_no_failure_but_a_bump_is():
    n = np.geomspace(1e7, 1e10, 14)
    for seed in range(5):
        noise = np.exp(0.005 * np.random.default_rng(seed).normal(size=14))
        table = numbered(pd.DataFrame({"n_params": n, "loss": (0.9 - 0.6 * (n / 1e7) ** -0.2) * noise}))
        assert "diverged" not in codes(screen(table, ("n_params",))[1])
        jump = table.assign(loss=table["loss"] * np.r_[np.ones(12), 1.6, 1.7])
        assert "diverged" not in codes(screen(jump, ("n_params",))[1])
        table.loc[6, "loss"] *= 3.0
        assert rows_of(screen(table, ("n_params",))[1], "diverged") == [6]


def test_distances_from_the_line_through_neighbours():
    x = np.arange(8.0)
    y = 3.0 - x + 0.1 * (x == 4) + 0.2 * (x == 7)
    own, relative = distances(x, y, np.zeros(8, bool))
    assert np.isnan(own[[0, 7]]).all() and np.isnan(relative[[0, 7]]).all()
    np.testing.assert_allclose(own[[2, 4]], [0.0, 0.1 / np.sqrt(1.5)], atol=1e-12)
    # Without row 4 the others lie on a line, but for the last one, which moves the line at row 6 by .1.
    np.testing.assert_allclose(relative[4], own[4] / (np.sqrt((0.1**2 / 1.5) / 5) + SMALLEST))
    after, _ = distances(x, y, np.zeros(8, bool), AFTER)
    np.testing.assert_allclose(after[7], 0.2 / np.sqrt(6.0))
    aside = clear_of_neighbours(x, 3.0 - x + 0.1 * (x == 4), np.zeros(8, bool))
    np.testing.assert_array_equal(np.flatnonzero(aside), [4])


# --- Unfinished runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["running", "Crashed", "FAILED", "killed", "preempted", "queued", "failed (OOM)"])
def test_status_words(word):
    table = ladder().assign(status="finished")
    table.loc[3, "status"] = word
    rows, log = screen(table, BOTH)
    assert rows_of(log, "unfinished") == [3] and 3 not in rows.index


@pytest.mark.parametrize("word", ["done", "Finished", "completed", "SUCCESS", "", None, "—", "finished (1 crash)"[:8]])
def test_statuses_that_are_fine(word):
    table = ladder().assign(status="finished")
    table.loc[3, "status"] = word
    rows, log = screen(table, BOTH)
    assert len(rows) == 8 and log == ()


def test_unknown_status_is_told():
    log = screen(ladder().assign(status=["finished"] * 7 + ["zombie"]), BOTH)[1]
    assert codes(log) == ["unknown_status"] and rows_of(log, "unknown_status") == [8]


@pytest.mark.parametrize(
    ("note", "fine"),
    [
        ("(partial)", False),
        ("crashed at step 9k", False),
        ("rerun, never crashed", True),
        ("not failed", True),
        ("A100", True),
    ],
)
def test_notes(note, fine):
    log = screen(ladder().assign(note=["", "", "", "", note, "", "", ""]), BOTH)[1]
    assert rows_of(log, "unfinished") == ([] if fine else [5])


def test_short_of_plan():
    table = ladder().assign(planned_tokens=lambda rows: rows["n_tokens"])
    table.loc[6, "planned_tokens"] *= 1.5
    table.loc[7, "planned_tokens"] *= 1.01
    log = screen(table, BOTH)[1]
    assert rows_of(log, "short_of_plan") == [6] and "67%" in log[0].text


def checkpoints(ends: list[float]) -> pd.DataFrame:
    parts = []
    for size, end in zip(np.geomspace(1e8, 1e9, len(ends)), ends, strict=True):
        d = end * np.array([0.25, 0.5, 1.0])
        parts.append(
            pd.DataFrame({"run": f"{size:.3g}", "n_params": size, "n_tokens": d, "loss": loss(size + 0 * d, d)})
        )
    return numbered(pd.concat(parts))


def test_checkpoints_of_unequal_schedules():
    log = screen(checkpoints([2e9, 4e9, 8e9, 1.6e10]), BOTH)[1]
    assert rows_of(log, "checkpoint") == [1, 2, 4, 5, 7, 8, 10, 11]
    assert codes(screen(checkpoints([8e9] * 4), BOTH)[1]) == []


def test_checkpoints_among_finished_runs():
    table = checkpoints([8e9] * 4).drop(index=[4, 5, 7, 8, 10, 11])
    rows, log = screen(table, BOTH)
    assert rows_of(log, "checkpoint") == [1, 2] and len(rows) == 4


def test_curves_are_not_taken_apart():
    one = checkpoints([8e9])
    assert len(screen(one, ("n_tokens",))[0]) == 3
    two = checkpoints([8e9, 4e9])
    rows, log = screen(two, BOTH)
    assert len(rows) == 6 and codes(log) == ["checkpoint"] and log[0].severity == "warning"


# --- Repeated rows --------------------------------------------------------------------------------------------


def test_copies_are_dropped():
    table = ladder(6).assign(lr=0.01)
    table = numbered(pd.concat([table, table.loc[[2]]]))
    rows, log = screen(table, BOTH)
    assert rows_of(log, "duplicate") == [7] and "row 7 repeats row 2" in log[0].text and len(rows) == 6


def test_equal_coarse_losses_are_replicates():
    n = np.repeat(np.geomspace(1e8, 1e9, 4), 2)
    table = numbered(pd.DataFrame({"n_params": n, "loss": np.round(loss(n, 20 * n, 0.0), 2)}))
    rows, log = screen(table, ("n_params",))
    assert len(rows) == 8 and codes(log) == ["duplicate"] and log[0].severity == "warning"


def test_resumed_runs_count_once():
    table = ladder(8).assign(run=[f"r{i}" for i in range(8)])
    again = table.loc[[3]].assign(loss=lambda rows: rows["loss"] * 0.999)
    rows, log = screen(numbered(pd.concat([table, again])), BOTH)
    assert rows_of(log, "repeated_run") == [3] and 9 in rows.index and len(rows) == 8


# --- Warnings -------------------------------------------------------------------------------------------------


def test_gap_between_losses_that_grows():
    table = ladder(6)
    grown = table.assign(train_loss=table["loss"] / np.linspace(1.0, 1.12, 6))
    log = screen(grown, BOTH)[1]
    assert codes(log) == ["repeated_or_leaking"] and "1.000 to 1.120" in log[0].text
    assert codes(screen(table.assign(train_loss=table["loss"] * 1.01), BOTH)[1]) == []


def test_confound_along_the_only_axis():
    flops, ratio = np.geomspace(1e18, 1e20, 6), np.geomspace(10, 80, 6)
    table = numbered(pd.DataFrame({"flops": flops, "loss": 2 + 20 * flops**-0.07}))
    log = screen(table.assign(tokens_per_param=ratio), ("flops",))[1]
    assert codes(log) == ["confounded"] and "a factor 8" in log[0].text and log[0].columns == ("tokens_per_param",)
    sized = table.assign(n_params=np.sqrt(flops / 6 / ratio), n_tokens=np.sqrt(flops / 6 * ratio))
    assert codes(screen(sized, ("flops",))[1]) == ["confounded"]
    # Both axes are in the fit, or the ratio stands still.
    assert codes(screen(sized, BOTH)[1]) == []
    assert codes(screen(ladder(), ("n_params",))[1]) == []


def test_learning_rate_that_falls_with_scale():
    table = ladder().assign(lr=lambda rows: 0.01 * (rows["n_params"] / 5e7) ** -0.5)
    log = screen(table, ("n_params",))[1]
    assert codes(log) == ["confounded"] and log[0].text.startswith("lr goes from 0.01 to")


@pytest.mark.parametrize("top", [1.0, 100.0])
def test_scores_are_told(top):
    n = np.geomspace(1e8, 1e10, 7)
    table = numbered(pd.DataFrame({"n_params": n, "loss": top * (0.9 - 0.6 * (n / 1e8) ** -0.2)}))
    log = screen(table, ("n_params",))[1]
    assert codes(log) == ["score"] and "(--derive error_rate" in log[0].text
    assert ("--unit loss=%" in log[0].text) == (top > 1)


def test_humps_are_told():
    table = pd.DataFrame({"n_params": [2e7, 6e7, 2e8, 5e8, 1e9, 3e9], "loss": [0.43, 0.48, 0.47, 0.44, 0.39, 0.37]})
    rows, log = screen(numbered(table), ("n_params",))
    assert codes(log) == ["hump"] and len(rows) == 6


def test_tables_without_scales_pass():
    table = numbered(
        pd.DataFrame({"family": ["a"] * 4 + ["b"] * 4, "seed": [0, 1, 2, 3] * 2, "loss": np.linspace(3.1, 3.2, 8)})
    )
    rows, log = screen(table, ())
    assert len(rows) == 8 and log == ()


# --- Where people read it -------------------------------------------------------------------------------------


def test_page_and_check_tell_the_log(marin_post):
    log = (
        LogEntry("recognised", "info", "loss is val/loss."),
        LogEntry("diverged", "excluded", "row 4 has loss 11.8: left out.", (4,)),
        LogEntry("confounded", "warning", "lr moves with flops.", (), ("lr",)),
    )
    posterior = with_job(marin_post, runs=dataclasses.replace(marin_post.runs, log=log))
    (part,) = [part for part in bs.report(posterior).appendix if part.title == "Rows left out and warnings"]
    assert part.notes == ["excluded: row 4 has loss 11.8: left out.", "warning: lr moves with flops."]
    assert part.sentences[0].endswith(": 1.")
    assert [str(note) for note in posterior.check() if note.code == "confounded"] == ["warning: lr moves with flops."]
    assert not [part for part in bs.report(marin_post).appendix if part.title == "Rows left out and warnings"]


def test_rows_that_are_kept_are_not_called_excluded():
    table = ladder().assign(status=["done"] * 7 + ["running"])
    for keep, severity in ((True, "warning"), (False, "excluded")):
        rows, log = screen(table, ("n_params", "n_tokens"), keep=keep)
        (entry,) = [entry for entry in log if entry.code == "unfinished"]
        assert (len(rows), entry.severity) == (8 if keep else 7, severity)


def test_rows_that_no_fit_can_use_are_never_kept():
    table = ladder(10).assign(status=["finished"] * 9 + ["CRASHED"])
    table.loc[5, "loss"] = np.nan
    rows, log = screen(table, BOTH, keep=True)
    assert list(rows.index) == [1, 2, 3, 4, *range(6, 11)]
    assert [(entry.code, entry.severity) for entry in log] == [("unfinished", "warning"), ("missing_loss", "excluded")]
    assert log[1].text.endswith("no loss: left out.")
    (crashed, gone) = screen(table, BOTH)[1]
    # What one row is told of is one row, and no option is offered that would change nothing.
    assert "keeps it)" in crashed.text and "keep" not in gone.text
    with pytest.raises(InputError, match=r"No row is left of 10: .*left out\.$"):
        screen(ladder(10).assign(loss=np.nan), BOTH, keep=True)


def test_the_best_run_of_an_accuracy_that_was_read_as_a_loss_stays():
    table = pd.DataFrame({"n_params": [1e8, 3e8, 1e9, 3e9, 7e9], "accuracy": [0.256, 0.342, 0.468, 0.736, 0.812]})
    runs = bs.read(table)
    assert len(runs) == 5 and "score" in {entry.code for entry in runs.log}
