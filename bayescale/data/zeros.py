"""Zeros: inputs that may be zero, such as the fraction of a domain in a mixture or the mantissa bits of a format."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from bayescale._jax import on_cores
from bayescale.errors import InputError, some

ZERO = 1e-6
"""Value that replaces zero on the log scale; fractions and bits this small change no law by a millionth."""
BITS = ("exponent_bits", "mantissa_bits")


def may_be_zero(name: str) -> bool:
    """Return whether an input may be zero.

    Example:
        >>> may_be_zero("share_2"), may_be_zero("mantissa_bits"), may_be_zero("n_params")
        (True, True, False)
    """
    return name in BITS or name == "share" or name.startswith("share_")


def lifted(name: str, values: np.ndarray) -> np.ndarray:
    """Return values of an input, with zeros replaced by `ZERO` if the input may be zero."""
    return np.where(values == 0.0, ZERO, values) if may_be_zero(name) else values


def refuse_zeros(law: Any, frame: pd.DataFrame, label: str) -> None:
    """Refuse rows in which an input is zero, if the law has no finite limit there.

    Args:
        law: A law, bound to its inputs.
        frame: Rows of runs, with zeros replaced by `ZERO`.
        label: Name of the runs.

    Raises:
        InputError: With the law, the input and the rows.
    """
    for name in law.inputs:
        rows = np.flatnonzero(frame[name].to_numpy(float) == ZERO) if may_be_zero(name) else []
        if not len(rows):
            continue
        # Whether the limit exists depends on the form of the law, not on its constants.
        constants = dict.fromkeys(law.constants, 0.5)
        with on_cores():
            x = [jnp.asarray(0.0 if one == name else 0.5) for one in law.inputs]
            found = float(law.function(*x, **constants))
        if name not in law.exempt or not np.isfinite(found):
            raise InputError(
                f"{law.name} has no limit where {name} is 0, as in rows {some([int(row) + 1 for row in rows])} of "
                f"{label}. Leave these rows out, or choose another law (law=, bayescale fit --law)."
            )
