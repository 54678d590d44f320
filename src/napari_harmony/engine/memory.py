"""Telling exhausted memory from other failures."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or numpy says that memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
