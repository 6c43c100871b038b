"""Readers on the real files: each gives the table that was checked by hand.

BAYESCALE_CORPUS names a folder with the upstream files; the checked tables lie beside it, in ../tidy. Neither may ever
be committed: licences differ, some sources state none, and the package ships readers and checksums only.
"""

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayescale import corpus
from bayescale.corpus import download, readers
from bayescale.corpus.readers import curve_database, tasks
from bayescale.corpus.sources import SOURCES
from bayescale.errors import InputError

RAW = os.environ.get("BAYESCALE_CORPUS")
# Without the variable these tests are left out; with it, a file that is missing is a failure.
needs_corpus = [
    pytest.mark.corpus,
    pytest.mark.skipif(not RAW, reason="needs the downloaded corpus: set BAYESCALE_CORPUS"),
]
REPEATED = ("n_params", "n_tokens", "unique_tokens")
# Before pandas 3.1 the last binary digit of a number depends on how a file writes it.
EXACTLY = {"rtol": 1e-15, "atol": 0}
DIFFERENT = ("double_descent", "datablations", "coverage", "dclm")  # compared in tests of their own, which say why
DOWNLOADS = [name for name in SOURCES if name in download.manifest()]


def checked(name):
    """The table checked by hand, as pandas reads it."""
    return pd.read_csv(Path(RAW).parent / "tidy" / f"{name}.csv.gz", low_memory=False)


def frame(name):
    """The reader's table; three sources need a Parquet reader, which is no dependency of the package."""
    if name.startswith(("coverage", "farseer")):
        pytest.importorskip("pyarrow")
    return corpus.frame(name)


