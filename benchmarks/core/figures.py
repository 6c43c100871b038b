"""Figures: pictures of the pages as small files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from bayescale import _io, plot

DPI = 150
LARGEST = 80_000
"""Most bytes of a picture, so that the repository stays small."""
COLORS = (64, 48, 32, 24, 16, 12)
"""Sizes of the palette that are tried in turn."""


def save(axes: Any, path: Path) -> Path:
    """Write the figure of some axes as a PNG file with a palette of as many colours as a small file can have.

    Args:
        axes: Axes, or several of one figure.
        path: The file.

    Returns:
        The path.
    """
    from PIL import Image

    plot.save(axes, path, dpi=DPI)
    with Image.open(path) as drawn:
        picture = drawn.convert("RGB")
    for count in COLORS:
        data = io.BytesIO()
        picture.quantize(count, dither=Image.Dither.NONE).save(data, format="png", optimize=True)
        if data.tell() <= LARGEST:
            break
    return _io.write(path, lambda part: part.write_bytes(data.getvalue()))
