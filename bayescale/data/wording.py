"""Wording: counts, compute and inputs as people write them, for reports and plots."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayescale.data.ray import Ray

NAMES = {
    "n_params": "parameters",
    "n_tokens": "training tokens",
    "flops": "FLOP",
    "n_samples": "training samples",
    "n_steps": "training steps",
    "step": "steps",
    "unique_tokens": "distinct tokens",
    "unique_samples": "distinct samples",
    "batch_tokens": "tokens a batch",
    "tokens_per_param": "tokens per parameter",
    "value_se": "standard error",
    "n_experts": "experts",
}
"""Names of inputs that are counts, with their unit."""
LARGE = ((1e15, "quadrillion", "e15"), (1e12, "trillion", "T"), (1e9, "billion", "B"), (1e6, "million", "M"))
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"


def power_of_ten(value: float, digits: int = 3) -> str:
    """Write a number as a multiple of a power of ten.

    Example:
        >>> power_of_ten(1.5e21)
        '1.5 × 10²¹'
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{float(mantissa):g} × 10{str(int(power)).translate(RAISED)}"


def short_count(value: float, digits: int = 3) -> str:
    """Write a count with a suffix.

    Example:
        >>> short_count(7.31e10), short_count(1.4e12), short_count(42)
        ('73.1B', '1.4T', '42')
    """
    rounded = float(f"{value:.{digits}g}")
    for size, _, suffix in LARGE[1:]:
        if size <= abs(rounded) < 1e15:
            return f"{rounded / size:g}{suffix}"
    return power_of_ten(value, digits) if abs(rounded) >= 1e15 else f"{rounded:g}"


def long_count(value: float, digits: int = 3) -> str:
    """Write a count with the word for its size.

    Example:
        >>> long_count(7e10), long_count(2.5e5), long_count(0.003)
        ('70 billion', '250,000', '0.003')
    """
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 1e18 or (rounded != 0 and abs(rounded) < 1e-4):
        return power_of_ten(value, digits)
    for size, word, _ in LARGE:
        if abs(rounded) >= size:
            return f"{rounded / size:g} {word}"
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def quantity(name: str, value: float) -> str:
    """Write one input with its unit.

    Example:
        >>> quantity("flops", 1e21), quantity("n_params", 7e10), quantity("learning_rate", 3e-4)
        ('1 × 10²¹ FLOP', '70 billion parameters', 'learning rate 0.0003')
    """
    if name == "flops":
        return f"{power_of_ten(value)} FLOP"
    if name in NAMES:
        return f"{long_count(value)} {NAMES[name]}"
    return f"{name.replace('_', ' ')} {long_count(value)}"


def quantities(inputs: Mapping[str, float]) -> str:
    """Write several inputs.

    Example:
        >>> quantities({"n_params": 7e10, "n_tokens": 1.4e12})
        '70 billion parameters and 1.4 trillion training tokens'
    """
    parts = [quantity(name, value) for name, value in inputs.items()]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def factor_unit(ray: Ray | None) -> str:
    """Return the noun for the quantity that the extrapolation factor of a fit refers to.

    Along a ray, this is the compute, or all inputs together.
    """
    if ray is None or sum(ray.powers) == 1.0:
        return "beyond the data"
    return "the compute" if set(ray.names) == {"n_params", "n_tokens"} else "all inputs together"


def ray_words(ray: Ray) -> str:
    """Describe in words the ray on which all runs lie."""
    first, parts = ray.names[0], []
    for name, center, power in zip(ray.names[1:], ray.center[1:], ray.powers[1:], strict=True):
        if power == 0.0:
            parts.append(f"always {quantity(name, math.exp(center))}")
        elif power == 1.0:
            each = NAMES.get(first, first.replace("_", " ")).removesuffix("s")
            what = NAMES.get(name, name.replace("_", " "))
            parts.append(f"{long_count(math.exp(center - ray.center[0]))} {what} for each {each}")
        else:
            grows, base = (NAMES.get(n, n.replace("_", " ")) for n in (name, first))
            parts.append(f"{grows} in proportion to {base} to the power {power:.3g}")
    return ", ".join(parts)


def in_words(text: str) -> str:
    """Replace code in a sentence by words: `n_params=7e+10` and `1e+21` are written as people write them.

    Example:
        >>> in_words("Add a run at n_params=7e+10, n_tokens=1.4e+12: flops moved by 1e+03.")
        'Add a run at 70 billion parameters, 1.4 trillion training tokens: compute moved by 1,000.'
    """
    text = re.sub(rf"\b([A-Za-z]\w*)\s?=\s?({NUMBER})(?![\w.]*\w)", lambda m: quantity(m[1], float(m[2])), text)
    text = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?e[-+]?\d+)(?!\w)", lambda m: long_count(float(m[1])), text)
    text = re.sub(r"\bflops\b", "compute", text)
    for name in sorted(NAMES, key=len, reverse=True):
        if "_" in name:
            text = re.sub(rf"\b{name}\b", NAMES[name], text)
    return re.sub(r"(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])", " ", text)