class TestRealFiles:
    pytestmark = needs_corpus

    @pytest.mark.parametrize("name", [name for name in DOWNLOADS if name not in DIFFERENT])
    def test_reader_gives_the_checked_table(self, name):
        pd.testing.assert_frame_equal(frame(name), checked(name), **EXACTLY)
        assert getattr(readers, name) is SOURCES[name].read

    def test_double_descent_is_the_part_that_needs_no_pickle(self):
        # The checked table goes on with ten curves that upstream gives as a pickle only, which is never opened; they
        # alone have an x_label, which is thus empty here.
        expected = checked("double_descent").iloc[:492]
        assert expected["x_label"].isna().all()
        assert checked("double_descent")["x_label"].iloc[492:].notna().all()
        found = frame("double_descent")
        pd.testing.assert_frame_equal(found.drop(columns="x_label"), expected.drop(columns="x_label"), **EXACTLY)
        assert found["x_label"].isna().all()

    def test_datablations_lacks_the_mixtures_with_code(self):
        # The nine mixtures come from a table of another repository that is not among the upstream files.
        expected = checked("datablations")
        mixtures = expected["family"].str.startswith("datablations_c4py_mix")
        assert mixtures.sum() == 296
        found = frame("datablations")
        pd.testing.assert_frame_equal(found, expected[~mixtures].reset_index(drop=True), **EXACTLY)
        contour = found[found["family"] == "datablations_c4_contour"]
        assert [(contour["epochs"] <= most).sum() for most in (1, 4, 40)] == [41, 97, 193]

    def test_coverage_differs_by_rounding_alone(self):
        # The checked table took differences of log-gamma functions of up to millions: it is off by up to 1e-9 and holds
        # 31 shares below zero. The reader multiplies, which does not cancel; all else is equal.
        found, expected = frame("coverage"), checked("coverage")
        numbers = ["value", "value_se"]
        pd.testing.assert_frame_equal(found.drop(columns=numbers), expected.drop(columns=numbers), **EXACTLY)
        np.testing.assert_allclose(found[numbers], expected[numbers], rtol=0, atol=1.1e-9)
        assert (expected["value"] < 0).sum() == 31
        assert found["value"].between(0, 1).all()
        # Exact at one attempt: the mean success rate.
        counts = frame("coverage_counts")
        rates = counts["value"].groupby([counts["family"], counts["run"]]).mean()
        single = found[found["n_attempts"] == 1].set_index(["family", "model"])["value"]
        np.testing.assert_allclose(single, rates.loc[single.index], rtol=1e-7)

    def test_dclm_has_its_flops_as_floats(self):
        # The checked table spells out products that no 64-bit integer holds, which pandas reads as Python's integers.
        expected = checked("dclm")
        assert expected["flops"].dtype == object
        # Older versions of pandas read the last digits of its longest numbers differently.
        pd.testing.assert_frame_equal(frame("dclm"), expected.astype({"flops": float}), rtol=1e-12, atol=0)
        assert readers.dclm is SOURCES["dclm"].read

    @pytest.mark.parametrize("name", DOWNLOADS)
    def test_listing_matches_the_files(self, name):
        listed = corpus.table().set_index("name").loc[name]
        rows = frame(name)
        assert listed["rows"] == len(rows)
        assert listed["families"] == rows["family"].nunique()

    def test_chinchilla_leaves_out_four_barely_trained_runs(self):
        runs = corpus.load("epoch_chinchilla")
        assert runs.inputs == ("n_params", "n_tokens")
        assert len(runs) == 241
        everything = corpus.load("epoch_chinchilla", drop_flagged=False).frame
        assert len(everything) == 245
        highest = everything.sort_values("loss", ascending=False)["run"].tolist()[:5]
        assert set(everything["run"]) - set(runs.frame["run"]) == set(highest[:4])
        assert highest[4] == "chin-4"

    def test_overtrain_has_families_and_standard_errors(self):
        runs = corpus.load("overtrain", family="overtrain_c4_original", metric="c4_val_loss")
        assert runs.inputs == ("n_params", "n_tokens")
        assert len(runs) == 34
        first = corpus.frame("overtrain").query("metric == 'c4_val_loss'").iloc[0]
        expected = (first["ci_hi"] - first["ci_lo"]) / (2 * 1.959964)
        assert runs.frame["value_se"].iloc[0] == pytest.approx(expected)
        assert len(corpus.load("overtrain", metric="c4_val_loss").families) == 3
        assert len(corpus.load("overtrain", metric="err_hellaswag")) == 104

    def test_overtrain_needs_a_metric(self):
        with pytest.raises(InputError, match="8 metrics"):
            corpus.load("overtrain")

    @pytest.mark.parametrize(
        ("name", "choice", "inputs", "rows", "families"),
        [
            ("alabdulmohsin2022", {"metric": "few_shot_error"}, ("n_samples",), 18883, 72),
            ("alabdulmohsin2022", {"metric": "val_loss"}, ("n_samples",), 229, 5),
            ("nslpfn_colpret", {}, ("n_tokens",), 33209, 192),
            ("finetune_rectified", {}, ("n_samples",), 1260, 90),
            ("gemstones", {"metric": "dolma_val_loss"}, ("n_params", "n_tokens"), 2299, 3),
            ("gemstones", {"metric": "dclm_loss"}, ("n_params", "n_tokens"), 770, 1),
            ("datablations", {"family": "datablations_c4_contour"}, ("n_params", "n_tokens"), 193, 1),
            ("datablations", {"metric": "c4_val_loss", "inputs": REPEATED}, REPEATED, 221, 3),
            ("routing", {"metric": "loss_validation"}, ("n_params_active", "n_experts"), 223, 16),
            ("routing", {"metric": "loss_validation", "family": "Dense"}, ("n_params_active",), 8, 1),
            ("routing", {"metric": "loss_c4", "family": "Dense"}, ("n_params_active",), 7, 1),
            ("steplaw", {}, ("n_params_nonembed", "n_tokens", "lr", "batch_tokens"), 2438, 5),
            ("quest_quant", {}, ("n_params_nonembed", "n_tokens"), 104, 21),
            ("il_games", {"family": "atari_bc_isoflop|Qbert"}, ("n_params", "n_samples"), 147, 1),
            ("il_games", {"family": "atari_bc_isoflop|BattleZone"}, ("n_params", "flops"), 140, 1),
            ("il_games", {"family": "nethack_bc|depth_vs_width"}, ("n_params",), 22, 1),
            ("il_games", {"family": "nethack_bc_isoflop"}, ("n_params", "n_samples"), 203, 1),
            ("dclm", {"family": "dclm|dolma_v1_no_resample"}, ("n_params", "n_tokens"), 3, 1),
            ("rl_value_scaling", {"family": "simbav2|h1-crawl-v0"}, ("n_params", "utd"), 16, 1),
            ("double_descent", {"metric": "test_loss", "family": "nlp-model-dd"}, ("width",), 64, 1),
            ("double_descent", {"metric": "test_loss", "family": "dd-translation|d64"}, ("n_samples",), 59, 1),
        ],
    )
    def test_load(self, name, choice, inputs, rows, families):
        runs = corpus.load(name, **choice)
        assert runs.inputs == inputs
        assert len(runs) == rows
        assert len(runs.families) == families

    def test_farseer_leaves_out_what_is_there_twice(self):
        pytest.importorskip("pyarrow")
        runs = corpus.load("farseer")
        assert runs.inputs == ("n_params", "n_tokens")
        assert len(runs) == 407
        assert len(corpus.load("farseer", drop_flagged=False)) == 411

    def test_perplexities_among_the_training_curves_become_losses(self):
        raw = corpus.frame("nslpfn_colpret").query("family == 'OPT-6.70B'")
        loss = corpus.load("nslpfn_colpret", family="OPT-6.70B").frame["loss"]
        assert raw["value"].iloc[0] > 20
        assert loss.iloc[0] == pytest.approx(np.log(raw["value"].iloc[0]))

    def test_readings_of_one_curve_at_the_same_tokens_are_averaged(self):
        raw = corpus.frame("nslpfn_colpret").query("family == 'GPT-3 XL'")
        runs = corpus.load("nslpfn_colpret", family="GPT-3 XL")
        assert len(runs) == raw["n_tokens"].nunique() == 526
        expected = raw.groupby("n_tokens", sort=False)["value"].mean().to_numpy()
        np.testing.assert_allclose(runs.frame["loss"], expected)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("multipowerlaw", "whole learning-rate schedule"),
            ("vocab", "negative"),
            ("coverage", "increase with attempts"),
            ("coverage_counts", "success rates"),
            ("obs_scaling", "only metrics that increase"),
            ("sloth", "only metrics that increase"),
            ("rl_depth", "only metrics that increase"),
            ("openclip_scaling", "only metrics that increase"),
        ],
    )
    def test_load_says_what_is_no_falling_loss(self, name, words):
        with pytest.raises(InputError, match=words) as caught:
            corpus.load(name)
        assert f"corpus.frame({name!r})" in str(caught.value)

    def test_families_over_different_inputs_are_not_mixed(self):
        with pytest.raises(InputError, match="family='nlp-model-dd'"):
            corpus.load("double_descent", metric="test_loss")


