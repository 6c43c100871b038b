"""Figures: pictures of the pages as small files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from bayescale import _io, plot

LARGEST = 80_000
"""Most bytes of a picture, so that the repository stays small."""
TRIED = tuple((dpi, colors) for dpi in (150, 110, 80) for colors in (64, 48, 32))
"""Pixels an inch and sizes of the palette, in the order in which they are tried."""


def save(axes: Any, path: Path) -> Path:
    """Write the figure of some axes as a PNG file with as many pixels and colours as a small file can have.

    Args:
        axes: Axes, or several of one figure.
        path: The file.

    Returns:
        The path.
    """
    from PIL import Image

    drawn = {}
    data = io.BytesIO()
    for dpi, colors in TRIED:
        if dpi not in drawn:
            with Image.open(plot.save(axes, path, dpi=dpi)) as picture:
                drawn[dpi] = picture.convert("RGB")
        data = io.BytesIO()
        drawn[dpi].quantize(colors, dither=Image.Dither.NONE).save(data, format="png", optimize=True)
        if data.tell() <= LARGEST:
            break
    return _io.write(path, lambda part: part.write_bytes(data.getvalue()))
