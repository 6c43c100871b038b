"""Folders of runs and lines of trackers become tables of runs."""

import json

import numpy as np
import pandas as pd
import pytest
from test_read import column, law, read, told

import bayescale as bs

TRACKED = [
    {
        "config": {"params": {"total": 10 * n, "active": n}, "tokens": d, "flops": 6.0 * n * d},
        "summary": {"eval/c4/loss": float(law(n, d)), "eval/code/loss": "NaN" if n == 10**7 else 1.5},
    }
    for n, d in ((10**7, 3 * 10**8), (5 * 10**7, 2 * 10**9), (2 * 10**8, 5 * 10**9))
]


def test_nested_lines_with_two_sizes_and_two_losses():
    text = "\n".join(map(json.dumps, TRACKED))
    with pytest.raises(bs.InputError, match=r"'summary.eval/c4/loss', 'summary.eval/code/loss'.*--column loss="):
        read(text)
    runs = read(text, loss="summary.eval/c4/loss")
    assert column(runs, "n_params").tolist() == [1e7, 5e7, 2e8]
    assert "6 N D with this column" in " ".join(told(runs, "recognised"))
    without = [{**row, "config": {k: v for k, v in row["config"].items() if k != "flops"}} for row in TRACKED]
    with pytest.raises(
        bs.InputError, match=r"2 columns may be n_params: 'config.params.total', 'config.params.active'"
    ):
        read(json.dumps(without), loss="summary.eval/c4/loss")


def write_run(folder, name, end, loss):
    steps = np.geomspace(10, end, 8).round()
    frame = pd.DataFrame({"_step": steps, "eval/pile/CrossEntropyLoss": loss + 1 - steps / end, "optim/LR": 1e-4})
    frame.to_csv(folder / f"{name}.csv", index=False)


def test_folder_of_runs_with_scales_in_their_names(tmp_path):
    for size, count in (("60M", 60e6), ("0.2B", 0.2e9)):
        for multiple in (1, 4):
            write_run(tmp_path, f"{size}-{multiple}xC", 1000 * multiple, law(count, 20 * multiple * count))
    runs = bs.read(tmp_path)
    assert sorted(column(runs, "n_tokens")) == [1.2e9, 4e9, 4.8e9, 16e9]
    np.testing.assert_allclose(column(runs, "loss"), law(column(runs, "n_params"), column(runs, "n_tokens")))
    assert "28 earlier checkpoints" in told(runs, "checkpoints")[0]
    everything = bs.read(tmp_path, checkpoints=True, screen="keep")
    assert len(everything) == 32
    first = everything.frame[everything.frame["run"] == "60M-4xC"].iloc[0]
    np.testing.assert_allclose(first["n_tokens"], 4.8e9 * 10 / 4000)
    write_run(tmp_path, "late", 100, 3.0)
    with pytest.raises(bs.InputError, match="not those of late"):
        bs.read(tmp_path)


def test_folder_of_one_file_a_run_with_scales_inside(tmp_path):
    for i in range(3):
        record = {"cfg": {"n_params": 10**7 * (i + 1), "n_tokens": 10**9}, "loss": 3.0 - 0.1 * i}
        (tmp_path / f"run{i}").mkdir()
        (tmp_path / f"run{i}" / "metrics.json").write_text(json.dumps(record))
    runs = bs.read(tmp_path)
    assert list(runs.frame["run"]) == ["run0", "run1", "run2"] and column(runs, "n_params").tolist() == [1e7, 2e7, 3e7]


def test_folder_of_runs_with_settings_beside_their_histories(tmp_path):
    for i in range(3):
        place = tmp_path / f"run{i}"
        place.mkdir()
        (place / "config.json").write_text(json.dumps({"model": {"n_params": 10**7 * (i + 1)}, "tokens": 2 * 10**9}))
        (place / "metrics.jsonl").write_text(
            "".join(f'{{"step": {s}, "val/loss": {3.5 - s / 10 - i / 10}}}\n' for s in range(4))
        )
        (place / "notes.txt").write_text("a note, with a comma\nand a line")
    runs = bs.read(tmp_path)
    assert column(runs, "n_params").tolist() == [1e7, 2e7, 3e7]
    np.testing.assert_allclose(column(runs, "loss"), [3.2, 3.1, 3.0])


def test_a_folder_says_what_was_read_and_what_was_left_aside(tmp_path):
    for number, (size, loss) in enumerate([(1e8, 3.5), (2e8, 3.3), (4e8, 3.1)]):
        (tmp_path / f"run{number}.csv").write_text(f"n_params,n_tokens,loss\n{size},{20 * size},{loss}\n")
    notes = "| n_params | loss |\n| --- | --- |\n| 1e9 | 9.9 |\n| 2e9 | 9.8 |\n"
    (tmp_path / "README.md").write_text(notes)
    (tmp_path / "results.md").write_text(notes)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(notes)
    runs = bs.read(tmp_path)
    assert sorted(runs.frame["loss"]) == [3.1, 3.3, 3.5]
    (entry,) = [entry for entry in runs.log if entry.code == "folder"]
    assert entry.text == (
        "Read 3 files of the folder: run0.csv, run1.csv, run2.csv; not read: README.md, docs/, results.md."
    )


@pytest.mark.parametrize("name", ["results.md", "README.md"])
def test_tables_in_text_are_read_where_a_folder_holds_nothing_else(tmp_path, name):
    (tmp_path / name).write_text(
        "| n_params | n_tokens | loss |\n|---|---|---|\n| 1e9 | 2e10 | 2.9 |\n| 2e9 | 4e10 | 2.8 |\n"
    )
    assert len(bs.read(tmp_path)) == 2


def test_tables_below_a_folder_go_before_text_beside_it(tmp_path):
    (tmp_path / "notes.md").write_text("| n_params | loss |\n|---|---|\n| 1e9 | 9.9 |\n| 2e9 | 9.8 |\n")
    for size in (1e8, 2e8):
        (tmp_path / f"{size:g}").mkdir()
        (tmp_path / f"{size:g}" / "metrics.csv").write_text(
            f"n_params,n_tokens,loss\n{size},{20 * size},{3e8 / size}\n"
        )
    assert sorted(bs.read(tmp_path).frame["n_params"]) == [1e8, 2e8]