# --- without the corpus ---------------------------------------------------------------------------


def test_pass_at_k_is_a_ratio_of_binomials():
    cases = [(n, c, k) for n in (1, 5, 12) for c in range(n + 1) for k in range(1, n + 1)]
    expected = [1 - math.comb(n - c, k) / math.comb(n, k) for n, c, k in cases]
    np.testing.assert_allclose(tasks.pass_at_k(*zip(*cases, strict=True)), expected, rtol=1e-12, atol=1e-15)
    # At one attempt it is the success rate, also where binomials of millions would cancel.
    assert tasks.pass_at_k([3_000_000], [1], [1])[0] == pytest.approx(1 / 3_000_000, rel=1e-12)


def test_parquet_without_its_package_says_what_to_install(monkeypatch):
    def missing(path, columns):
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd, "read_parquet", missing)
    files = dict.fromkeys([entry.path for entry in download.manifest()["coverage"]], Path("nowhere"))
    monkeypatch.setattr(pd, "read_csv", lambda path: pd.DataFrame(columns=["Model Nickname", "Parameters", "Tokens"]))
    with pytest.raises(InputError, match="pip install pyarrow"):
        readers.coverage(files)


# --- LCDB -----------------------------------------------------------------------------------------


@pytest.fixture
def small_lcdb(monkeypatch, tmp_path):
    """A folder laid out like LCDB with curves to keep and to leave out; the cache is a folder of its own."""
    rows = []
    for learner, sizes, outer, offset in [
        ("SVC_linear", range(16, 160, 16), 5, 0.0),
        ("sklearn.tree.DecisionTreeClassifier", range(16, 160, 16), 5, 0.01),
        ("too.short.Learner", range(16, 112, 16), 5, 0.0),
        ("outer.missing.Learner", range(16, 160, 16), 4, 0.0),
        ("reaches.zero.Learner", range(16, 160, 16), 5, 1.0),
    ]:
        rows += [
            # Seeds change nothing but the last decimals, so that means are easy to check.
            (44, learner, size, 100, o, i, 0.1, 0.0, 0.0, min(0.5 + size / 1000 + o / 1000 + i / 10000 + offset, 1.0))
            for size in sizes
            for o in range(outer)
            for i in range(3)
        ]
    rows.append((44, "SVC_linear", 4096, 100, 0, 0, 0.1, 0.0, 0.0, 0.9))  # an anchor with one seed
    columns = ["openmlid", "learner", "size_train", "size_test", "outer_seed", "inner_seed"]
    table = pd.DataFrame(rows, columns=[*columns, "traintime", "score_train", "score_valid", "score_test"])
    folder = tmp_path / "unpacked" / "lcdb"
    folder.mkdir(parents=True)
    for name in ("database-accuracy.csv", "database-logloss.csv"):
        table.to_csv(folder / name, index=False)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(curve_database.SHA256, name, digest)
    monkeypatch.setenv("BAYESCALE_LCDB", str(folder.parent))
    monkeypatch.setattr(curve_database, "cache_folder", lambda: tmp_path / "cache")
    return folder


