"""The command `python -m benchmarks`."""

import json
import sys
from unittest import mock

import pytest

from benchmarks import __main__ as command
from benchmarks.core import run, store
from benchmarks.core.methods import METHODS
from benchmarks.core.sources import SOURCES


def call(*arguments):
    """Run the command in this process; return its exit code."""
    with mock.patch.object(sys, "argv", ["benchmarks", *map(str, arguments)]), pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code or 0


def test_command(tmp_path, capsys):
    arguments = ("run", "--method", "last slope", "--source", "printed figures", "--every", 40, "--out", tmp_path)
    assert call(*arguments, "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["problems"] == 5
    assert out["written"] == [str(tmp_path / "last-slope.jsonl")]
    assert call("pack", "--results", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == [str(tmp_path / "last-slope.parquet")]
    assert call("list", "--json") == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["method"] for card in cards["methods"]] == list(METHODS)
    assert cards["sources"] == list(SOURCES)
    for wrong in (
        ("run", "--method", "nuts"),
        ("run", "--source", "printed"),
        ("pages", "calibration", "--results", tmp_path),
    ):
        assert call(*wrong) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1


def test_interrupted_command_says_so(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    assert call("run", "--method", "last slope", "--source", "printed figures", "--out", tmp_path) == 130
    assert capsys.readouterr().err.strip().endswith("benchmarks: Interrupted; every file is complete or as it was.")


def test_a_missing_package_is_named_with_its_extra(monkeypatch, capsys):
    def without(*arguments):
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(store, "pack", without)
    assert call("pack") == 2
    assert capsys.readouterr().err == (
        "benchmarks: This needs pyarrow, which is not installed. Run pip install -e '.[test]'.\n"
    )


def test_results_and_files_stay_small():
    files = list(store.RESULTS.iterdir())
    assert sum(path.stat().st_size for path in files if path.suffix != ".jsonl") < 1e7
    code = [path for path in store.RESULTS.parent.rglob("*.py") if len(path.read_text().splitlines()) > 500]
    assert files and not code
