"""The corpus: built-in figures, downloads, readers, and how curves become runs."""

import math
import os
import subprocess
import sys
from importlib import resources

import numpy as np
import pandas as pd
import pytest

from bayescale import corpus
from bayescale.corpus import builtin
from bayescale.corpus.sources import LEFT_OUT, SOURCES
from bayescale.errors import InputError


@pytest.fixture
def no_network(monkeypatch):
    """Make every connection fail."""

    def refuse(*arguments, **settings):
        raise OSError("no network in tests")

    monkeypatch.delenv("BAYESCALE_CORPUS", raising=False)
    monkeypatch.setattr("socket.socket.connect", refuse)


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


def test_names_are_built_in_families_then_sources():
    names = corpus.names()
    assert len(names) == 55 + len(SOURCES)
    assert "cerebras_gpt" in names
    assert names[55:] == list(SOURCES)


def test_table_lists_every_entry_without_a_network(no_network):
    listed = corpus.table()
    assert list(listed["name"]) == [*corpus.names(), *LEFT_OUT]
    assert listed["kind"].value_counts().to_dict() == {"built-in": 55, "download": 23, "package": 1, "left out": 7}
    assert listed["rows"][:55].sum() == 1490
    assert (listed["licence"] != "").all()
    assert (listed["caveats"] != "").all()
    assert "seed replicates" in listed.set_index("name").loc["marin_moe_v16_cells", "caveats"]


@pytest.mark.parametrize("use", [corpus.load, corpus.frame, corpus.fetch])
@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_says_why(use, name):
    with pytest.raises(InputError, match="no upstream data file"):
        use(name)
    assert corpus.state(name) == "left out"


def documented_sources():
    """The table of sources in the documentation, as `corpus.table` has it."""
    lines = ["| source | paper | licence | inputs | families | rows | caveats |", "|---|---|---|---|---:|---:|---|"]
    listed = corpus.table()
    for entry in listed[listed["kind"] != "built-in"].itertuples():
        paper = f"{entry.paper}, arXiv {entry.arxiv_id}" if entry.arxiv_id else entry.paper
        counts = f"{entry.families:,} | {entry.rows:,}" if entry.rows else "- | -"
        lines.append(
            f"| `{entry.name}` | {paper} | {entry.licence} | {entry.inputs or '-'} | {counts} | {entry.caveats} |"
        )
    return "\n".join(lines) + "\n"


def test_documentation_lists_every_source():
    text = (resources.files("bayescale.corpus") / "data/README.md").read_text("utf-8")
    assert documented_sources() in text, f"Put this table into bayescale/corpus/data/README.md:\n{documented_sources()}"
    for figure in (f"{len(builtin.published()):,} measurements", f"{len(builtin.caveats())} model families"):
        assert figure in text


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
    pytest.importorskip("bayescale.data.runs")
    runs = corpus.load("cerebras_gpt")
    assert runs.inputs == ("n_params",)
    assert len(runs) == 7
    assert list(runs.frame["loss"])[:2] == [2.608, 2.349]
    assert "value_se" not in runs.frame


def test_load_turns_perplexity_and_its_error_into_a_loss():
    pytest.importorskip("bayescale.data.runs")
    first = corpus.load("spectra_floatlm").frame.iloc[0]
    assert first["loss"] == pytest.approx(math.log(85.0))
    assert first["value_se"] == pytest.approx(6.9 / 85.0)


def test_load_derives_the_size_of_the_marin_cells():
    pytest.importorskip("bayescale.data.runs")
    runs = corpus.load("marin_aug_hero_cells")
    assert runs.inputs == ("n_params", "n_tokens")
    np.testing.assert_allclose(runs.frame["n_params"].iloc[0], 1e18 / (6 * 5.77e9))


def test_load_prefers_nats_and_accepts_other_inputs():
    pytest.importorskip("bayescale.data.runs")
    assert corpus.load("rwkv4_pile").name == "rwkv4_pile/pile_loss"
    assert corpus.load("marin_moe_v16_best").name == "marin_moe_v16_best/paloma_macro_loss"
    assert corpus.load("cerebras_gpt", inputs="flops").inputs == ("flops",)


def test_load_takes_error_rates_as_they_are():
    pytest.importorskip("bayescale.data.runs")
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
        ({"name": "opt"}, "only metrics that increase"),
        ({"name": "cerebras_gpt", "metric": "piqa_acc_0shot"}, "increases as models improve"),
        ({"name": "nanogpt_seeds_skylight"}, "Nothing varies"),
        ({"name": "marin_moe_v16_best", "inputs": ("n_params",)}, "for every run"),
    ],
)
def test_load_explains_what_it_cannot_do(arguments, words):
    pytest.importorskip("bayescale.data.runs")
    name = arguments.pop("name")
    with pytest.raises(InputError, match=words):
        corpus.load(name, **arguments)


def test_frame_and_fetch_name_the_nearest_entry():
    with pytest.raises(InputError, match="Did you mean 'rwkv4_pile'"):
        corpus.frame("rwkv4_pil")
    with pytest.raises(InputError, match="Did you mean 'overtrain'"):
        corpus.fetch("overtrian")


def test_curves_are_losses_with_distinct_points():
    pytest.importorskip("bayescale.data.runs")
    found = corpus.curves()
    assert len(found) == 36
    assert found["marin_moe_v16_minima/paloma_macro_loss"].inputs == ("flops",)
    for name, runs in found.items():
        assert not name.startswith(("nanogpt_seeds", "marin_moe_v16_cells"))
        assert len(runs.frame[list(runs.inputs)].drop_duplicates()) >= 5
        assert (runs.frame["loss"] < 6).all()
    assert set(found) < set(corpus.curves(losses_only=False))
    assert len(corpus.curves(min_points=8)) < len(found)
