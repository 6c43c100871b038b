"""How results show themselves: a text of one screen in notebooks, and a plot."""

from __future__ import annotations

import html
import importlib
from typing import Any


class Display:
    """A record that shows itself in a notebook, and draws itself with `plot`."""

    def _repr_html_(self) -> str:
        """Return the text of `repr` as preformatted HTML, for notebooks."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def plot(self, **options: Any) -> Any:
        """Draw the record with the function of `bayescale.plot` that suits it.

        Args:
            **options: Options of that function, such as `ax`.

        Returns:
            The matplotlib axes.
        """
        # By name: matplotlib, and modules that build on this one, are loaded with the first plot only.
        return importlib.import_module("bayescale.plot.records").draw(self, **options)
