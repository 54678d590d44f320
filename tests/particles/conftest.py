"""Files made by hand, byte by byte where a library would not write them so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

STAMPS = {"<": (0x44, 0x44, 0, 0), ">": (0x11, 0x11, 0, 0)}


def mrc_bytes(data: np.ndarray, mode: int, *, order: str = "<", extended: bytes = b"", **fields: Any) -> bytes:
    """An MRC file with the pixels of ``data`` as they are in memory, any header field overridden."""
    header = np.zeros(1, HEADER_DTYPE.newbyteorder(order))
    nz, ny, nx = data.shape
    header["nx"], header["ny"], header["nz"], header["mode"] = nx, ny, nz, mode
    header["mx"], header["my"], header["mz"] = nx, ny, 1
    header["cella"] = (nx * 1.5, ny * 1.5, 1.5)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["map"] = b"MAP "
    header["machst"] = STAMPS[order]
    header["nsymbt"] = len(extended)
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + extended + data.astype(data.dtype.newbyteorder(order)).tobytes()


@pytest.fixture
def make_mrc(tmp_path: Path) -> Callable[..., Path]:
    """Write an MRC file: ``make_mrc(name, data, mode, order=, extended=, **header_fields)``."""

    def make(name: str, data: np.ndarray, mode: int = 2, **options: Any) -> Path:
        path = tmp_path / name
        path.write_bytes(mrc_bytes(data, mode, **options))
        return path

    return make


@pytest.fixture
def images() -> np.ndarray:
    """Five images of 8 x 8 pixels, float32, whole numbers that every mode can hold."""
    return np.random.default_rng(0).integers(0, 100, (5, 8, 8)).astype(np.float32)
