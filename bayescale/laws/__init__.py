"""Laws: mean functions of scaling laws, each declared once, and the registry that collects them."""

from __future__ import annotations

from bayescale.laws.law import Law, LawInfo, bind, renamed  # noqa: F401, the last two for the package itself
from bayescale.laws.registry import ALIASES, LAWS, Alias, alias, automatic, get, register_law, search, variant

# Importing a module of the catalogue registers its laws; modules use functions of earlier ones.
from bayescale.laws.catalogue import one_input, joint, architecture, data, precision, schedule  # isort: skip  # noqa: F401
from bayescale.laws.catalogue import downstream, trends, inference, posttraining  # isort: skip  # noqa: F401
from bayescale.laws.catalogue import data_decisions, shape  # isort: skip  # noqa: F401
from bayescale.laws import optimum  # isort: skip

BUILT_IN = tuple(LAWS)
"""Names of the laws that come with the package."""

__all__ = [
    "ALIASES",
    "BUILT_IN",
    "LAWS",
    "Alias",
    "Law",
    "LawInfo",
    "alias",
    "automatic",
    "get",
    "optimum",
    "register_law",
    "search",
    "variant",
]
