"""Verbs that decide: what they print, what they refuse, and that nothing but JSON is on stdout with --json."""

import json

import pytest
from conftest import call


@pytest.fixture(scope="module")
def saved(marin_post, tmp_path_factory):
    path = tmp_path_factory.mktemp("fits") / "marin.nc"
    marin_post.save(path)
    return path


def read(capsys, *arguments):
    assert call(*arguments, "--json") == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    return json.loads(out)


def test_decide(saved, capsys, tmp_path):
    stakes = ["--cost", "1.2e6", "--value", "2.5e6", "--unit", "USD"]
    targets = ["--target", "2.61", "--target", "2.5"]
    found = read(capsys, "decide", saved, "--at", "flops=1e21", *targets, *stakes)
    assert [decision["answer"] for decision in found["decisions"]] == ["go", "no-go"]
    page = tmp_path / "page.md"
    assert call("decide", saved, "--at", "flops=1e21", "--target", "2.61", "--report", page, "--no-sensitivity") == 0
    out, err = capsys.readouterr()
    assert out.startswith("GO\n")
    assert "page.md" in err
    assert page.read_text().startswith("# Should we make the run")


def test_next_run_with_candidates(saved, capsys, tmp_path):
    table = tmp_path / "pilots.csv"
    table.write_text("flops,cost\n4e20,1\n8e20,2\n")
    found = read(capsys, "next-run", saved, "--at", "flops=1e21", "--candidates", table, "--batch", "2")
    assert len(found["candidates"]) == 2
    assert found["batch"]


def test_stop_and_power(saved, capsys):
    found = read(capsys, "stop", saved, "--at", "flops=1e21", "--target", "2.5")
    assert found["runs"][0]["action"] == "stop"
    ladder = ["--low", "flops=5e20", "--high", "flops=1e21", "--runs", "2"]
    found = read(capsys, "power", "--fit", saved, "--at", "flops=3e21", *ladder, "--width", "0.05")
    assert 0 <= found["plans"][0]["power"] <= 1


def test_report(saved, capsys, tmp_path):
    out = tmp_path / "page.html"
    found = read(capsys, "report", saved, "--out", out, "--at", "flops=1e23", "--target", "2.3", "--no-sensitivity")
    assert found["answer"] == "go"
    # 333 times beyond the data is answered, and said to lie beyond the record.
    assert "333 times beyond" in out.read_text(encoding="utf-8")
    assert out.stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["decide", "FIT", "--at", "flops=1e21"], "--target"),
        (["decide", "FIT", "--at", "flops", "--target", "2"], "--at"),
        (["decide", "FIT", "--at", "flops=1e21", "--target", "2", "--cost", "1"], "value="),
        (["decide", "FIT", "--at", "steps=1e21", "--target", "2"], "steps"),
        (["next-run", "FIT", "--at", "flops=1e21", "--candidates", "absent.csv"], "absent.csv"),
        (["power", "--at", "flops=1e21", "--width", "0.1"], "--fit"),
        (["power", "--fit", "FIT", "--at", "flops=1e21", "--low", "flops=1e20", "--width", "0.1"], "--high"),
        (["report", "FIT", "--out", "page.html", "--target", "2"], "--at"),
        (["stop", "absent.nc", "--at", "step=1", "--target", "2"], "absent"),
    ],
)
def test_bad_questions_end_with_one_sentence(saved, capsys, arguments, words):
    assert call(*[saved if part == "FIT" else part for part in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bayescale: ")
    assert words in err
    assert err.count("\n") == 1
