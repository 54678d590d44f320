"""Class averages put back into the tomogram as napari layers: surfaces, vectors, class numbers and densities. No Qt."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._companions import class_column, pair_metadata, point_features
from napari_harmony._layers import KEY, LayerTuple
from napari_harmony._stacks import PaintedArray
from napari_harmony._tomograms import tomogram_of
from napari_harmony.analysis.map_back import Painted, Placement, orientation_vectors, surfaces, templates_of
from napari_harmony.errors import InputError
from napari_harmony.particles.coordinates import Coordinates, read_coordinates
from napari_harmony.particles.euler import relion_to_matrix

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.tomogram import Tomogram
    from napari_harmony.results import Result

SURFACES, CLASSES = "averages in the tomogram", "classes in the tomogram"
DENSITIES, Z_AXES, X_AXES = "densities in the tomogram", "z axes of the particles", "x axes of the particles"
LEFT_OUT, POINTS = "particles left out", "particles in the tomogram"
#: Roles of the layers that ``layers_of`` draws
ROLES = ("placed surfaces", "placed z axes", "placed x axes", "placed classes", "painted", "left out", "placed points")
POINTS_ROLE = ROLES[6]

_JUNK = ("junk", "not-finite", "constant")
_POSE = ["rot", "tilt", "psi", "origin_x", "origin_y", "origin_z"]
_ANGSTROM = [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
_PIXELS = [f"rlnOrigin{axis}" for axis in "XYZ"]
_IN_BOX = ["rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"]


@dataclass(frozen=True, eq=False)
class InTomogram:
    """The particles of a result that lie in one tomogram.

    Attributes
    ----------
    tomogram : it
    placement : of the particles that are shown, m of them
    rows : (m,) their particle numbers
    left_out : (l, 3) positions, (x, y, z) in voxels, of junk and of particles without a class
    """

    tomogram: Tomogram
    placement: Placement
    rows: NDArray[np.int64]
    left_out: NDArray[np.float64]


def find_in_tomogram(particles: Particles, result: Result, layers: Sequence[Any]) -> tuple[Any, InTomogram]:
    """The tomogram layer that the particles were cut from, of those given, and where in it they lie.

    Raises
    ------
    InputError : no layer is that tomogram; particles that do not say where they were
    """
    if not layers:
        raise InputError("Open the tomogram that the subtomograms were cut from: the averages are put back into it.")
    if len(layers) == 1:
        return layers[0], place_in_tomogram(particles, result, layers[0])
    problems = []
    for layer in layers:
        try:
            return layer, place_in_tomogram(particles, result, layer, named=True)
        except InputError as error:
            problems.append(str(error))
    raise InputError(f"None of the {len(layers)} tomograms fits the particles: {problems[0]}")


def place_in_tomogram(particles: Particles, result: Result, layer: Any, *, named: bool = False) -> InTomogram:
    """Where the particles of a result lie in the tomogram of a layer, by the coordinates in their STAR file.

    Parameters
    ----------
    particles, result : subtomograms and what a run found
    layer : of the tomogram
    named : only a tomogram that the STAR file names by its file name will do

    Raises
    ------
    InputError : particles that do not say where they were, or lie in other tomograms
    """
    tomogram = tomogram_of(layer)
    coordinates, turned = _moved(particles, result)
    numbered = replace(coordinates, table=coordinates.table.assign(_row=np.arange(len(coordinates))))
    if named and not _is_named(numbered, tomogram.path):
        raise InputError(f"{coordinates.name} does not name {tomogram.path.name}.")
    here = numbered.in_tomogram(tomogram.path)
    size = tomogram.voxel_size if tomogram.voxel_size_known else None
    here = here.in_voxels(size, shape=tomogram.shape, where=tomogram.path)
    rows = here.table["_row"].to_numpy(np.int64)
    table = result.table.iloc[rows]
    shown = is_shown(table) & np.isfinite(here.positions).all(axis=1)
    placement = Placement(here.positions[shown], turned[rows[shown]], table["class_number"].to_numpy(np.int64)[shown])
    rest = here.positions[~shown]
    return InTomogram(tomogram, placement, rows[shown], rest[np.isfinite(rest).all(axis=1)])


def is_shown(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Which particles have a class and a pose and are no junk, (n,)."""
    words = table["flags"].fillna("").str.split(",")
    junk = words.map(lambda flags: any(word in _JUNK for word in flags)).to_numpy(bool)
    posed = np.isfinite(table[_POSE].to_numpy(np.float64)).all(axis=1)
    return np.asarray((table["class_number"].to_numpy() > 0) & ~junk & posed)