def test_lcdb_averages_inner_seeds_then_outer_ones(small_lcdb):
    rows = readers.lcdb().query("metric == 'error_rate'")
    assert list(dict.fromkeys(rows["family"])) == ["44/SVC_linear", "44/DecisionTreeClassifier"]
    first = rows.iloc[0]
    assert first["n_samples"] == 16
    assert first["value"] == pytest.approx(1 - (0.5 + 0.016 + 0.002 + 0.0001))
    assert first["value_se"] == pytest.approx(np.std(np.arange(5) / 1000, ddof=1) / np.sqrt(5))
    assert 4096 not in set(rows["n_samples"])
    assert rows["run"].is_unique


def test_lcdb_keeps_log_losses_as_they_are(small_lcdb):
    rows = readers.lcdb().query("metric == 'log_loss' and learner == 'SVC_linear'")
    assert rows["value"].iloc[0] == pytest.approx(0.5181)
    assert corpus.load("lcdb", metric="log_loss", family="44/SVC_linear").inputs == ("n_samples",)


def test_lcdb_is_reduced_once_and_a_damaged_cache_is_made_anew(small_lcdb, tmp_path, monkeypatch):
    first = readers.lcdb()
    (kept,) = (tmp_path / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(curve_database, "reduced", lambda: pytest.fail("read again"))
        pd.testing.assert_frame_equal(readers.lcdb(), first, **EXACTLY)
    content = kept.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content[:-8] + bytes(8)):
        kept.write_bytes(damaged)
        pd.testing.assert_frame_equal(readers.lcdb(), first, **EXACTLY)
        assert len(kept.read_bytes()) > len(content) // 2


def test_lcdb_of_another_version_is_refused(small_lcdb):
    with (small_lcdb / "database-accuracy.csv").open("a") as file:
        file.write("45,SVC_linear,16,100,0,0,0.1,0.0,0.0,0.5\n")
    with pytest.raises(InputError, match=r"not that of LCDB 0\.1\.0: expected sha256"):
        readers.lcdb()


def test_missing_lcdb_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(curve_database, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("BAYESCALE_LCDB", raising=False)
    with pytest.raises(InputError, match=r"pip install 'bayescale\[lcdb\]'"):
        corpus.frame("lcdb")
    monkeypatch.setenv("BAYESCALE_LCDB", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere does not exist"):
        corpus.frame("lcdb")


@pytest.mark.corpus
def test_lcdb_counts(monkeypatch, tmp_path):
    try:
        curve_database.located()
    except InputError as missing:
        pytest.skip(str(missing))
    monkeypatch.setattr(curve_database, "cache_folder", lambda: tmp_path)
    rows = readers.lcdb()
    assert len(rows) == SOURCES["lcdb"].rows
    assert rows["family"].nunique() == SOURCES["lcdb"].families
    assert rows.groupby("metric")["family"].nunique().to_dict() == {"error_rate": 3945, "log_loss": 3958}
    assert rows["dataset"].nunique() == 240
    assert rows["learner"].nunique() == 20
    assert (rows["n_samples"].min(), rows["n_samples"].max()) == (16, 2205023)
    assert rows.groupby(["family", "metric"]).size().median() == 16
