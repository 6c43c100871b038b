"""What a fit prints: names in line, units of constants, and which numbers come from the prior."""

import dataclasses

import pytest
from conftest import with_job

from bayescale.posterior.mixture import combine


def rows_of(text):
    """Lines of quantities."""
    return [line for line in text.splitlines() if line.startswith("  ") and "90 %" in line]


def test_names_of_all_lengths_stand_in_line(marin_post):
    rows = rows_of(str(marin_post))
    assert {row.index("90 %") for row in rows} == {rows[0].index("90 %")}
    assert sum(row.startswith("    discrepancy ") for row in rows) == len(marin_post.components)
    spreads = [row for row in rows if row.split()[0] in ("residual_sd", "seed_sd", "discrepancy")]
    assert {row for row in rows if "   relative, " in row} == set(spreads) and spreads


def test_seed_noise_without_replicates_is_said_to_be_the_prior(marin_post):
    text = str(marin_post)
    assert text.splitlines().count("seed_sd is from the prior: no two runs at equal settings.") == 1
    parts = [
        dataclasses.replace(
            part, job=dataclasses.replace(part.job, problem=dataclasses.replace(part.job.problem, replicated=True))
        )
        for part in marin_post.components
    ]
    assert "from the prior" not in str(combine(parts, marin_post.weights))


def test_constants_without_units_say_what_they_are_relative_to(marin_post):
    assert marin_post.unit == ""
    assert "for" not in marin_post.summary()
    own = dataclasses.replace(marin_post.law, units=(), name="own")
    bare = with_job(marin_post, law=own)
    reference = float(bare.reference[0])
    assert bare.unit == f"flops / {reference:.4g}"
    assert f"E, A, g, c hold for flops / {reference:.4g}: own declares no units=" in str(bare)
    table = bare.summary()
    assert set(table.loc[list(own.constants), "for"]) == {bare.unit}
    assert set(table.loc["residual_sd", "for"]) == {""}
    # Inputs that mean something as they are are divided by nothing.
    assert with_job(marin_post, law=dataclasses.replace(own, scales=(("flops", ""),))).unit == ""


@pytest.mark.parametrize("drawn", [(True, True, True), (True, False, False), (False, False, False)])
def test_importance_sampling_is_told_of_the_components_that_tried_it(marin_post, drawn):
    parts = [
        dataclasses.replace(
            part,
            diagnostics=dataclasses.replace(
                part.diagnostics,
                method="importance" if one else "nuts",
                pareto_k=0.2 if one else None,
                ess_weights=900.0,
            ),
        )
        for part, one in zip(marin_post.components, drawn, strict=True)
    ]
    told = [line for line in str(combine(parts, marin_post.weights)).splitlines() if "importance sampling" in line]
    assert len(told) == (1 if any(drawn) else 0)
    assert [line.startswith("with floor and plateau: ") for line in told] == (
        [True] if drawn == (True, False, False) else [False] * any(drawn)
    )
