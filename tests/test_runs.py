"""Runs: every unusable table is refused in words, and good ones are reduced to the right arrays."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayescale as bs
from bayescale.data.design import reduce_runs
from bayescale.errors import InputError, because

GOOD = {"flops": [1e18, 1e19, 1e20], "loss": [3.5, 3.1, 2.8]}


def table(**columns):
    return pd.DataFrame({**GOOD, **columns})


BAD_TABLES = {
    "no rows": (pd.DataFrame({"flops": [], "loss": []}), "no rows"),
    "no loss": (pd.DataFrame({"flops": [1e18, 1e19]}), "'loss'.*needed; found flops"),
    "no input": (
        pd.DataFrame({"size": [1e18, 1e19], "loss": [3.0, 2.0]}),
        "No column was recognised as a scale input.*size, loss",
    ),
    "text in an input": (table(flops=["1e18", "7B", "1e20"]), "flops must hold numbers; row 2 holds '7B'"),
    "text in the loss": (table(loss=[3.5, 3.1, "n/a?"]), "loss must hold numbers; row 3"),
    "text in the error": (table(value_se=[0.1, "x", 0.1]), "value_se must hold numbers; row 2"),
    "zero input": (table(flops=[0, 1e19, 1e20]), "flops must be positive counts; row 1"),
    "negative input": (table(flops=[1e18, -1e19, 1e20]), "flops must be positive counts; row 2"),
    "count below one": (table(flops=[0.007, 1.0, 7.0]), "raw counts of at least 1; row 1 holds 0.007"),
    "zero loss": (table(loss=[3.5, 0, 0]), "loss must be positive.*rows 2, 3 hold 0"),
    "negative loss": (table(loss=[3.5, -3.1, 2.8]), "loss must be positive.*row 2 holds -3.1"),
    "NaN loss": (table(loss=[3.5, np.nan, 2.8]), "loss must be finite and present.*row 2"),
    "NaN input": (table(flops=[np.nan, 1e19, 1e20]), "flops must be finite and present.*row 1"),
    "infinite loss": (table(loss=[3.5, np.inf, 2.8]), "loss must be finite.*row 2 holds inf"),
    "infinite input": (table(flops=[1e18, 1e19, np.inf]), "flops must be finite.*row 3"),
    "negative error": (table(value_se=[0.1, -0.1, 0.1]), "standard error of zero or more; row 2"),
    "infinite error": (table(value_se=[0.1, np.inf, 0.1]), "standard error of zero or more; row 2"),
    "one row": (pd.DataFrame({"flops": [1e18], "loss": [3.0]}), "The table has one row"),
    "same run twice": (
        pd.DataFrame({"run": ["a", "a", "b"], "flops": [1e18, 1e18, 1e19], "loss": [3.0, 3.1, 2.0]}),
        "measured twice.*rows 2",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_refuses_table(case):
    frame, message = BAD_TABLES[case]
    with pytest.raises(InputError, match=message):
        bs.Runs.from_frame(frame)


# A file may hold rows that are left out, and numbers as people write them.
OF_FILES = {
    "no input": "No column was recognised as a scale input.*--column n_params=size",
    "text in an input": "flops must be in raw counts; its values are too small .row 2: 7e.09",
    "count below one": "flops must be in raw counts; its values are too small .rows 1, 2, 3: 0.007, 1, 7",
}
LEFT_OUT = {"NaN loss": 2, "NaN input": 1, "infinite loss": 2, "infinite input": 3}
LEFT_OUT |= {"text in the loss": 3, "text in the error": 2}


def of_file(message):
    """The same message about a file, whose header is row 1."""
    return re.sub(
        r"(rows? )([\d, ]+\d|\d)", lambda m: m[1] + re.sub(r"\d+", lambda d: str(int(d[0]) + 1), m[2]), message
    )


@pytest.mark.parametrize("case", [c for c in BAD_TABLES if c not in LEFT_OUT])
def test_refuses_the_same_table_as_a_file(case, tmp_path):
    frame, message = BAD_TABLES[case]
    frame.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(InputError, match=of_file(OF_FILES.get(case, message))):
        bs.read(tmp_path / "runs.csv")


@pytest.mark.parametrize("case", LEFT_OUT)
def test_leaves_rows_without_numbers_out(case, tmp_path):
    BAD_TABLES[case][0].to_csv(tmp_path / "runs.csv", index=False)
    runs = bs.read(tmp_path / "runs.csv")
    assert len(runs) == 2
    assert [entry.rows for entry in runs.log if entry.severity == "excluded"] == [(LEFT_OUT[case] + 1,)]


def test_runs_of_one_scale_are_runs_that_no_law_fits():
    runs = bs.Runs.from_frame(table(flops=[1e18] * 3))
    with pytest.raises(InputError, match=r"have one scale.*bayescale compare"):
        reduce_runs(runs)
    none = bs.Runs.from_frame(pd.DataFrame({"seed": [0, 1], "loss": [3.0, 3.1]}), inputs=())
    assert "no scale input" in str(none)
    with pytest.raises(InputError, match="have one scale"):
        reduce_runs(none)


def test_refuses_duplicated_columns():
    frame = pd.DataFrame([[1e18, 3.0, 3.1], [1e19, 2.0, 2.1]], columns=["flops", "loss", "loss"])
    with pytest.raises(InputError, match="'loss' appears more than once"):
        bs.Runs.from_frame(frame)


def test_refuses_unknown_mapped_column():
    with pytest.raises(InputError, match="no column 'los'\\. Did you mean 'loss'"):
        bs.Runs.from_frame(table(), columns={"loss": "los"})


def test_refuses_unknown_input():
    with pytest.raises(InputError, match="no column 'flop'\\. Did you mean 'flops'"):
        bs.Runs.from_frame(table(), inputs=("flop",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"flops,loss\n", "no rows"),
        (b"a,b\n1,2\n3,4\n", "'loss'.*needed; found a, b"),
        (b"flops,loss,loss\n1e18,3,3\n1e19,2,2\n", "'loss' 2 times"),
        (bytes(range(128, 256)), "not text"),
        (b"flops,loss\n1e18,\x003\n", "NUL"),
        (b"flops,loss\n1e18,3\n1e19,2,1,7\n", "row 3 has 4 fields where the header has 2"),
        (b"n_params,n_tokens,loss\n1e7,1e8,3,.5\n1e8,1e8,2,.5\n", "row 2 has 4 fields"),
        (b"FLOPs, Verlust\n1e18,3\n1e19,2\n", "columns={'loss': 'Verlust'}"),
        (b"n_params,n_tokens,flops,loss\n1e7,1e8,0,3\n1e8,1e9,0,2\n", "flops must be positive"),
        (b"flops,loss\n1e18,3\n1e19,inf\n", "The table has one row"),
    ],
)
def test_refuses_file(content, message, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        bs.read(path)


@given(st.binary(max_size=200))
def test_noise_never_ends_in_another_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        bs.read(path)


def test_refuses_folder_and_absent_file(tmp_path):
    with pytest.raises(InputError, match="is a folder without tables"):
        bs.read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        bs.read(tmp_path / "absent.csv")


def test_reads_what_it_should(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\ufeffflops,loss\n1e18,3.5\n1e19,3.1\n", encoding="utf-8")
    runs = bs.read(path)
    assert (runs.inputs, runs.name, len(runs)) == (("flops",), "mine", 2)
    assert runs.digest == bs.read(path).digest


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_separators_and_empty_fields_at_the_end(mark, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("flops, loss\n1e18,3.5,\n1e19,3.1,,\n".replace(",", mark))
    assert list(bs.read(path).frame["loss"]) == [3.5, 3.1]


def test_names_are_text(tmp_path):
    path = tmp_path / "runs.csv"
    names = ["007", "7", "NA", "None", "", "1"]
    rows = [f"{name},{1e18 * (step + 1):g},{3 - step}" for name in names for step in (0, 1)]
    path.write_text("\n".join(["family,flops,loss", *rows]))
    runs = bs.read(path)
    assert runs.families == ["007", "7", "NA", "None", "unnamed", "1"]
    assert [len(family) for family in runs.split()] == [2] * 6
    missing = bs.Runs.from_frame(pd.DataFrame({"family": ["a", "a", None, None], "flops": [1, 2] * 2, "loss": 2.0}))
    assert missing.families == ["a", "unnamed"]


def test_rows_without_a_run_are_runs_of_their_own():
    frame = table(flops=[1e18, 1e18, 1e19, 1e19], loss=[3.0, 3.1, 2.0, 2.1], run=["a", None, "", "b"])
    assert bs.Runs.from_frame(frame).frame["run"].tolist() == ["a", "row 2", "row 3", "b"]


def test_families_of_a_file_stand_alone(tmp_path):
    path = tmp_path / "runs.csv"
    compute = "".join(f"a,{10.0**i:g},,,{3 - 0.1 * i}\n" for i in range(18, 21))
    sizes = "".join(f"b,,{10.0**i:g},1e9,{4 - 0.1 * i}\n" for i in range(7, 10))
    path.write_text("family,flops,n_params,n_tokens,loss\n" + compute + sizes + "c,1e18,,,3\nc,1e19,,,oops\n")
    found, unfit = bs.read_families(path)
    assert [(runs.name, runs.inputs, len(runs)) for runs in found] == [
        ("a", ("flops",), 3),
        ("b", ("n_params", "n_tokens"), 3),
    ]
    assert list(unfit) == ["c"] and "row 9 holds 'oops'" in unfit["c"]
    path.write_text("family,flops,loss\na,1e18,3\nb,1e18,nan\nb,1e19,2\n")
    with pytest.raises(InputError, match=r"a, b: The table has one row"):
        bs.read_families(path)
    path.write_text("family,flops,loss\n")
    with pytest.raises(InputError, match="header line and no rows"):
        bs.read_families(path)


def test_equal_reasons_are_told_once(tmp_path):
    path = tmp_path / "runs.csv"
    lines = [f"{family},{10 * step},{3 - 0.1 * step}" for family in "abcde" for step in range(1, 4)]
    path.write_text("\n".join(["family,size,loss", *lines]))
    with pytest.raises(InputError, match=r"^a, b, c and 2 more: No column was recognised as a scale input") as found:
        bs.read_families(path)
    assert str(found.value).count("No column was recognised as a scale input") == 1
    assert because([("a", "3 rows"), ("b", "no rows."), ("c", "3 rows.")]) == "a, c: 3 rows; b: no rows."
    assert because((name, name) for name in "abcde") == "a: a; b: b; c: c; and 2 more reasons."


def test_maps_columns():
    frame = pd.DataFrame({"size": [1e8, 1e9], "n_tokens": [2e9, 2e10], "val": [3.0, 2.5], "loss": [9.0, 9.0]})
    runs = bs.Runs.from_frame(frame, columns={"n_params": "size", "loss": "val"})
    assert runs.inputs == ("n_params", "n_tokens")
    assert list(runs.frame["loss"]) == [3.0, 2.5]


def test_metric_and_value():
    runs = bs.Runs.from_frame(pd.DataFrame({"flops": [1e18, 1e19], "metric": "nll", "value": [3.0, 2.5]}))
    assert list(runs.frame["loss"]) == [3.0, 2.5]


def test_missing_errors_are_zero():
    runs = bs.Runs.from_frame(table(value_se=[0.1, np.nan, 0.2]))
    assert list(runs.frame["value_se"]) == [0.1, 0.0, 0.2]


def test_families_split():
    frame = pd.DataFrame({"family": list("aabb"), "flops": [1e18, 1e19, 1e18, 1e19], "loss": [3.0, 2.0, 4.0, 3.0]})
    runs = bs.Runs.from_frame(frame)
    assert runs.families == ["a", "b"]
    assert [(part.name, len(part)) for part in runs] == [("a", 2), ("b", 2)]
    assert list(runs.split()[1].frame["loss"]) == [4.0, 3.0]
    with pytest.raises(InputError, match="contain 2 "):
        reduce_runs(runs)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.integers(0, 1000))
def test_replicates_become_means(counts, seed):
    rng = np.random.default_rng(seed)
    x = np.repeat(1e18 * 10.0 ** np.arange(len(counts)), counts)
    loss = 3 * x**-0.05 * np.exp(0.01 * rng.standard_normal(len(x)))
    design = reduce_runs(bs.Runs.from_frame(pd.DataFrame({"flops": x, "loss": loss})))
    groups = [np.log(loss[x == v]) for v in dict.fromkeys(x)]
    means = np.array([g.mean() for g in groups])
    np.testing.assert_array_equal(design.count, counts)
    np.testing.assert_allclose(design.y + design.center, means, rtol=1e-12)
    np.testing.assert_allclose(design.squares, [((g - g.mean()) ** 2).sum() for g in groups], atol=1e-15)
    np.testing.assert_allclose(design.shared, np.diag(1.0 / np.array(counts)))


def test_centring_ignores_how_often_a_scale_was_run():
    few = pd.DataFrame({"flops": [1e18, 1e20], "loss": [4.0, 1.0]})
    many = pd.DataFrame({"flops": [1e18, 1e20, 1e20], "loss": [4.0, 1.0, 1.0]})
    for frame in (few, many):
        design = reduce_runs(bs.Runs.from_frame(frame))
        np.testing.assert_allclose(design.reference, [1e19])
        np.testing.assert_allclose(np.exp(design.center), 2.0)
        np.testing.assert_allclose(design.z.sum(0), 0.0, atol=1e-12)
        np.testing.assert_allclose(design.span, np.log(100))
        assert design.inert == (False,)


def test_collapse_off_keeps_rows():
    frame = pd.DataFrame({"flops": [1e18, 1e20, 1e20], "loss": [4.0, 1.0, 1.1]})
    design = reduce_runs(bs.Runs.from_frame(frame), collapse=False)
    np.testing.assert_array_equal(design.alike, [[1, 0, 0], [0, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(design.shared, np.eye(3))


def test_inert_input():
    frame = pd.DataFrame({"n_params": [1e8, 1e9], "n_tokens": [1e10, 1.4e10], "loss": [3.0, 2.0]})
    assert reduce_runs(bs.Runs.from_frame(frame)).inert == (False, True)


def test_one_run_has_no_seed_term():
    runs = bs.Runs.from_frame(pd.DataFrame({**GOOD, "run": "a", "step": [1, 2, 3]}))
    design = reduce_runs(runs)
    assert design.one_run
    assert not design.shared.any()


def test_family_at_one_scale_is_refused_by_name():
    table = pd.DataFrame({"family": ["a", "a", "lonely"], "flops": [1e18, 1e19, 1e18], "loss": [3.0, 2.8, 3.1]})
    lonely = bs.Runs.from_frame(table).split()[1]
    with pytest.raises(InputError, match="All runs of 'lonely' have one scale"):
        reduce_runs(lonely)
