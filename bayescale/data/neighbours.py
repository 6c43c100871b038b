"""Neighbours: distance of each row of a curve from the line through two adjacent rows, compared with nearby rows."""

from __future__ import annotations

import numpy as np

BETWEEN, AFTER, BEFORE = 1, 2, 0
"""Position of a row relative to the two rows that predict it: between them, after them, or before them."""
NEAREST, LEAST_NEAREST = 7, 3
"""Number of nearest rows that define the usual distance, and the smallest number with which it is computed."""
CLEAR = 5.0
"""Rows with at least this relative distance are set aside before the adjacent rows are judged."""
LEAST_CLEAR = 0.006
"""Distances smaller than this are never large enough to set a row aside."""
MOST_CLEAR = 0.3
"""Largest fraction of rows that is set aside in this way."""
SMALLEST = 1e-6
"""Added to the usual distance, for curves without any scatter."""


def distances(x: np.ndarray, y: np.ndarray, out: np.ndarray, place: int = BETWEEN) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each row lies above the line through two adjacent rows, absolutely and relative to nearby rows.

    Distances are divided by the standard deviation that independent unit noise would give them. The relative distance
    is the distance divided by the root mean square distance of the nearest rows, computed without this row; that
    reflects how much the curve bends and scatters there. Rows without two adjacent rows, or with too few rows nearby,
    are NaN.

    Args:
        x: Input, all different, shape (row,).
        y: ln(loss), shape (row,).
        out: Rows that are not used to judge others, shape (row,).
        place: `BETWEEN`, `AFTER` or `BEFORE`: position of the row relative to the two others.
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
    """Return `out` and the rows that lie clearly above the adjacent rows, found one by one, the clearest first.

    A failed row distorts the line and the usual distance for adjacent rows, so it is set aside before the next is
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
    """Return how far points lie above the line through two nodes, divided by its standard deviation for unit noise."""
    share = (x - nodes[0]) / (nodes[1] - nodes[0])
    return (y - (1.0 - share) * values[0] - share * values[1]) / np.sqrt(1.0 + share**2 + (1.0 - share) ** 2)
