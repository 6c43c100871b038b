"""Counts of correct attempts: which tables are read, which are refused in one sentence, and the unbiased estimate."""

import itertools

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.coverage import pass_at_k, read

GOOD = {"correct": [0, 1, 4], "attempts": [4, 4, 4]}


def chance_by_hand(correct, attempts, k):
    marks = [1] * correct + [0] * (attempts - correct)
    samples = list(itertools.combinations(marks, k))
    return sum(map(any, samples)) / len(samples)


@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_the_estimate_is_the_chance_of_a_sample_without_replacement(k):
    correct = [0, 1, 3, 5, 6]
    table = pass_at_k(correct, 6, k)
    chances = [chance_by_hand(c, 6, k) for c in correct]
    assert table["estimate"][0] == pytest.approx(np.mean(chances))
    assert table["se"][0] == pytest.approx(np.std(chances, ddof=1) / 5**0.5)


def test_the_estimate_is_unbiased_and_exact_for_many_samples():
    p, rng = 0.03, np.random.default_rng(0)
    table = pass_at_k(rng.binomial(60, p, 20_000), 60, [1, 10, 50])
    assert np.all(abs(table["estimate"] - (1 - (1 - p) ** table["k"])) < 4 * table["se"])
    assert pass_at_k([1], 10**6, [5 * 10**5])["estimate"][0] == pytest.approx(0.5)


def test_problems_with_fewer_attempts_are_left_out():
    table = pass_at_k([1, 1], [2, 8], [2, 4])
    assert list(table["problems"]) == [2, 1]
    assert table["estimate"][1] == pytest.approx(0.5)
    assert np.isnan(table["se"][1])


@pytest.mark.parametrize(
    "names",
    [
        ("correct", "attempts"),
        ("n_correct", "n_sampled"),
        ("passed", "num_samples"),
        ("Num. Samples Correct", "Num. Samples Total"),
        ("c", "n"),
        ("successes", "n_items"),
    ],
)
def test_usual_names_are_recognised(names):
    columns = {"correct": names[0]} if names[0].startswith("Num") else None
    table = pd.DataFrame(dict(zip(names, GOOD.values(), strict=True)))
    counts = read(table, columns=columns)["counts"]
    assert list(counts.correct) == GOOD["correct"] and list(counts.attempts) == GOOD["attempts"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl"])
def test_files_are_read(tmp_path, ending):
    path, table = tmp_path / f"model.{ending}", pd.DataFrame(GOOD | {"problem": list("abc")})
    if ending.startswith("json"):
        table.to_json(path, orient="records", lines=ending == "jsonl")
    else:
        table.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    counts = read(path)["model"]
    assert counts.problems == ("a", "b", "c") and counts.solved == 2


def test_families_come_apart_and_rows_of_a_problem_are_added():
    table = pd.DataFrame(
        {
            "model": ["x", "x", "x", "y", "y"],
            "problem": ["a", "a", "b", "a", "b"],
            "passed": [1, 2, 0, 5, 0],
            "tries": [5, 5, 5, 9, 9],
        }
    )
    families = read(table)
    assert list(families) == ["x", "y"]
    assert list(families["x"].attempts) == [10, 5] and list(families["x"].correct) == [3, 0]
    assert "added up" in families["x"].notes[0]
    with pytest.raises(bs.InputError, match=r"2 families \(x, y\).*one with family='x'"):
        bs.coverage.fit(table, seed=0)


def test_single_attempts_are_counted():
    table = {"problem": ["a", "a", "b", "b", "b"], "is_correct": [True, False, False, False, False]}
    counts = read(table)["counts"]
    assert list(counts.attempts) == [2, 3] and list(counts.correct) == [1, 0]


def test_sampling_that_stopped_at_a_success_is_noticed():
    stopped = read({"correct": [1, 1, 0], "attempts": [3, 50, 100]})["counts"]
    assert stopped.stopped and "stopped at the first success" in stopped.notes[0]
    assert not read({"correct": [1, 2, 0], "attempts": [3, 50, 100]})["counts"].stopped
    assert not read(GOOD)["counts"].stopped


BAD = {
    "no file": ("absent.csv", "no file absent.csv"),
    "no table": (3, "A table of counts is expected; found int"),
    "no rows": (pd.DataFrame({"correct": [], "attempts": []}), "has no rows"),
    "no correct": ({"a": [1, 2]}, "No column was recognised as correct attempts"),
    "no attempts": ({"correct": [1, 2]}, "no column of attempts"),
    "a text": (GOOD | {"correct": ["x", 1, 2]}, r"correct must be whole numbers of at least 0; found 'x' in rows 0"),
    "a part": (GOOD | {"correct": [0.5, 1, 2]}, "found '0.5' in rows 0"),
    "missing": (GOOD | {"correct": [np.nan, 1, 2]}, "found 'nan' in rows 0"),
    "negative": (GOOD | {"correct": [-1, 1, 2]}, "found '-1' in rows 0"),
    "none made": (GOOD | {"attempts": [4, 0, 4]}, "attempts must be whole numbers of at least 1; found '0' in rows 1"),
    "too many": (GOOD | {"correct": [0, 1, 5]}, r"more correct than attempts in rows 2, from 0: 5 of 4"),
    "one problem": ({"correct": [1], "attempts": [2]}, "1 problem; at least 2 are needed"),
    "two columns": (
        GOOD | {"samples": [5, 5, 5]},
        r"attempts, samples could be attempts; choose one.*--column attempts",
    ),
    "unequal": ({"correct": [1], "attempts": [2, 3]}, "columns of equal length"),
    "no family": (GOOD | {"model": ["a", None, "a"]}, "is empty in rows 1"),
    "a slip": (GOOD | {"attempts": [4, 4, 10**12]}, "at most 1,000,000,000 are expected"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_refused_in_one_sentence(name):
    source, words = BAD[name]
    with pytest.raises(bs.InputError, match=words) as refused:
        bs.coverage.fit(source, seed=0)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    for name, content, words in (("a.txt", "x", "must end in .csv"), ("a.json", "{", "was not read as a table")):
        (tmp_path / name).write_text(content)
        with pytest.raises(bs.InputError, match=words):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"law": "gamma"}, "law .--law. must be exgaussian, beta or kumaraswamy; found 'gamma'"),
        ({"law": 3}, "found 3"),
        ({"unsolvable": "yes"}, "unsolvable must be True or False"),
        ({"scaled": 1}, "scaled must be True or False, or None"),
        ({"seed": -1}, "seed must be"),
        ({"family": "y"}, "There is no family 'y'"),
        ({"columns": {"correct": "hits"}}, "There is no column 'hits' for correct"),
        ({"columns": {"corect": "correct"}}, "Did you mean 'correct'"),
        ({"columns": [1]}, "columns= .--column. maps bayescale's names"),
        ({"settings": {}}, "settings must be"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(bs.InputError, match=words):
        bs.coverage.fit(GOOD, **{"seed": 0, **options})


@pytest.mark.parametrize("k", [0, -1, 1.5, "a", [], None, np.nan, 1e13])
def test_bad_numbers_of_attempts_are_refused(k):
    with pytest.raises(bs.InputError, match=r"k .--k. must be whole numbers"):
        pass_at_k([1, 2], 4, k)


def test_more_attempts_than_any_problem_has_are_refused():
    with pytest.raises(
        bs.InputError, match=r"pass@8 needs problems with at least 8 attempts; the largest number found is 4"
    ):
        pass_at_k([1, 2], 4, 8)