def _is_named(coordinates: Coordinates, path: Path) -> bool:
    if coordinates.tomograms is None:
        return False
    names = {Path(str(name)).stem for name in coordinates.tomograms.tolist()}
    return any(name and name in path.stem for name in names)


def _moved(particles: Particles, result: Result) -> tuple[Coordinates, NDArray[np.float64]]:
    """The coordinates of all particles with the origins of the result, and R (n, 3, 3) of the tomogram's frame."""
    path = particles.metadata.path if particles.metadata is not None else particles.path
    if path is None or path.suffix.lower() != ".star":
        raise InputError(
            "These subtomograms do not say where in the tomogram they were; open the particles.star that Extract "
            "Subtomograms or RELION wrote."
        )
    found = read_coordinates(path)
    if len(found) != len(result):
        raise InputError(f"{path} has {len(found)} rows and the result {len(result)}; was the file changed?")
    pixel = found.pixel_size or 1.0
    box_frame = _box_frame(particles.table)
    earlier = _earlier_origins(particles.table, pixel)
    origins = result.table[_POSE[3:]].to_numpy(np.float64) * (particles.pixel_size / pixel)
    # what the file shifted by is taken back, what the run found is put in its place; both count in the frame of the box
    positions = found.positions + np.einsum("nji,nj->ni", box_frame, earlier - origins)
    angles = np.nan_to_num(result.table[_POSE[:3]].to_numpy(np.float64))
    return replace(found, positions=positions), relion_to_matrix(angles) @ box_frame


def _earlier_origins(table: pd.DataFrame, pixel: float) -> NDArray[np.float64]:
    """Origins that the file already had, in pixels of its coordinates, (n, 3)."""
    out = np.zeros((len(table), 3))
    for axis in range(3):
        if _ANGSTROM[axis] in table:
            out[:, axis] = table[_ANGSTROM[axis]].astype(float) / pixel
        elif _PIXELS[axis] in table:
            out[:, axis] = table[_PIXELS[axis]].astype(float)
    return out


def _box_frame(table: pd.DataFrame) -> NDArray[np.float64]:
    """How the box of each subtomogram was turned when it was cut, (n, 3, 3); RELION 4 can do that."""
    if not any(label in table for label in _IN_BOX):
        return np.broadcast_to(np.eye(3), (len(table), 3, 3))
    angles = [table[label].astype(float).to_numpy() if label in table else np.zeros(len(table)) for label in _IN_BOX]
    return relion_to_matrix(np.stack(angles, axis=-1))


# -- layers ----------------------------------------------------------------------------------------------------------


def layers_of(found: InTomogram, result: Result, space: dict[str, Any]) -> list[LayerTuple]:
    """The averages in their tomogram: surfaces, z axes and points, and hidden x axes, class numbers, densities, rest.

    Parameters
    ----------
    found : the particles in the tomogram
    result : of the run
    space : scale, units, axis labels and translation of the tomogram layer
    """
    placement = found.placement
    if not len(placement):
        raise InputError("No particle in this tomogram has a class: there is no average to put back.")
    templates = templates_of(result.averages, result.average_pixel_size / found.tomogram.voxel_size)
    painted = Painted(templates, placement, found.tomogram.shape)
    colours = class_colours(result.classes)
    length = 0.9 * max(template.reach for template in templates)
    for_points, for_vectors = pair_metadata(found.tomogram)
    drawn = [
        _surface_layer(painted, colours),
        *_vector_layers(placement, found.rows, colours, length, for_vectors),
        *_painted_layers(painted, colours),
        _left_out_layer(found),
        _points_layer(placement, point_features(placement, found.rows, result), colours, length / 5, for_points),
    ]
    return [(data, {**options, **space}, kind) for data, options, kind in drawn]


