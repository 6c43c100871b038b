"""The command: exit codes, one sentence for bad input, nothing written, one JSON object."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import call

import bayescale as bs
from bayescale.inference import diagnostics

HEADER = "flops,loss\n"
GOOD = "flops,loss\n1e18,3.522\n3e18,3.339\n1e19,3.154\n3e19,3.000\n1e20,2.848\n3e20,2.725\n"


BAD = {
    "empty": b"",
    "header": HEADER.encode(),
    "missing": b"flops,steps\n1e18,3\n1e19,2\n",
    "no input": b"colour,loss\n1,3\n2,2\n",
    "text": b"flops,loss\n1e18,three\n1e19,2\n",
    "zero": b"flops,loss\n0,3\n1e19,2\n",
    "nan": b"flops,loss\n1e18,nan\n1e19,2\n",
    "infinity": b"flops,loss\n1e18,inf\n1e19,2\n",
    "negative": b"flops,loss\n1e18,-3\n1e19,2\n",
    "billions": b"n_params,loss\n0.07,3\n0.4,2\n",
    "one row": b"flops,loss\n1e18,3\n",
    "all equal": b"flops,loss\n1e18,3\n1e18,2\n1e18,2.5\n",
    "binary": bytes(range(256)) * 4,
    "endless": b"flops," + 200_000 * b"x" + b"\n1e18,3\n",
    "doubled": b"flops,loss,loss\n1e18,3,3\n1e19,2,2\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_end_with_one_sentence(name, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_bytes(BAD[name])
    assert call("fit", path, "--out", tmp_path / "fit.nc") == 2
    out, err = capsys.readouterr()
    assert out == ""
    # What was recognised before a fit is refused is told too.
    (sentence,) = [line for line in err.splitlines() if not line.startswith("info: Recognised")]
    assert sentence.startswith("bayescale: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.csv"]


def test_bad_paths_and_names(tmp_path, capsys):
    good = tmp_path / "good.csv"
    good.write_text(GOOD)
    (empty := tmp_path / "empty").mkdir()
    foreign = tmp_path / "foreign.nc"
    foreign.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    cases = [
        (("fit", empty), "folder"),
        (("fit", tmp_path / "absent.csv"), "does not exist"),
        (("fit", good, "--law", "saturating_powr"), "saturating_power"),
        (("fit", good, "--column", "loss"), "ours=theirs"),
        (("fit", good, "--out", tmp_path / "nowhere" / "fit.nc"), "existing folder"),
        (("fit", good, "--discrepancy", "some"), "auto or none"),
        (("predict", foreign, "--at", "flops=1e22"), "cannot be read as netCDF"),
        (("predict", tmp_path / "absent.nc", "--at", "flops=1e22"), "absent"),
        (("predict", foreign, "--at", "flops=many"), "numbers"),
        (("predict", foreign, "--at", "flops=1e21,flops=1e22"), "repeat the option"),
        (("predict", foreign, "--at", "flops=1e22", "--levels", "80"), "probabilities"),
        (("backtest", good), "Say what to hold out"),
        (("laws", "chinchila"), "chinchilla"),
        (("corpus", "show", "cerebras_gtp"), "cerebras_gpt"),
    ]
    for arguments, fragment in cases:
        assert call(*arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert out == "", arguments
        assert fragment in err, (arguments, err)
        assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "foreign.nc", "good.csv"]


def test_laws_lists_every_law(capsys):
    assert call("laws", "--json") == 0
    names = {card["name"] for card in json.loads(capsys.readouterr().out)["laws"]}
    assert {"power", "saturating_power", "shifted_power", "chinchilla", "chinchilla_outer"} <= names


def test_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "bayescale", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "backtest" in done.stdout


@pytest.mark.slow
@pytest.mark.oldest
def test_fit_then_predict(tmp_path, capsys):
    (tmp_path / "runs.csv").write_text(GOOD)
    fit = tmp_path / "fit.nc"
    assert call("fit", tmp_path / "runs.csv", "--out", fit, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == [str(fit)]
    assert call("predict", fit, "--at", "flops=1e21", "--at", "flops=1e23", "--target", "2.3", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["forecasts"]
    # What was measured afterwards.
    assert rows[0]["q0.1"] < 2.599 < rows[0]["q0.9"]
    assert rows[1]["q0.025"] < 2.234 < rows[1]["q0.975"]
    assert 0 < rows[1]["p_below_target"] < 1
    for wrong, message in (("0", "positive number"), ("-1", "positive number")):
        assert call("predict", fit, "--at", "flops=1e21", "--target", wrong) == 2
        assert message in capsys.readouterr().err
    assert call("allocate", fit, "--flops", "1e24") == 2
    assert "fit on two inputs" in capsys.readouterr().err
    content = fit.read_bytes()
    fit.write_bytes(content[: len(content) // 2])
    assert call("predict", fit, "--at", "flops=1e21") == 2


@pytest.mark.slow
def test_families_with_like_names_have_files_of_their_own(tmp_path, capsys):
    rows = [f"{family},{line}" for family in ("a b", "a_b", "A/b") for line in GOOD.splitlines()[1:]]
    (tmp_path / "runs.csv").write_text("\n".join(["family,flops,loss", *rows, "bad,1e18,nan", "bad,1e19,3"]))
    assert call("fit", tmp_path / "runs.csv", "--out", tmp_path / "fit.nc", "--json") == 2
    out, err = capsys.readouterr()
    told = json.loads(out)
    names = ["fit-a_b.nc", "fit-a_b-2.nc", "fit-A_b-3.nc"]
    assert told["written"] == [str(tmp_path / name) for name in names]
    assert all((tmp_path / name).exists() for name in names)
    assert [failure["family"] for failure in told["failures"]] == ["bad"]
    assert "1 of 4 families" in err
    assert call("backtest", tmp_path / "runs.csv", "--ratio", "10", "--ratio", "1000", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["family"] for row in told["rows"]} == {"a b", "a_b", "A/b"}
    assert [(left["family"], left["ratio"]) for left in told["skipped"]][:2] == [("bad", None), ("a b", 1000.0)]


def test_strict_ends_with_three_when_chains_disagree(tmp_path, monkeypatch, capsys):
    good = tmp_path / "good.csv"
    good.write_text(GOOD)
    # No data set fails for certain, so the verdicts of both samplers are made impossible to pass.
    monkeypatch.setattr(diagnostics, "RHAT", 0.5)
    monkeypatch.setattr(diagnostics, "PARETO", -10.0)
    assert call("fit", good, "--strict", "--out", tmp_path / "fit.nc") == 3
    assert "not reliable" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.csv"]


def test_the_version_stands_in_one_place():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "bayescale/__init__.py"
    changes = (Path(__file__).parents[1] / "CHANGELOG.md").read_text("utf-8")
    assert changes.split("\n## ")[1].splitlines()[0] == bs.__version__


def test_version_is_printed_alone(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"{bs.__version__}\n"
