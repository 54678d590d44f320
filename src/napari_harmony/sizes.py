"""Amounts of memory and disk as people write them: 512M, 1.5G."""

from __future__ import annotations

import re

from napari_harmony.errors import InputError

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size_of(text: str, name: str) -> int:
    """Bytes of a size such as ``1.5G``; ``name`` is what the size is of, for the message.

    Raises
    ------
    InputError : it is no size
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InputError(f"{name} is '{text}': give a size such as 512M or 2G.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def size_text(size: int) -> str:
    """The shortest words that ``size_of`` understands as exactly so many bytes, a whole number of kilobytes."""
    unit = next(unit for unit in "TGMK" if size % _UNITS[unit] == 0 or unit == "K")
    return f"{size // _UNITS[unit]}{unit}"
