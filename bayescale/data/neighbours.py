"""Neighbours: how far each row of a curve lies off the line through two rows next to it, beside how far others do."""

from __future__ import annotations

import numpy as np

BETWEEN, AFTER, BEFORE = 1, 2, 0
"""Where a row lies among three: between the two that predict it, after them, or before them."""
NEAREST, LEAST_NEAREST = 7, 3
"""How many of the nearest rows say what is usual, and with how many fewer nothing is said."""
CLEAR = 5.0
"""A row so far off that the rows beside it are judged without it."""
LEAST_CLEAR = 0.006
"""Smaller distances are never clear."""
MOST_CLEAR = 0.3
"""Largest share of the rows that is set aside in this way."""
SMALLEST = 1e-6
"""Added to the usual distance, for curves without any scatter."""


def distances(x: np.ndarray, y: np.ndarray, out: np.ndarray, place: int = BETWEEN) -> tuple[np.ndarray, np.ndarray]:
    """Return how far above the line through two neighbours each row lies, and the same beside that of rows near it.

    Distances are divided by the standard deviation that independent noise of 1 gives them. The second is the first over
    the root mean square of those of the nearest sound rows, taken without the row: these say how much the curve bends
    and scatters there. Rows without two neighbours, or with too few rows near them, are NaN.

    Args:
        x: Input, all different, shape (row,).
        y: ln(loss), shape (row,).
        out: Rows that are no neighbours of others, shape (row,).
        place: `BETWEEN`, `AFTER` or `BEFORE` the two rows.
    """
    own, relative = np.full(len(y), np.nan), np.full(len(y), np.nan)
    order = np.argsort(x)
    order = order[~out[order]]
    for row in range(len(y)):
        sound = order[order != row]
        t, v = x[sound], y[sound]
        index = int(np.searchsorted(t, x[row]))
        first = index - place
        if first < 0 or first + 2 > len(t) or len(t) < 3:
            continue
        own[row] = _off_line(x[row], y[row], t[first : first + 2], v[first : first + 2])
        one, other = (position for position in range(3) if position != place)
        triples = np.arange(3)[:, None] + np.arange(len(t) - 2)
        nodes = np.stack([triples[one], triples[other]])
        rest = _off_line(t[triples[place]], v[triples[place]], t[nodes], v[nodes])
        near = np.argsort(np.abs(triples[place] + 0.5 - index), kind="stable")[:NEAREST]
        if len(near) >= LEAST_NEAREST:
            relative[row] = own[row] / (np.sqrt(np.mean(rest[near] ** 2)) + SMALLEST)
    return own, relative


def clear_of_neighbours(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return `out` and the rows that lie clearly above their neighbours, found one by one, the clearest first.

    A failed row spoils the line and the surroundings of those beside it, so each is set aside before the next is
    sought.
    """
    out = out.copy()
    for _ in range(max(1, int(MOST_CLEAR * len(y)))):
        own, relative = distances(x, y, out)
        score = np.where(out | ~(own > LEAST_CLEAR) | np.isnan(relative), -np.inf, relative)
        if score.max() < CLEAR:
            break
        out[score.argmax()] = True
    return out


def _off_line(x: np.ndarray, y: np.ndarray, nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return how far above the line through two nodes points lie, in units of what noise of 1 would make of it."""
    share = (x - nodes[0]) / (nodes[1] - nodes[0])
    return (y - (1.0 - share) * values[0] - share * values[1]) / np.sqrt(1.0 + share**2 + (1.0 - share) ** 2)