def class_colours(classes: int) -> NDArray[np.float64]:
    """One colour (red, green, blue, opacity) per class, (k, 4); neighbours differ, and a class keeps its colour."""
    hues = [(0.58 + 0.618034 * number) % 1.0 for number in range(classes)]
    return np.array([(*colorsys.hsv_to_rgb(hue, 0.6, 0.95), 1.0) for hue in hues]).reshape(-1, 4)


def _surface_layer(painted: Painted, colours: NDArray[np.float64]) -> LayerTuple:
    mesh = surfaces(painted.templates, painted.placement)
    count = len(colours)
    steps = {"colors": colours, "controls": np.linspace(0, 1, count + 1), "interpolation": "zero", "name": "classes"}
    options = {
        "name": SURFACES,
        "colormap": steps,
        "contrast_limits": (0.5, count + 0.5),
        "shading": "smooth",
        "metadata": {KEY: {"role": ROLES[0]}},
    }
    return (mesh.vertices, mesh.faces, mesh.classes), options, "surface"


def _vector_layers(
    placement: Placement, rows: NDArray[np.int64], colours: NDArray[np.float64], length: float, paired: dict[str, Any]
) -> list[LayerTuple]:
    features = {"particle": rows, "class_number": class_column(placement.classes, len(colours))}
    common = {
        "features": features,
        "edge_color": colours[placement.classes - 1],
        "edge_width": max(0.5, 0.08 * length),
        "length": length,
        "vector_style": "arrow",
        "projection_mode": "all",
    }
    z_axes, x_axes = orientation_vectors(placement, 1.0)
    return [
        (z_axes, {**common, "name": Z_AXES, "metadata": {KEY: {"role": ROLES[1]}, **paired}}, "vectors"),
        (x_axes, {**common, "name": X_AXES, "visible": False, "metadata": {KEY: {"role": ROLES[2]}}}, "vectors"),
    ]


def _painted_layers(painted: Painted, colours: NDArray[np.float64]) -> list[LayerTuple]:
    """Drawn for the slice that is looked at; hidden, because the 3D view would ask for all of them."""
    colormap: dict[int | None, Any] = {None: (0.0,) * 4, 0: (0.0,) * 4}
    colormap |= {number: tuple(colour) for number, colour in enumerate(colours, start=1)}
    brightest = max(float(template.matter.max()) for template in painted.templates)
    numbers = {
        "name": CLASSES,
        "colormap": colormap,
        "opacity": 0.6,
        "visible": False,
        "metadata": {KEY: {"role": ROLES[3]}},
    }
    densities = {
        "name": DENSITIES,
        "contrast_limits": (0.0, max(brightest, 1e-6)),
        "colormap": "green",
        "blending": "additive",
        "visible": False,
        "metadata": {KEY: {"role": ROLES[4]}},
    }
    return [
        (PaintedArray(painted, labels=True), numbers, "labels"),
        (PaintedArray(painted), densities, "image"),
    ]


def _points_layer(
    placement: Placement, features: pd.DataFrame, colours: NDArray[np.float64], size: float, paired: dict[str, Any]
) -> LayerTuple:
    """A point in the middle of each particle, seen through its surface, to be selected by."""
    options = {
        "name": POINTS,
        "features": features,
        "face_color": colours[placement.classes - 1],
        "border_color": colours[placement.classes - 1],
        "border_width": 0.3,
        "size": max(1.0, size),
        "blending": "translucent_no_depth",
        "projection_mode": "rescale_linear",
        "metadata": {KEY: {"role": POINTS_ROLE}, **paired},
    }
    return placement.positions[:, ::-1], options, "points"


def _left_out_layer(found: InTomogram) -> LayerTuple:
    options = {
        "name": f"{LEFT_OUT} ({len(found.left_out)})",
        "ndim": 3,
        "size": 6,
        "face_color": "#888888",
        "projection_mode": "rescale_linear",
        "visible": False,
        "metadata": {KEY: {"role": ROLES[5]}},
    }
    return found.left_out[:, ::-1], options, "points"
