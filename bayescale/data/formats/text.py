"""Text: decoding of files in any usual encoding."""

from __future__ import annotations

import codecs

from bayescale.errors import InputError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; longer ones come before shorter ones with the same first bytes."""

HDF = b"\x89HDF\r\n\x1a\n"
"""First bytes of files with saved fits."""


def decode(content: bytes, label: str) -> tuple[str, str]:
    """Return the text of a file and its encoding.

    Raises:
        InputError: For a file that is empty or not text.
    """
    text, encoding = decoded(content, label)
    if not text.strip():
        raise InputError(f"{label} is empty; a header line and one row per run are expected.")
    if "\x00" in text:
        raise InputError(f"{label} is not text (it holds NUL bytes); a table of runs is expected.")
    return text, encoding


def decoded(content: bytes, label: str) -> tuple[str, str]:
    """Decode with the first encoding that works."""
    marked = next((encoding for mark, encoding in MARKS if content.startswith(mark)), None)
    if content.startswith(HDF):
        raise InputError(
            f"{label} is a saved fit, but a table of runs is expected. To use the fit, load it with "
            f"bs.load({label!r}) (bayescale predict {label} --at ...)."
        )
    refused = InputError(f"{label} is not text; a CSV file in UTF-8 is expected.")
    if marked is None:
        # In text with 16 bits a character and without a mark, every second byte is zero.
        half = len(content) // 2
        for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if half > 4 and len(content) % 2 == 0 and content[start::2].count(0) > 0.9 * half:
                marked = encoding
    try:
        return content.decode(marked or "utf-8"), marked or "utf-8"
    except UnicodeDecodeError:
        if marked:
            raise refused from None
    # Western text with 8 bits a character: mostly plain letters, no control characters.
    plain = sum(byte in (9, 10, 13) or 32 <= byte < 127 for byte in content)
    control = any(byte < 32 and byte not in (9, 10, 13) for byte in content)
    if control or plain < 0.8 * len(content):
        raise refused
    try:
        return content.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"
