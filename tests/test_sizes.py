"""Amounts of memory in words."""

from __future__ import annotations

import pytest

from napari_harmony.errors import InputError
from napari_harmony.sizes import size_of, size_text


@pytest.mark.parametrize(("text", "size"), [("512M", 2**29), ("2g", 2**31), ("1.5GiB", 3 * 2**29), ("640 KB", None)])
def test_sizes_are_read(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(InputError, match="--memory is '640 KB': give a size such as 512M or 2G"):
            size_of(text, "--memory")
    else:
        assert size_of(text, "--memory") == size


@pytest.mark.parametrize("size", [2**10, 2**20, 1280 * 2**20, 3 * 2**30, 2**40])
def test_what_is_written_is_read(size: int) -> None:
    assert size_of(size_text(size), "memory") == size
