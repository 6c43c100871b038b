"""The page of the catalogue and the command that shows a law."""

import json
from pathlib import Path

import pytest
from conftest import call

from bayescale.laws import BUILT_IN, describe
from bayescale.laws.priors import Exponent, Shares
from bayescale.laws.registry import ALIASES, LAWS


def shown(capsys, *arguments):
    assert call("laws", *arguments) == 0
    return capsys.readouterr().out


def test_committed_page_is_what_the_registry_says():
    committed = Path(__file__).parents[1] / "docs" / "laws.md"
    assert committed.read_text(encoding="utf-8") == describe.markdown()


def test_page_has_every_law_and_alias():
    text = describe.markdown()
    assert len(BUILT_IN) >= 45
    for name in BUILT_IN:
        assert text.count(f"### `{name}`\n") == 1
    for name in ALIASES:
        assert f"`{name}` (" in text
    # A refit is never shown as the paper's own.
    for law in LAWS.values():
        for source in law.info.published:
            if source.verified != "paper":
                assert describe.VERIFIED["paper"] not in text.split(f"- `{source.key}` (")[1].split("):")[0]


def test_one_law(capsys):
    out = shown(capsys, "gadre")
    assert out.startswith("gadre(flops, tokens_per_param): Loss by compute C = 6 N D")
    assert "input      flops: training floating-point operations" in out
    assert "constants  redpajama, refitted for this package" in out
    assert "eta: Exponent(median=0.13, sd=0.5)" in out
    assert shown(capsys, "skaling").startswith("chinchilla_outer(")


def test_counting_is_shown(capsys):
    assert "n_params: parameters, without embeddings" in shown(capsys, "kaplan_params")
    assert "n_params: parameters, with embeddings" in shown(capsys, "chinchilla")
    forecast = LAWS["kaplan_params"].published().predict(n_params=1e9)
    assert "n_params without embeddings" in forecast.label


def test_json(capsys):
    (card,) = json.loads(shown(capsys, "chinchilla_outer", "--json"))["laws"]
    assert card["becomes"] == {"chinchilla": {"k": 1.0}}
    assert card["published"]["busbridge2025"]["constants"]["k"] == 0.452
    assert "another text" in card["published"]["busbridge2025"]["verified"]
    assert set(card["aliases"]) == {"skaling", "distillation_supervised"}
    assert len(json.loads(shown(capsys, "--json"))["laws"]) == len(LAWS)


def test_list_has_one_line_a_law(capsys):
    assert len(shown(capsys).strip().splitlines()) == len(LAWS)


@pytest.mark.parametrize("name", sorted(LAWS))
def test_declarations_are_short(name):
    # What a law says of itself has to fit on one line of a list.
    assert len(LAWS[name].info.summary) <= 130


def test_every_input_has_a_symbol_and_every_prior_an_explanation():
    text = describe.markdown()
    assert set(describe.SYMBOLS) <= set(BUILT_IN)
    for name in BUILT_IN:
        assert len(describe.symbols(LAWS[name])) == len(LAWS[name].inputs), name
        for prior in LAWS[name].priors.values():
            assert f"### {type(prior).__name__}\n" in text
    # Numbers of a prior with many parameters are shown only where they differ from the explained defaults.
    assert describe.short_prior(Shares(("E", "A"))) == "[`Shares`](#shares)"
    assert describe.short_prior(Shares(("E", "A"), floor=False)) == "[`Shares(floor=False)`](#shares)"
    assert describe.short_prior(Exponent()) == "[`Exponent(median=0.35, sd=0.5)`](#exponent)"
