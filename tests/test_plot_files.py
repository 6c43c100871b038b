"""Pictures become whole files, and numbers and labels of pictures short and apart."""

import os

import numpy as np
import pytest
from matplotlib import pyplot
from test_plot import headless, table, toy  # noqa: F401

from bayescale import plot
from bayescale.errors import InputError
from bayescale.plot import style


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_save_writes_whole_files_and_nothing_else(tmp_path, ending):
    path = tmp_path / f"picture.{ending}"
    assert plot.save(plot.reliability(table()), path) == path
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.stat().st_size > 1000


def test_saved_size(tmp_path):
    path = plot.save(plot.forecast(toy()), tmp_path / "picture.png")
    assert pyplot.imread(path).shape[:2] == (800, 1200)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_text("old")
    ax = plot.reliability(table())

    def fail(part, **options):
        part.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(ax.figure, "savefig", fail)
    with pytest.raises(InputError, match="disk full"):
        plot.save(ax, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["picture.png"]


@pytest.mark.parametrize("name", ["picture.pgn", "picture"])
def test_save_names_formats(tmp_path, name):
    with pytest.raises(InputError, match="png"):
        plot.save(plot.forecast(toy()), tmp_path / name)


def test_labels_are_moved_apart_in_order():
    heights = style.apart([0.1, 0.11, 0.12, 0.5, 0.9], 0.05)
    assert np.diff(heights).min() >= 0.05 - 1e-12
    assert heights[1] == pytest.approx(0.11)
    assert heights[3:] == [0.5, 0.9]


def test_numbers_are_short():
    assert [style.short(v) for v in (333.3, 2.51, 1.3e10, 0.0005, 1e23, 12.0)] == [
        "330", "2.5", "1.3e10", "5e-4", "1e23", "12",
    ]  # fmt: skip
    assert style.short(1.25e8, 3) == "1.25e8"
    assert [style.percent(p) for p in (0.0, 0.004, 0.37, 0.995, 1.0)] == [
        "< 0.1 %", "0.4 %", "37 %", "99.5 %", "> 99.9 %",
    ]  # fmt: skip
