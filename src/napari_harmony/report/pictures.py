"""Images and colours for web pages, without any plotting library."""

from __future__ import annotations

import base64
import colorsys
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Ten colours that stay apart on white and on black, and for readers with colour-vision deficiency as far as ten can.
_PALETTE = (
    "#4c78d8",
    "#e8862e",
    "#2fa36b",
    "#d6455d",
    "#8c6bd1",
    "#1fa4b8",
    "#c79a1b",
    "#d565b0",
    "#7f9c3b",
    "#a0705a",
)
UNCLASSIFIED = "#8a8f98"
_LARGEST_EDGE = 192


def class_colour(number: int) -> str:
    """A colour for a class: the palette for 1..10, then hues that never repeat; grey for 0."""
    if number <= 0:
        return UNCLASSIFIED
    if number <= len(_PALETTE):
        return _PALETTE[number - 1]
    golden = 0.618033988749895
    red, green, blue = colorsys.hls_to_rgb((number * golden) % 1.0, 0.55, 0.55)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in (red, green, blue))


def central_slices(volume: NDArray[np.floating]) -> NDArray[np.floating]:
    """The slices of a volume (z, y, x) through its centre, side by side, (b, 3 b): across z, y and x.

    Columns and rows are x and y, x and z, y and z; rows run downwards.
    """
    z, y, x = (edge // 2 for edge in volume.shape)
    return np.concatenate([volume[z], volume[:, y], volume[:, :, x]], axis=1)


def grey_image(image: NDArray[np.floating], largest_edge: int = _LARGEST_EDGE) -> NDArray[np.uint8]:
    """An image (h, w) stretched to 0..255 between its 0.5 and 99.5 percentiles; a constant one becomes mid-grey."""
    values = _binned(np.asarray(image, dtype=np.float32), largest_edge)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    if not high > low:
        return np.full(values.shape, 128, dtype=np.uint8)
    stretched = np.clip((np.nan_to_num(values, nan=float(low)) - low) / (high - low), 0, 1)
    return np.round(255 * stretched).astype(np.uint8)


def _binned(image: NDArray[np.float32], largest_edge: int) -> NDArray[np.float32]:
    """The image averaged over squares of pixels until its edge is small enough for a page."""
    factor = -(-max(image.shape) // largest_edge)
    if factor < 2:
        return image
    height, width = (edge // factor for edge in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    binned: NDArray[np.float32] = blocks.mean(axis=(1, 3))
    return binned


def png(image: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey image (h, w) as a PNG file."""
    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image], axis=1)  # filter type 0 before every row
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def data_uri(image: NDArray[np.floating]) -> str:
    """An image (h, w) of any range as the ``src`` of an HTML image; squares side by side keep their size."""
    edge = _LARGEST_EDGE * max(1, image.shape[1] // max(image.shape[0], 1))
    return "data:image/png;base64," + base64.b64encode(png(grey_image(image, edge))).decode("ascii")


def montage(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Images (k, h, w) side by side in a grid of about as many rows as columns, each stretched on its own."""
    tiles = [grey_image(image) for image in images]
    if not tiles:
        return np.full((1, 1), 128, np.uint8)
    columns = int(np.ceil(np.sqrt(len(tiles))))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])
