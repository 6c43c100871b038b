"""The corpus: built-in figures, downloads, readers, and how curves become runs."""

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayescale import corpus
from bayescale.corpus import builtin, download, readers
from bayescale.errors import InputError

RAW = os.environ.get("BAYESCALE_CORPUS")
needs_corpus = [
    pytest.mark.corpus,
    pytest.mark.skipif(not RAW, reason="needs the downloaded corpus: set BAYESCALE_CORPUS"),
]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Replace the network by a function from address to content, and the cache by a folder."""
    pooch = pytest.importorskip("pooch")
    served = {}

    class Downloader:
        def __call__(self, url, output_file, cache):
            if url not in served:
                raise ConnectionError("no network in tests")
            Path(output_file).write_bytes(served[url])

    monkeypatch.delenv("BAYESCALE_CORPUS", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr("pooch.core.choose_downloader", lambda url, progressbar: Downloader())
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    return served


@pytest.fixture
def toy_source(monkeypatch):
    """A source of one small file, known to the manifest."""
    entry = download.Published(
        source="toy",
        repo="someone/somewhere",
        commit="0" * 40,
        path="data/a=1.csv",
        bytes=4,
        sha256=hashlib.sha256(b"toy\n").hexdigest(),
        licence="MIT",
        paper="none",
        arxiv_id="",
    )
    monkeypatch.setattr(download, "manifest", lambda: {"toy": (entry,)})
    return entry


def curve(**columns):
    return pd.DataFrame({"family": "some family", **columns})


# --- built-in figures -----------------------------------------------------------------------------


def test_every_measurement_is_there_and_cited():
    rows = builtin.published()
    assert len(rows) == 1490
    assert rows["family"].nunique() == 55
    assert rows.groupby(["family", "metric"]).ngroups == 271
    assert (rows["paper"] != "").all()
    assert (rows["where"] != "").all()
    assert rows["arxiv_id"].str.fullmatch(r"(\d{4}\.\d{5}|bioRxiv [\d.]+|)").all()
    uncited = rows[rows["arxiv_id"] == ""]
    assert uncited["where"].str.contains("issue|pull request|README").all()


def test_measurements_have_known_units_and_finite_values():
    rows = builtin.published()
    assert set(rows["unit"]) == set(builtin.UNITS)
    assert np.isfinite(rows["value"]).all()
    assert rows.groupby(["family", "metric"])["unit"].nunique().max() == 1
    assert rows.groupby(["family", "metric"])["lower_is_better"].nunique().max() == 1
    assert rows.loc[rows["unit"].isin(builtin.LOSSES), "lower_is_better"].all()
    assert set(rows["verified"]) == {"source", "secondary"}
    for column in builtin.COUNTS:
        given = rows[column].dropna()
        assert (given >= 1).all()
    assert (rows["flops"].notna() == (rows["flops_convention"] != "")).all()


def test_no_measurement_is_there_twice():
    rows = builtin.published()
    assert not rows.duplicated(["family", "run", "seed", "metric"]).any()


def test_standard_errors_and_seed_spreads_are_kept_apart():
    rows = builtin.published()
    with_error = rows[rows["value_se"].notna()]
    with_spread = rows[rows["seed_sd"].notna()]
    assert set(with_error["family"]) == {"spectra_floatlm", "spectra_trilm"}
    assert len(with_error) == 90
    assert list(with_spread["family"]) == ["nanogpt_seeds_tuned_baseline"]
    assert with_spread["seed_sd"].item() == 0.001343


@pytest.mark.parametrize(
    ("family", "run", "value", "words"),
    [
        ("pythia_deduped", "pythia_deduped-1.4B", 1.889, "misprint"),
        ("pythia_mamba2tab", "pythia_mamba2tab-160M", 29.64, "outlier"),
        ("rwkv4_pile", "RWKV-4-Pile-7B", 1.8415, "stray letter"),
        ("opt_wikitext2", "OPT-350M", 22.0, "off the trend"),
        ("cerebras_gpt", "cerebras_gpt-111M", 2.608, "2.566"),
        ("cerebras_gpt_hfcard", "Cerebras-GPT-111M", 2.566, "2.608"),
        ("opt", "opt-125M", None, "FLOPs doubtful"),
        ("mt5", "mT5-XXL(75%)", None, "75 %"),
        ("marin_67b_a2b_anchors", "d2560", 2.256, "before the end"),
        ("whisper_data", "medium-681070h", None, "departs"),
    ],
)
def test_doubtful_figures_carry_a_flag(family, run, value, words):
    rows = builtin.published().query("family == @family and run == @run")
    rows = rows if value is None else rows[rows["value"] == value]
    assert len(rows)
    assert rows["flag"].str.contains(words).all()


def test_every_family_has_caveats_and_no_other():
    assert list(builtin.caveats()) == list(builtin.published()["family"].unique())
    assert all(builtin.caveats().values())


def test_small_tables():
    forecast = corpus.marin_forecast()
    assert len(forecast) == 36
    assert forecast["measured"].isna().sum() == 4
    assert sorted(set(forecast["fit_to"])) == ["1e19", "1e20", "3e19", "3e20"]
    noise = corpus.checkpoint_noise()
    assert len(noise) == 10
    assert (noise["arxiv_id"] == "2412.04403").all()


def test_tables_are_copies():
    rows = builtin.published()
    rows.loc[:, "value"] = 0.0
    assert (builtin.published()["value"] > 0).any()


def test_cross_checks_list_agreements_and_conflicts():
    sentences = corpus.check()
    assert all(sentence.startswith(("Agrees: ", "Conflict: ")) for sentence in sentences)
    agreements = " ".join(s for s in sentences if s.startswith("Agrees"))
    conflicts = " ".join(s for s in sentences if s.startswith("Conflict"))
    for words in ("four printed fits", "2.252 at 1e23", "RWKV-4 pile_loss", "GPT-Neo's own"):
        assert words in agreements
    for words in ("111M 2.608 against 2.566", "OPT", "Pythia's Pile", "pythia_deduped-1.4B"):
        assert words in conflicts


# --- names, listing, axis -------------------------------------------------------------------------


def test_names_are_built_in_families_then_downloads():
    names = corpus.names()
    assert len(names) == 57
    assert "cerebras_gpt" in names
    assert names[-2:] == ["epoch_chinchilla", "overtrain"]


def test_table_lists_every_entry_without_a_network(offline):
    listed = corpus.table()
    assert list(listed["name"]) == corpus.names()
    assert set(listed["kind"]) == {"built-in", "download"}
    assert listed["rows"].sum() == 1490 + 245 + 5616
    assert (listed["licence"] != "").all()
    assert (listed["caveats"] != "").all()
    assert "seed replicates" in listed.set_index("name").loc["marin_moe_v16_cells", "caveats"]


def test_importing_the_corpus_is_light():
    code = (
        "import sys, bayescale.corpus\nassert not {'pooch', 'requests', 'jax'} & set(sys.modules), sorted(sys.modules)"
    )
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("cerebras_gpt", ("n_params",)),
        ("rwkv4_pile", ("n_params",)),
        ("gpt3", ("n_params",)),
        ("attnres_full", ("n_params",)),
        ("marin_67b_a2b_anchors", ("n_params",)),
        ("marin_moe_v16_minima", ("flops",)),
        ("marin_moe_v16_best", ("flops",)),
        ("marin_moe_v16_cells", ("flops",)),
        ("marin_aug_hero_cells", ("n_params", "n_tokens")),
        ("marin_aug_hero_frontier", ("flops",)),
        ("regnetx", ("flops",)),
        ("regnety", ("flops",)),
        ("dit_in256", ("flops",)),
        ("whisper_data", ("n_samples",)),
        ("hyena", ("n_params", "n_tokens")),
        ("hyena_gpt", ("n_params", "n_tokens")),
        ("nanogpt_seeds_skylight", ()),
        ("gpt_j", ()),
    ],
)
def test_axis_of_built_in_families(family, expected):
    assert corpus.axis(corpus.frame(family)) == expected


def test_axis_adds_tokens_only_if_they_say_something_new():
    sizes = [1e8, 1e8, 1e9, 1e9]
    assert corpus.axis(curve(n_params=sizes, n_tokens=[1e9, 4e9, 1e9, 4e9])) == (
        "n_params",
        "n_tokens",
    )
    assert corpus.axis(curve(n_params=sizes, n_tokens=[1e9, 1.4e9, 1e9, 1.4e9])) == ("n_params",)
    assert corpus.axis(curve(n_params=sizes, n_tokens=[2e9, 2e9, 2e10, 2e10])) == ("n_params",)
    assert corpus.axis(curve(n_params=sizes, n_tokens=[1e9, 4e9, 1e9, np.nan])) == ("n_params",)


def test_axis_falls_back_to_flops_then_samples():
    partly = [1e8, np.nan, 1e9]
    assert corpus.axis(curve(n_params=partly, flops=[1e18, 1e19, 1e20])) == ("flops",)
    assert corpus.axis(curve(n_params=[1e8] * 3, n_samples=[10.0, 20.0, 30.0])) == ("n_samples",)
    assert corpus.axis(curve(n_params=[1e8] * 3)) == ()


# --- load and curves ------------------------------------------------------------------------------


def test_load_keeps_losses_in_nats():
    pytest.importorskip("bayescale.runs")
    runs = corpus.load("cerebras_gpt")
    assert runs.inputs == ("n_params",)
    assert len(runs) == 7
    assert list(runs.frame["loss"])[:2] == [2.608, 2.349]
    assert "value_se" not in runs.frame


def test_load_turns_perplexity_and_its_error_into_a_loss():
    pytest.importorskip("bayescale.runs")
    first = corpus.load("spectra_floatlm").frame.iloc[0]
    assert first["loss"] == pytest.approx(math.log(85.0))
    assert first["value_se"] == pytest.approx(6.9 / 85.0)


def test_load_derives_the_size_of_the_marin_cells():
    pytest.importorskip("bayescale.runs")
    runs = corpus.load("marin_aug_hero_cells")
    assert runs.inputs == ("n_params", "n_tokens")
    np.testing.assert_allclose(runs.frame["n_params"].iloc[0], 1e18 / (6 * 5.77e9))


def test_load_prefers_nats_and_accepts_other_inputs():
    pytest.importorskip("bayescale.runs")
    assert corpus.load("rwkv4_pile").name == "rwkv4_pile/pile_loss"
    assert corpus.load("marin_moe_v16_best").name == "marin_moe_v16_best/paloma_macro_loss"
    assert corpus.load("cerebras_gpt", inputs="flops").inputs == ("flops",)


def test_load_takes_error_rates_as_they_are():
    pytest.importorskip("bayescale.runs")
    runs = corpus.load("regnetx")
    assert runs.inputs == ("flops",)
    assert runs.frame["loss"].iloc[0] == 31.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "cerebras_gtp"}, "Did you mean 'cerebras_gpt'"),
        ({"name": "mamba"}, "pile_val_ppl, lambada_ppl"),
        ({"name": "mamba", "metric": "pile_val_pl"}, "Did you mean 'pile_val_ppl'"),
        ({"name": "mamba", "metric": "pile_val_ppl", "family": "mambo"}, "Did you mean 'mamba'"),
        ({"name": "opt"}, "only metrics that rise"),
        ({"name": "cerebras_gpt", "metric": "piqa_acc_0shot"}, "rises as models improve"),
        ({"name": "nanogpt_seeds_skylight"}, "Nothing varies"),
        ({"name": "marin_moe_v16_best", "inputs": ("n_params",)}, "for every run"),
    ],
)
def test_load_explains_what_it_cannot_do(arguments, words):
    pytest.importorskip("bayescale.runs")
    name = arguments.pop("name")
    with pytest.raises(InputError, match=words):
        corpus.load(name, **arguments)


def test_frame_and_fetch_name_the_nearest_entry():
    with pytest.raises(InputError, match="Did you mean 'rwkv4_pile'"):
        corpus.frame("rwkv4_pil")
    with pytest.raises(InputError, match="Did you mean 'overtrain'"):
        corpus.fetch("overtrian")


def test_curves_are_losses_with_distinct_points():
    pytest.importorskip("bayescale.runs")
    found = corpus.curves()
    assert len(found) == 36
    assert found["marin_moe_v16_minima/paloma_macro_loss"].inputs == ("flops",)
    for name, runs in found.items():
        assert not name.startswith(("nanogpt_seeds", "marin_moe_v16_cells"))
        assert len(runs.frame[list(runs.inputs)].drop_duplicates()) >= 5
        assert (runs.frame["loss"] < 6).all()
    assert set(found) < set(corpus.curves(losses_only=False))
    assert len(corpus.curves(min_points=8)) < len(found)


# --- downloads ------------------------------------------------------------------------------------


def test_manifest_pins_every_file():
    manifest = download.manifest()
    assert {name: len(files) for name, files in manifest.items()} == {
        "epoch_chinchilla": 1,
        "overtrain": 211,
    }
    for entry in [entry for files in manifest.values() for entry in files]:
        assert len(entry.commit) == 40
        assert len(entry.sha256) == 64
        assert entry.bytes > 0
        assert entry.licence
        assert entry.paper


def test_local_folder_replaces_the_network(monkeypatch, tmp_path, toy_source):
    monkeypatch.setenv("BAYESCALE_CORPUS", str(tmp_path))
    file = tmp_path / "someone+somewhere" / "data" / "a=1.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"toy\n")
    seen = []
    assert corpus.fetch("toy", progress=lambda *at: seen.append(at)) == tmp_path
    assert seen == [(1, 1)]
    assert download.files("toy") == {"data/a=1.csv": file}


def test_missing_local_file_is_named(monkeypatch, tmp_path, toy_source):
    monkeypatch.setenv("BAYESCALE_CORPUS", str(tmp_path))
    with pytest.raises(InputError) as caught:
        corpus.fetch("toy")
    message = str(caught.value)
    for words in ("a=1.csv is missing", toy_source.sha256, toy_source.url, "unset"):
        assert words in message


def test_damaged_local_file_is_named_with_both_checksums(monkeypatch, tmp_path, toy_source):
    monkeypatch.setenv("BAYESCALE_CORPUS", str(tmp_path))
    file = tmp_path / "someone+somewhere" / "data" / "a=1.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"other\n")
    with pytest.raises(InputError) as caught:
        corpus.fetch("toy")
    message = str(caught.value)
    found = hashlib.sha256(b"other\n").hexdigest()
    for words in (str(file), f"expected sha256 {toy_source.sha256}", f"found {found}", "Replace"):
        assert words in message


def test_download_is_cached_and_repaired(offline, toy_source):
    offline[toy_source.url] = b"toy\n"
    seen = []
    root = corpus.fetch("toy", progress=lambda *at: seen.append(at))
    file = root / toy_source.local
    assert file.read_bytes() == b"toy\n"
    assert seen == [(1, 1)]
    offline.clear()
    assert corpus.fetch("toy") == root  # from the cache
    file.write_bytes(b"damaged")
    offline[toy_source.url] = b"toy\n"
    corpus.fetch("toy")
    assert file.read_bytes() == b"toy\n"


def test_failed_download_is_one_sentence(offline, toy_source):
    with pytest.raises(InputError, match="connect to the network") as caught:
        corpus.fetch("toy")
    assert toy_source.url in str(caught.value)
    assert "BAYESCALE_CORPUS" in str(caught.value)


def test_download_with_wrong_content_is_refused(offline, toy_source, tmp_path):
    offline[toy_source.url] = b"tampered\n"
    with pytest.raises(InputError, match="sha256 is not the published one"):
        corpus.fetch("toy")
    assert not (tmp_path / "bayescale" / toy_source.local).exists()


# --- readers, on the real files -------------------------------------------------------------------


class TestDownloaded:
    pytestmark = needs_corpus

    @pytest.mark.parametrize("name", ["epoch_chinchilla", "overtrain"])
    def test_reader_gives_the_checked_table(self, name):
        expected = pd.read_csv(Path(RAW).parent / "tidy" / f"{name}.csv.gz")
        found = getattr(readers, name)(download.files(name))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=0)
        pd.testing.assert_frame_equal(corpus.frame(name), found)

    @pytest.mark.parametrize("name", ["epoch_chinchilla", "overtrain"])
    def test_listing_matches_the_files(self, name):
        listed = corpus.table().set_index("name").loc[name]
        rows = corpus.frame(name)
        assert listed["rows"] == len(rows)
        assert listed["families"] == rows["family"].nunique()

    def test_chinchilla_leaves_out_four_barely_trained_runs(self):
        pytest.importorskip("bayescale.runs")
        runs = corpus.load("epoch_chinchilla")
        assert runs.inputs == ("n_params", "n_tokens")
        assert len(runs) == 241
        everything = corpus.load("epoch_chinchilla", drop_flagged=False).frame
        assert len(everything) == 245
        highest = everything.sort_values("loss", ascending=False)["run"].tolist()[:5]
        assert set(everything["run"]) - set(runs.frame["run"]) == set(highest[:4])
        assert highest[4] == "chin-4"

    def test_overtrain_has_families_and_standard_errors(self):
        pytest.importorskip("bayescale.runs")
        runs = corpus.load("overtrain", family="overtrain_c4_original", metric="c4_val_loss")
        assert runs.inputs == ("n_params", "n_tokens")
        assert len(runs) == 34
        first = corpus.frame("overtrain").query("metric == 'c4_val_loss'").iloc[0]
        expected = (first["ci_hi"] - first["ci_lo"]) / (2 * 1.959964)
        assert runs.frame["value_se"].iloc[0] == pytest.approx(expected)
        assert len(corpus.load("overtrain", metric="c4_val_loss").families) == 3
        assert len(corpus.load("overtrain", metric="err_hellaswag")) == 104

    def test_overtrain_needs_a_metric(self):
        pytest.importorskip("bayescale.runs")
        with pytest.raises(InputError, match="8 metrics"):
            corpus.load("overtrain")
