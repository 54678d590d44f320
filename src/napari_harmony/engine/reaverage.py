"""Averages of some classes once more from their particles, in the poses that a result has: one pass, no search.

Half sets are drawn among the members anew. They share the poses of the run, which saw them together, so that their
correlation is an upper bound; that of a run is of halves that never saw each other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_harmony.engine import discovery, halves
from napari_harmony.engine.clock import Clock
from napari_harmony.engine.defocus import refocused
from napari_harmony.engine.devices import choose_arithmetic, choose_device
from napari_harmony.engine.events import Done, Event
from napari_harmony.engine.geometry import Geometry, name_of
from napari_harmony.engine.posteriors import known_poses
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.search import Posterior, Sums, accumulating, maximise, pose_grid
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.subsets import split
from napari_harmony.engine.work import Work, portion
from napari_harmony.errors import InputError
from napari_harmony.particles.subset import subset

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

#: Parameters of the run that its averages depend on.
_OF_THE_RUN = ("transforms", "mask_diameter", "max_shift", "preset", "seed", "symmetry", "references")
_READING, _AVERAGING = "reading particles", "averaging"


@dataclass(frozen=True, eq=False)
class Averaged:
    """What was computed, with shapes as in ``Result``.

    Attributes
    ----------
    classes : (m,) numbers
    averages, frc, frc_floor, resolution : of these classes; resolution in angstrom
    half_averages : (2, m, box, box[, box])
    """

    classes: tuple[int, ...]
    averages: NDArray[np.float32]
    frc: NDArray[np.float32]
    frc_floor: NDArray[np.float32]
    resolution: NDArray[np.float32]
    half_averages: NDArray[np.float32]


def average_classes(
    particles: Particles, result: Result, classes: Sequence[int], device: str = "auto"
) -> Iterator[Event]:
    """Average some classes, each of at least one particle; ends with ``Done(Averaged)``.

    Raises
    ------
    InputError : result and particles do not belong together, or no particle of the classes holds an image
    """
    wanted = tuple(dict.fromkeys(classes))
    settings = settings_of(result, device)
    if len(particles) != len(result):
        raise InputError(f"The result has {len(result)} rows, the stack {len(particles)}: open the stack it is of.")
    rows = np.flatnonzero(np.isin(result.table["class_number"].to_numpy(), wanted))
    if not len(rows):
        raise InputError(f"class {wanted[0] if wanted else 0} has no particles to be averaged.")
    members = subset(replace(refocused(particles, result.table), metadata=None), rows)
    clock = Clock({_READING: 1.0, _AVERAGING: 1.0})
    run = _average_volumes if result.dimensions == 3 else _average_images
    yield Done((yield from clock.watch(run(members, result, rows, wanted, settings, clock))))


def settings_of(result: Result, device: str = "auto") -> Settings:
    """The settings that a result was made with, as far as averages depend on them."""
    given = result.summary.get("parameters", {})
    known: dict[str, Any] = {name: given[name] for name in _OF_THE_RUN if given.get(name) is not None}
    for name in ("transforms", "references"):
        if name in known:
            known[name] = tuple(known[name])
    if "references" in known:
        known["reference_lowpass"] = given.get("reference_lowpass", Settings.reference_lowpass)
    return Settings(**known, device=device)


Run = Generator[Event, None, Averaged]


def _average_images(
    members: Particles,
    result: Result,
    rows: NDArray[np.int64],
    wanted: tuple[int, ...],
    settings: Settings,
    clock: Clock,
) -> Run:
    device = choose_device(settings.device)
    prepared = yield from clock.follow(_READING, prepare(members, settings, device))
    geometry = prepared.geometry
    _check_grid(members, result, geometry)
    usable, table, label = _members(prepared, device, result, rows, wanted)
    posterior = known_poses(table, label, geometry.scale, device)
    generator = torch.Generator().manual_seed(settings.seed)
    arithmetic = choose_arithmetic(device, settings.batch_memory, settings.precision)
    search = discovery.Search(usable, arithmetic, generator, settings.transforms)
    first = torch.as_tensor(_first_half(label, usable.subset_number, generator), device=device)
    found = yield from clock.follow(_AVERAGING, _compared_images(search, posterior, first, len(wanted)))
    sums, agreement, basis = found
    both = Sums(*(one + two for one, two in zip(*((s.total, s.power, s.share) for s in sums), strict=True)))

    def rendered(some: Sums) -> NDArray[np.float32]:
        images = discovery.render_averages(basis, maximise(basis, some).coefficients, geometry.box)
        return images.cpu().numpy().astype(np.float32)

    return _averaged(wanted, rendered(both), np.stack([rendered(half) for half in sums]), agreement, geometry)


def _compared_images(
    search: discovery.Search, posterior: Posterior, first: torch.Tensor, classes: int
) -> Work[tuple[tuple[Sums, Sums], halves.Agreement, Any]]:
    """Sums of both halves over the whole band, and what they agree on: they share a frame and are not aligned."""
    basis = yield from portion(search.built(np.inf), 0.0, 0.3)
    data = search.prepared.observe(basis)
    one = yield from portion(accumulating(data, posterior.only(first), classes), 0.3, 0.5)
    two = yield from portion(accumulating(data, posterior.only(~first), classes), 0.5, 0.7)
    grid = pose_grid(1, 0.0, 1.0, search.sigma, search.device)
    comparison = halves.compare_halves(basis, search.geometry.box, one, two, grid, search.generator)
    agreement = yield from portion(comparison, 0.7, 1.0)
    return (one, two), agreement, basis


def _average_volumes(
    members: Particles,
    result: Result,
    rows: NDArray[np.int64],
    wanted: tuple[int, ...],
    settings: Settings,
    clock: Clock,
) -> Run:
    from napari_harmony.analysis.fsc import of_classes, worse_of
    from napari_harmony.engine.volumes import posteriors as volumes
    from napari_harmony.engine.volumes.discovery import Search
    from napari_harmony.engine.volumes.prepare import prepare as prepare_volumes
    from napari_harmony.engine.volumes.search import filtered, signal_variance

    device = choose_device(settings.device)
    prepared = yield from clock.follow(_READING, prepare_volumes(members, settings, device))
    geometry = prepared.geometry
    _check_grid(members, result, geometry)
    usable, table, label = _members(prepared, device, result, rows, wanted)
    posterior = volumes.known_poses(table, label, geometry.scale, device)
    generator = torch.Generator().manual_seed(settings.seed)
    search = Search(usable, generator, settings.transforms, symmetry=settings.symmetry)
    first = torch.as_tensor(_first_half(label, usable.subset_number, generator), device=device)
    found = yield from clock.follow(_AVERAGING, _compared_volumes(search, settings, posterior, first, len(wanted)))
    sums, agreement = found
    variance = signal_variance(sums[0] + sums[1])
    averages = (filtered(sums[0] + sums[1], variance) * search.mask).cpu().numpy().astype(np.float32)
    half_averages = np.stack([filtered(half, variance).cpu().numpy() for half in sums]).astype(np.float32)
    made = _averaged(wanted, averages, half_averages, agreement, geometry)
    stated = worse_of(made.resolution, of_classes(averages, half_averages), geometry.pixel_size)
    return replace(made, resolution=stated)


def _compared_volumes(
    search: Any, settings: Settings, posterior: Any, first: torch.Tensor, classes: int
) -> Work[tuple[list[Any], halves.Agreement]]:
    """Sums of both halves, and what they agree on beyond the detail that common references showed both.

    They share a frame, so that they, and the decoys, are aligned from there on alone.
    """
    from napari_harmony.engine.volumes.halves import compare_halves
    from napari_harmony.engine.volumes.plans import PLANS
    from napari_harmony.transforms import so3

    sums = []
    for done, chosen in enumerate((first, ~first), start=1):
        sums.append(search.sums(search.prepared.data, posterior.entries(chosen), classes))
        yield 0.3 * done
    stage, geometry = PLANS[settings.preset].weigh, search.geometry
    how = search.alignment(search.data(stage.limit), stage)
    still = replace(how.shifts, offset=torch.zeros(1, 3, device=search.device))
    how = replace(how, rotations=so3.identity(1, device=search.device), shifts=still)
    if settings.references:
        beyond = int(np.ceil(geometry.box * geometry.pixel_size / settings.reference_lowpass))
        how = replace(how, trusted=min(beyond, geometry.box // 2 - 3))
    comparison = compare_halves(sums[0], sums[1], search.mask, how, search.generator)
    agreement, _ = yield from portion(comparison, 0.6, 1.0)
    return sums, agreement


def _check_grid(members: Particles, result: Result, geometry: Geometry) -> None:
    """Raise ``InputError`` unless new averages have the grid of those that the result has."""
    box, pixel = result.averages.shape[-1], result.average_pixel_size
    if geometry.box != box or abs(geometry.pixel_size / pixel - 1) > 1e-3:
        raise InputError(
            f"{name_of(members)}: averages of {geometry.box} pixels of {geometry.pixel_size:.3g} A do not fit those of "
            f"the result, {box} of {pixel:.3g} A: open the particles at the pixel size of the run."
        )


def _members(
    prepared: Any, device: torch.device, result: Result, rows: NDArray[np.int64], wanted: tuple[int, ...]
) -> tuple[Any, pd.DataFrame, NDArray[np.int64]]:
    """Prepared particles that hold a signal of their own, their rows of the table, and their places in ``wanted``.

    Their order does not depend on that of the file. ``rows`` of the result are those that were prepared.
    """
    found = np.flatnonzero(prepared.usable)
    order = found[np.argsort(prepared.keys[found], kind="stable")]
    table = result.table.iloc[rows[order]]
    place = np.zeros(result.classes + 1, dtype=np.int64)
    place[list(wanted)] = np.arange(len(wanted))
    usable = prepared.subset(torch.as_tensor(order, device=device))
    return usable, table, place[table["class_number"].to_numpy()]


def _first_half(
    label: NDArray[np.int64], subsets: NDArray[np.int64] | None, generator: torch.Generator
) -> NDArray[np.bool_]:
    """Which particles are in the first half set of their class: as the input says, or by chance."""
    first = np.zeros(len(label), dtype=bool)
    for number in np.unique(label):
        rows = np.flatnonzero(label == number)
        chosen, _ = split(len(rows), generator, None if subsets is None else subsets[rows])
        first[rows[chosen.numpy()]] = True
    return first


def _averaged(
    wanted: tuple[int, ...],
    averages: NDArray[np.float32],
    half_averages: NDArray[np.float32],
    agreement: halves.Agreement,
    geometry: Geometry,
) -> Averaged:
    resolution = (geometry.box * geometry.pixel_size / agreement.resolution).astype(np.float32)
    return Averaged(wanted, averages, agreement.frc, agreement.floor, resolution, half_averages)
