"""What the navigator dock asks of a model: directions, pictures, particles in another's pose, files. No Qt here.

Torch is imported in the functions, not with the module: opening the dock must not wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.engine.events import Done, Event, Progress
from napari_harmony.errors import InputError
from napari_harmony.widgets._work import load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.navigation import Navigation
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

#: How far sliders reach to both sides, in standard deviations of the particles.
LIMIT = 2.0


def model_in(folder: str | None) -> Path | None:
    """The folder, where it is that of a finished run with its model."""
    from napari_harmony.outputs import names

    if not folder:
        return None
    path = Path(folder)
    return path if all((path / name).is_file() for name in names.MODEL) else None


def find_directions(model: Any, result: Result, class_number: int | None = None) -> Iterator[Event]:
    """Find directions in the content codes; ends with ``Done(navigation, model)``.

    Parameters
    ----------
    model : that gave ``result`` its content codes, or the folder it is in
    class_number : look among the particles of this class, None for all

    Raises
    ------
    InputError : the model is not there, or not that of the result
    """
    yield Progress("loading the model", 0.0)
    from napari_harmony.engine.navigate import navigation_of

    if isinstance(model, Path):
        model = load_model(model)
    for event in navigation_of(model, result, class_number=class_number):
        yield Done(event.value, model) if isinstance(event, Done) else event


def read_directions(model: Any, result: Result, path: Path) -> Iterator[Event]:
    """Take directions from a file; ends with ``Done(navigation, model)``. Parameters as ``find_directions``.

    Raises
    ------
    InputError : the model or the file cannot be read, or the directions are those of other codes
    """
    yield Progress("reading the directions", 0.0)
    from napari_harmony.analysis.navigation import Navigation

    navigation, size = Navigation.load(path), result.content.shape[1]
    if navigation.centre.size != size:
        raise InputError(
            f"{path}: these directions are of codes of {navigation.centre.size} numbers, the result has {size}: open "
            "those that were found in this result."
        )
    yield Done(navigation, load_model(model) if isinstance(model, Path) else model)


def draws_sharp(model: Any) -> bool:
    """Whether a model has a diffusion decoder."""
    return model is not None and any(word.partition("=")[0] == "diffusion" for word in model.card.additions)


def draw(model: Any, codes: NDArray[np.floating], *, sharp: bool = False) -> NDArray[np.float32]:
    """Canonical pictures (n, box, box), or volumes (n, box, box, box), of content codes (n, d).

    The same codes always give the same pictures, sharp ones too.
    """
    from napari_harmony.models.canonical import canonical

    return canonical(model, np.atleast_2d(codes), sharp=sharp)


def shown_range(model: Any, navigation: Navigation) -> tuple[float, float]:
    """Grey values between which everything that the sliders can show lies, taken from their ends."""
    from napari_harmony._layers import contrast_limits

    ends = np.concatenate([[np.zeros(len(navigation.basis))], LIMIT * np.eye(len(navigation.basis))])
    ends = np.concatenate([ends, -ends[1:]])
    return contrast_limits(draw(model, np.stack([navigation.code(navigation.centre, end) for end in ends])))


def draw_sharp(model: Any, code: NDArray[np.floating]) -> Iterator[Event]:
    """One sharp picture as a run of its own; ends with ``Done(picture)``."""
    yield Progress("drawing", 0.0)
    yield Done(draw(model, code, sharp=True)[0])


# -- content of one in the pose of another --------------------------------------------------------------------------


def in_pose_of(picture: NDArray[np.float32], result: Result, particle: int, box: int) -> NDArray[np.float32]:
    """A canonical picture (b, b) or volume (b, b, b) as it looks in the pose of a particle, with its contrast.

    Parameters
    ----------
    box : edge of the stored particles in pixels, which the shifts of the result are in

    Raises
    ------
    InputError : the particle has no pose
    """
    import torch

    from napari_harmony.transforms import Pose2D, Pose3D, render, render_volumes

    volume = picture.ndim == 3
    angles, axes = (("rot", "tilt", "psi"), "xyz") if volume else (("psi",), "xy")
    row = result.table.iloc[particle]
    numbers = row[[*angles, *(f"origin_{axis}" for axis in axes), "scale", "contrast"]].to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all() or row["scale"] <= 0:
        raise InputError(f"Particle {particle} has no pose ({row['flags'] or 'not finite'}): choose another one as B.")
    values = torch.as_tensor(numbers, dtype=torch.float32)[None]
    turn, origin = values[:, : len(angles)], values[:, len(angles) : -2]
    more = {"log_scale": values[:, -2].log(), "gain": values[:, -1]}
    image, zoom = torch.as_tensor(picture)[None], picture.shape[-1] / box
    if volume:
        found = Pose3D.from_relion(turn, origin)
        pose = Pose3D.of(found.quaternion, found.shift, **more).on_grid(zoom)
        return render_volumes(image, pose, fast=True)[0].numpy()
    flat = Pose2D.from_relion(turn[:, 0], origin)
    return render(image, Pose2D.of(flat.angle, flat.shift, **more).on_grid(zoom))[0].numpy()


def picture_of(particles: Particles, particle: int, box: int) -> NDArray[np.float32]:
    """A particle as it is stored, cut in Fourier space to an edge of ``box`` pixels; its centre stays the centre."""
    import torch

    from napari_harmony.transforms.render import resize_axis

    stored = torch.as_tensor(np.nan_to_num(particles.read([particle])[0]))
    axes, old = tuple(range(stored.ndim)), stored.shape[-1]
    if box >= old:
        return stored.numpy()
    spectrum = torch.fft.fftn(torch.fft.ifftshift(stored))
    for axis in axes:
        spectrum = resize_axis(spectrum, axis, box)
    cut = torch.fft.fftshift(torch.fft.ifftn(spectrum).real) * (box / old) ** stored.ndim
    return cut.float().numpy()


# -- a series of frames along a direction ---------------------------------------------------------------------------


def write_series(model: Any, codes: NDArray, path: Path, pixel_size: float, *, sharp: bool = False) -> Iterator[Event]:
    """Draw codes (n, d) and write them; ends with ``Done(paths)``. All files appear, or none.

    Pictures go into one MRC stack ``path`` (``.mrcs``), volumes into ``path`` (``.mrc``) with ``_001``, ``_002``...
    before its suffix.

    Parameters
    ----------
    pixel_size : angstrom per pixel of what the model draws

    Raises
    ------
    InputError : there is no such folder, or it has numbered volumes of this name already
    """
    frames = []
    for i, code in enumerate(codes):
        yield Progress("drawing frames", i / len(codes), f"{i + 1} of {len(codes)}")
        frames.append(draw(model, code, sharp=sharp)[0])
    yield Progress("writing", 1.0)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder; choose another place.")
    volumes = model.card.dimensions == 3
    yield Done(_write_volumes(frames, path, pixel_size) if volumes else _write_stack(frames, path, pixel_size))


def _write_stack(frames: list[NDArray], path: Path, pixel_size: float) -> list[Path]:
    from napari_harmony.particles.mrc import write_stack

    path = path if path.suffix == ".mrcs" else Path(f"{path}.mrcs")
    write_stack(path, np.stack(frames), pixel_size)
    return [path]


def _write_volumes(frames: list[NDArray], path: Path, pixel_size: float) -> list[Path]:
    from napari_harmony.outputs.staging import staged
    from napari_harmony.particles.mrc import write_volume

    folder, stem = path.parent, path.stem if path.suffix == ".mrc" else path.name
    taken = sorted(there.name for there in folder.iterdir() if re.fullmatch(rf"{re.escape(stem)}_\d+\.mrc", there.name))
    if taken:
        # the dialog asked about the name without a number only, and frames of two series must not mix
        raise InputError(f"{folder / taken[0]}: there is a series of this name already; choose another name.")
    names = [f"{stem}_{number:03d}.mrc" for number in range(1, len(frames) + 1)]
    with staged(folder, names) as stage:
        for name, frame in zip(names, frames, strict=True):
            write_volume(stage / name, frame, pixel_size)
    return [folder / name for name in names]


def export_name(navigation: Navigation, direction: int, dimensions: int) -> str:
    """A file name for the series of a direction: its name in plain letters."""
    letters = "".join(c if c.isalnum() or c in "-_" else "_" for c in name_of(navigation, direction)).strip("_")
    return f"{letters or 'direction'}{'.mrc' if dimensions == 3 else '.mrcs'}"


def name_of(navigation: Navigation, direction: int) -> str:
    """What the user calls a direction; before that, its number."""
    names = navigation.names
    return (names[direction] if names and direction < len(names) else "") or f"direction {direction + 1}"
