"""Class averages as one picture beside the particles, with their numbers over them. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._companions import class_column
from napari_harmony._layers import KEY, LayerTuple, contrast_limits, flat_space
from napari_harmony._volume_averages import orthogonal_slices, volumes_layer
from napari_harmony.preferences import preferences

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

AVERAGES = "class averages"
LABELS = "class labels"
_LABEL_COLOUR = "#ffd166"
_GROUND = -10.0  # between class averages, in their deviations: black whatever they hold


@dataclass(frozen=True)
class Montage:
    """Class averages side by side in one picture.

    A picture in y and x lies beside the particles whatever the slider says; a stack of averages would be blank there
    from particle k on.

    Attributes
    ----------
    picture : (height, width) float32; every tile has mean 0 and deviation 1, so that all are seen at one contrast
    corners : (k, 2) of the tiles, (y, x) in pixels
    mean, deviation : (k,) that were taken away, so that the averages can be had back
    box : edge of a tile in pixels
    """

    picture: NDArray[np.float32]
    corners: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    box: int

    @classmethod
    def of(cls, averages: NDArray[Any], gap: int = 2) -> Montage:
        """Lay out averages (k, box, box) with ``gap`` pixels between them."""
        count, box = len(averages), int(averages.shape[-1])
        clean = np.nan_to_num(np.asarray(averages, dtype=np.float64))
        mean, deviation = clean.mean(axis=(1, 2)), clean.std(axis=(1, 2))
        deviation = np.where(deviation > 0, deviation, 1.0)
        columns = montage_columns(count)
        step = box + gap
        rows = max(1, -(-count // columns))
        picture = np.full((rows * step - gap, columns * step - gap), _GROUND, dtype=np.float32)
        corners = np.array([(i // columns * step, i % columns * step) for i in range(count)], dtype=np.int64)
        for i, (y, x) in enumerate(corners):
            picture[y : y + box, x : x + box] = (clean[i] - mean[i]) / deviation[i]
        return cls(picture, corners.reshape(-1, 2), mean, deviation, box)

    def contrast_limits(self) -> tuple[float, float]:
        """For showing the tiles, whatever lies between them."""
        return contrast_limits(self.picture[self.picture > _GROUND])

    def about(self) -> dict[str, Any]:
        """What ``averages_of`` needs beside the picture, in values that JSON can hold."""
        return {
            "corners": self.corners.tolist(),
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "box": self.box,
        }


def averages_of(picture: NDArray[Any], about: Mapping[str, Any]) -> NDArray[np.float32]:
    """The class averages (k, box, box) that a picture of them was made from."""
    box = about["box"]
    tiles = [np.asarray(picture)[y : y + box, x : x + box] for y, x in about["corners"]]
    scaled = zip(tiles, about["mean"], about["deviation"], strict=True)
    return np.array([tile * deviation + mean for tile, mean, deviation in scaled], dtype=np.float32)


def class_at(about: Mapping[str, Any], y: float, x: float) -> int | None:
    """The class (1-based) whose tile holds a pixel of the picture, or None between tiles."""
    for number, (top, left) in enumerate(about["corners"], start=1):
        if top - 0.5 <= y < top + about["box"] - 0.5 and left - 0.5 <= x < left + about["box"] - 0.5:
            return number
    return None


def montage_columns(count: int) -> int:
    """Tiles in a row, so that the picture is a little wider than high."""
    return max(1, int(np.ceil(np.sqrt(1.4 * max(1, count)))))


def average_layers(
    averages: NDArray[Any],
    counts: ArrayLike,
    resolution: ArrayLike,
    average_pixel_size: float,
    space: Mapping[str, Any],
    box: int,
) -> list[LayerTuple]:
    """Class averages beside the particles, and their numbers, counts and resolutions as text over them.

    Of subtomograms the picture shows orthogonal slices, and a third layer has the volumes.

    Parameters
    ----------
    averages : (k, b, b) or (k, b, b, b), on their own grid
    counts, resolution : (k,) particles, and angstrom (NaN: none)
    average_pixel_size : angstrom per pixel of ``averages``
    space : scale, units, axis labels and translation of the particle stack
    box : edge of the particles in pixels
    """
    volumes = averages.ndim == 4
    tiles = Montage.of(orthogonal_slices(averages) if volumes else averages)
    pixel = float(tuple(space["scale"])[-1])
    zoom = box / max(1, averages.shape[-1])  # averages may be cropped in Fourier space
    flat = {**flat_space(space, right=1.08 * box * pixel), "scale": (pixel * zoom, pixel * zoom)}
    counts, resolution = np.asarray(counts), np.asarray(resolution, dtype=np.float64)
    about = {
        "role": "averages",
        "counts": [int(c) for c in counts],
        "resolution": [round(float(r), 2) if np.isfinite(r) else None for r in resolution],
        "pixel_size": average_pixel_size,
        "slices": volumes,
        **tiles.about(),
    }
    image = {
        "name": AVERAGES,
        "contrast_limits": tiles.contrast_limits(),
        "colormap": preferences().colormap,
        "metadata": {KEY: about},
    }
    features = {
        "class_number": class_column(np.arange(1, len(averages) + 1), len(averages)),
        "count": counts.astype(int),
        "resolution": resolution,
        "label": caption(counts, resolution),
    }
    points = {
        "name": LABELS,
        "features": features,
        "text": {"string": "{label}", "color": _LABEL_COLOUR, "size": 9, "anchor": "lower_left"},
        "size": 1.0,
        "face_color": "transparent",
        "border_color": "transparent",
        "metadata": {KEY: {"role": "labels"}},
    }
    drawn: list[LayerTuple] = [
        (tiles.picture, {**image, **flat}, "image"),
        (tiles.corners.astype(float), {**points, **flat}, "points"),
    ]
    if volumes and len(averages):
        columns = montage_columns(len(averages))
        drawn.insert(0, volumes_layer(averages, columns, average_pixel_size, space, box, 1.08 * box * pixel))
    return drawn


def caption(counts: NDArray[Any], resolution: NDArray[Any]) -> list[str]:
    """What stands over each class average: number, particles, resolution where there is one."""
    texts = []
    for number, (count, angstrom) in enumerate(zip(counts, resolution, strict=True), start=1):
        ending = f", {angstrom:.1f} \N{ANGSTROM SIGN}" if count and np.isfinite(angstrom) else ""
        texts.append(f"{number}: {int(count):,}{ending}")
    return texts
