"""Fit a chain: losses by scale, and scores of the same runs by their loss."""

from __future__ import annotations

import numpy as np

from bayescale import laws
from bayescale.checked import known_keywords
from bayescale.data.runs import Runs
from bayescale.errors import InputError, counted
from bayescale.fitting.fit import fit
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.posterior.chain import INVERSE_PERPLEXITY, Chain

TASK_LOSS = "task_loss"
"""Name of the loss as an input of laws of scores in the catalogue."""


@known_keywords
def fit_chain(
    losses: Runs,
    scores: Runs,
    law: str | Law = "auto",
    *,
    seed: int,
    link: str | Law = "auto",
    settings: Nuts | None = None,
) -> Chain:
    """Fit losses by scale, and scores of the same runs by their loss, in one posterior.

    A loss is measured far more precisely than a score, and scales more regularly. Rows of both tables belong to one run
    if they have equal names (columns run and seed), or, without names, equal inputs. Runs with a loss only are used for
    the losses, and runs with a score only weight the joint draws (see `bayescale.posterior.chain`).

    Args:
        losses: Runs with a loss.
        scores: Runs with a score, at the same inputs as the losses.
        law: Law of the loss.
        seed: Seed of both fits.
        link: Law of the odds against a right answer. Its input is exp(-loss), under the name inverse_perplexity: the
            default law of scores, a power law with or without a floor, is then a sigmoid of the score in the loss that
            ends at or below the ceiling. For a law with the input task_loss, such as "loss_sigmoid", it is the loss.
        settings: Settings of NUTS for both fits. For other options fit both parts with `fit`, and join them with
            `bs.Chain`.

    Raises:
        InputError: For runs without a common loss and score, and as `fit`.

    Example:
        >>> table = "runs.csv"  # columns: flops, val_loss, accuracy, n_items
        >>> chain = bs.fit_chain(
        ...     bs.read(table), bs.read(table, score="accuracy", chance=0.25, inputs="flops"), seed=0
        ... )  # doctest: +SKIP
        >>> chain.predict(flops=1e22).interval(0.8)  # doctest: +SKIP
    """
    if losses.response_scale is not None or scores.score is None:
        raise InputError(
            "fit_chain takes runs with a loss, then runs with a score: bs.read(table), and bs.read(table, "
            "score='accuracy')."
        )
    loss = matched(losses, scores)
    frame = scores.frame.drop(columns="loss")
    known = np.isfinite(loss)
    if known.sum() < 3:
        raise InputError(
            f"A chain needs three runs with a score and a loss; found {known.sum()} among {len(frame)} scores. Rows "
            "are matched by the columns run and seed, or without them by inputs."
        )
    named = link if isinstance(link, Law) else None if link == "auto" else laws.get(link)
    plain = named is not None and named.inputs == (TASK_LOSS,)
    column, value = (TASK_LOSS, loss) if plain else (INVERSE_PERPLEXITY, np.exp(-loss))
    kept = [name for name in ("run", "seed", "score", "n_items") if name in frame]
    pairs = Runs.from_frame(
        frame.loc[known, kept].assign(**{column: value[known]}),
        inputs=(column,),
        name=f"{scores.name} by loss",
        score=scores.score,
    )
    alone = None if known.all() else scores.select(~known)
    if alone is not None and set(alone.inputs) != set(losses.inputs):
        raise InputError(
            f"{counted(len(alone), 'run')} without a loss have the inputs {', '.join(alone.inputs)}, and the losses "
            f"{', '.join(losses.inputs)}: read both with the same inputs=(...)."
        )
    chosen = {"seed": seed, "settings": settings}
    return Chain(fit(losses, law, **chosen), fit(pairs, link, **chosen), alone)


def matched(losses: Runs, scores: Runs) -> np.ndarray:
    """Return the loss of the run of each score, shape (score,); NaN where it has none.

    Raises:
        InputError: If several rows of one table have the same name, or the same inputs without names.
    """
    named = [name for name in ("run", "seed") if name in losses.frame and name in scores.frame] or list(scores.inputs)
    if lacking := [name for name in named if name not in losses.frame]:
        raise InputError(
            f"The losses have no column {lacking[0]}, by which to find the run of a score. Give both tables a column "
            "run, or read both with the same inputs=(...)."
        )
    keys = [
        table.frame[named].map(lambda v: f"{v:.9g}" if isinstance(v, float) else str(v)) for table in (losses, scores)
    ]
    for table, key in zip((losses, scores), keys, strict=True):
        if (again := key.duplicated()).any():
            told = ", ".join(f"{name}={value}" for name, value in key[again].iloc[0].items())
            raise InputError(
                f"Several rows of {table.name} have {told}, so the loss of a score is ambiguous. Give both tables a "
                "column run with a different name for each run, and keep one row for each."
            )
    right = keys[0].assign(matched_loss=losses.frame["loss"].to_numpy(float))
    return keys[1].merge(right, on=named, how="left")["matched_loss"].to_numpy(float)


def written(value: object) -> str:
    """Return a cell as text, numbers to nine digits, so that equal cells of two tables compare equal."""
    return f"{value:.9g}" if isinstance(value, float) else str(value)
