"""Display of results: a text of one screen in notebooks, and a plot."""

from __future__ import annotations

import html
import importlib
from typing import Any


class Display:
    """A record that is displayed as text in a notebook and plotted with `plot`."""

    def _repr_html_(self) -> str:
        """Return the text of `repr` as preformatted HTML, for notebooks."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def plot(self, **options: Any) -> Any:
        """Draw the record as a plot with the function of `bayescale.plot` for its class.

        Args:
            **options: Options of that function, such as `ax`.

        Returns:
            The matplotlib axes.
        """
        # Imported here, so that matplotlib is loaded with the first plot only, and because `plot` imports this module.
        return importlib.import_module("bayescale.plot.records").draw(self, **options)
