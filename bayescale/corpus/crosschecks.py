"""Cross-checks: do figures agree that were printed twice or can be computed from each other?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bayescale.checked import known_keywords
from bayescale.corpus import builtin
from bayescale.errors import some

_PRINTED = 0.0015
"""Largest difference of ln(perplexity) that rounding or truncating to two decimals explains."""


@known_keywords
def check() -> list[str]:
    """Check built-in figures against each other.

    Returns:
        One sentence per check, beginning with "Agrees" or "Conflict"; conflicts are facts about the published figures
        and stay listed.
    """
    return [
        *_marin_fits(),
        *_marin_outcome(),
        *_marin_best_runs(),
        *_rwkv(),
        *_gpt_neo(),
        *_seed_spread(),
        *_cerebras(),
        *_pythia(),
        *_opt_flops(),
        *_rising(),
    ]


def _values(family: str, metric: str, column: str = "value") -> Any:
    """Return one column of one curve, indexed by size, which is the part of a run's name after its last hyphen."""
    rows = _published()
    rows = rows[(rows["family"] == family) & (rows["metric"] == metric)]
    return rows.set_index(rows["run"].str.split("-").str[-1])[column]


def _log_values(family: str, metric: str) -> Any:
    return np.log(_values(family, metric))


# Pandas types every column as a union that type checkers cannot follow, hence Any.
def _published() -> Any:
    return builtin.published()


def _verdict(agrees: bool, sentence: str) -> str:
    return f"{'Agrees' if agrees else 'Conflict'}: {sentence}"


def _marin_fits() -> Iterator[str]:
    table = builtin.marin_forecast()
    fit = table["floor"] + table["coefficient"] * table["flops"] ** -table["exponent"]
    gap = (fit - table["predicted"]).abs().max()
    yield _verdict(
        bool(gap < 0.003),
        f"Marin's four printed fits give back its {len(table)} printed predictions within "
        f"{gap:.4f} (coefficients are rounded).",
    )


def _marin_outcome() -> Iterator[str]:
    table: Any = builtin.marin_forecast().dropna(subset="measured")
    last = table[(table["fit_to"] == "3e20") & (table["flops"] > 3e20)]
    for row in last.itertuples():
        error = row.measured / row.predicted - 1
        yield _verdict(
            abs(error) < 0.01,
            f"Marin forecast {row.predicted} at 1e{np.log10(row.flops):.0f} FLOPs and measured "
            f"{row.measured} ({error:+.1%}).",
        )
    minima = _published().query("family == 'marin_moe_v16_minima'")
    measured = last.set_index("flops")["measured"]
    same = minima.set_index("flops")["value"].loc[measured.index].equals(measured)
    yield _verdict(same, "marin_moe_v16_minima and Marin's forecast table share the measured runs.")


def _marin_best_runs() -> Iterator[str]:
    rows = _published().query("metric == 'paloma_macro_loss'")
    by_budget = rows.pivot_table(index="flops", columns="family", values="value")
    gap = (by_budget["marin_moe_v16_best"] - by_budget["marin_moe_v16_minima"]).abs()
    gap = gap[gap > 0]
    yield _verdict(
        gap.empty,
        f"marin_moe_v16_minima and marin_moe_v16_best differ by {gap.min():.3f} to {gap.max():.3f} "
        "at the fitted budgets (parabola minima against best runs); do not mix them.",
    )


def _rwkv() -> Iterator[str]:
    for metric, other in (("pile_loss", "pile_val_ppl"), ("lambada_ppl", "lambada_ppl")):
        printed = _values if metric == "pile_loss" else _log_values
        cards = printed("rwkv4_pile", metric).rename({"7B": "7.4B"})
        table = _log_values("rwkv4", other)
        gap = (cards.loc[table.index] - table).abs().max()
        yield _verdict(
            gap < _PRINTED,
            f"RWKV-4 {metric} on the model cards and {other} in the Mamba-2 table are the same "
            f"losses for {some(list(table.index))}, within {gap:.4f} nats.",
        )


def _gpt_neo() -> Iterator[str]:
    table = _log_values("gpt_neo_mamba2tab", "lambada_ppl")
    own = _log_values("gpt_neo", "lambada_ppl")
    gap = (own.loc[table.index] - table).abs().max()
    yield _verdict(
        gap < _PRINTED,
        f"GPT-Neo's own LAMBADA perplexities are those of the Mamba-2 table for "
        f"{some(list(table.index))}, within {gap:.4f} nats.",
    )


def _seed_spread() -> Iterator[str]:
    losses = _published().query("family == 'nanogpt_seeds_skylight'")["value"]
    agrees = abs(losses.mean() - 3.27818) < 5.1e-6 and abs(losses.std() - 0.00112) < 5.1e-6
    yield _verdict(
        agrees,
        f"the six seeds of nanogpt_seeds_skylight have mean {losses.mean():.5f} and standard "
        f"deviation {losses.std():.5f}; its pull request prints 3.27818 and 0.00112.",
    )


def _cerebras() -> Iterator[str]:
    readme = _values("cerebras_gpt", "pile_test_xent")
    card = _values("cerebras_gpt_hfcard", "pile_test_xent")
    apart = readme[readme != card]
    yield _verdict(
        apart.empty,
        "Cerebras-GPT Pile losses in the README and on the model card: "
        + some([f"{size} {readme[size]} against {card[size]}" for size in apart.index], 9)
        + ".",
    )
    counts = {c: _values("cerebras_gpt", "pile_test_xent", c) for c in builtin.COUNTS[:3]}
    ratio = counts["flops"] / (6 * counts["n_params"] * counts["n_tokens"])
    yield _verdict(
        bool(ratio.between(0.95, 1.05).all()),
        f"Cerebras-GPT prints {ratio.min():.2f} to {ratio.max():.2f} times 6ND as training FLOPs; "
        "another table of the same README prints less (5.3e19 instead of 6.1e19 at 590M).",
    )


def _pythia() -> Iterator[str]:
    again = _log_values("pythia_mamba2tab", "pile_val_ppl").drop("160M")
    first = _values("pythia", "pile_test_xent").loc[again.index]
    ratio = first / again
    yield _verdict(
        bool(ratio.between(0.99, 1.01).all()),
        f"Pythia's Pile losses in the Cerebras-GPT table are {ratio.min():.3f} to "
        f"{ratio.max():.3f} of ln(perplexity) in the Mamba-2 table; the ratio is not constant, so "
        "the two cannot be mixed.",
    )


def _opt_flops() -> Iterator[str]:
    opt = _values("opt", "hellaswag_acc_0shot", "flops")
    pythia = set(_values("pythia", "hellaswag_acc_0shot", "flops"))
    repeated = [size for size, flops in opt.items() if flops in pythia]
    yield _verdict(
        not repeated,
        f"the FLOPs printed for {len(repeated)} of {len(opt)} OPT models ({some(repeated, 9)}) "
        "equal those of Pythia models of other sizes; do not use them.",
    )


def _rising() -> Iterator[str]:
    """Yield losses that exceed that of a smaller model trained on as much data."""
    rows = _published()
    rows = rows[rows["unit"].isin(builtin.LOSSES)]
    rises = []
    for (family, metric), curve in rows.groupby(["family", "metric"], sort=False):
        if builtin.axis(curve) != ("n_params",):
            continue
        curve = curve.sort_values("n_params")
        worse = curve[curve["value"].diff() > 0]
        rises += [f"{run} ({family}, {metric})" for run in worse["run"]]
    yield _verdict(not rises, f"losses that rise with size: {some(rises, 20)}.")
