"""Arrays behind layers: particles as stored or aligned, and tomograms; only what is looked at is read. No Qt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import affine_transform

from napari_harmony.errors import InputError
from napari_harmony.particles.euler import relion_to_matrix
from napari_harmony.particles.images import LazyStack, as_indices

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from napari_harmony.analysis.map_back import Painted
    from napari_harmony.particles.dataset import Indices, Particles
    from napari_harmony.particles.tomogram import Tomogram
    from napari_harmony.results import Result

_LARGEST_READ = 2 * 2**30  # bytes that one look may read: a 3D view would ask for all of a stack, or of a tomogram
_POSE_2D = ["psi", "origin_x", "origin_y", "scale"]
_ANGLES = ["rot", "tilt", "psi"]
_ORIGINS = ["origin_x", "origin_y", "origin_z"]


class ParticleStack(LazyStack):
    """The data of a layer that shows particles; carries what they are, so that a layer alone is enough to go on.

    Images make three axes (particle, y, x) and subtomograms four (particle, z, y, x), of which the first is a slider:
    also in the 3D view only one subtomogram is read.

    Attributes
    ----------
    particles : the whole data set
    result : the result the layer was drawn from, or None for a bare stack
    ids : (m,) particle of each image, or None where image i is particle i
    """

    def __init__(
        self,
        particles: Particles,
        result: Result | None = None,
        ids: NDArray[np.int64] | None = None,
        *,
        aligned: bool = False,
    ) -> None:
        source = particles.images if ids is None else _Subset(particles, ids)
        posed = aligner(result, ids) if aligned and result is not None else None
        super().__init__(source, posed)
        self.particles = particles
        self.result = result
        self.ids = ids
        self.aligned = aligned
        self._latest: tuple[int, NDArray[np.float32]] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ParticleStack:
        # nothing in here ever changes: duplicating a layer must not read a million particles
        return self

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        first = key[0] if isinstance(key, tuple) and key else key
        if isinstance(first, slice):
            count = len(range(*first.indices(self.shape[0])))
            size = count * self.nbytes // max(1, self.shape[0])
            if size > _LARGEST_READ:
                raise InputError(
                    f"{count:,} particles ({size / 2**30:.1f} GB) are too many to be shown at once; go back to the 2D "
                    "view with the particles on the slider."
                )
        return super().__getitem__(key)

    def _images(self, indices: Indices) -> NDArray[np.float32]:
        chosen = as_indices(indices, self.shape[0])
        if self.ndim == 3 or len(chosen) != 1:
            return super()._images(chosen)
        # the slices of one volume are asked for one after another: it is turned once
        latest = self._latest
        if latest is None or latest[0] != chosen[0]:
            volume = super()._images(chosen)
            volume.flags.writeable = False
            self._latest = latest = (int(chosen[0]), volume)
        return latest[1]

    def particle_at(self, position: int) -> int | None:
        """The particle shown at a slider position, or None outside the stack."""
        if not 0 <= position < self.shape[0]:
            return None
        return position if self.ids is None else int(self.ids[position])

    def position_of(self, particle: int) -> int | None:
        """The slider position of a particle, or None where this stack does not hold it."""
        if self.ids is None:
            return particle if 0 <= particle < self.shape[0] else None
        found = np.flatnonzero(self.ids == particle)
        return int(found[0]) if len(found) else None


class _Subset:
    """Some particles of a data set as an image source of its own."""

    def __init__(self, particles: Particles, ids: NDArray[np.int64]) -> None:
        self._particles = particles
        self._ids = ids
        self.shape: tuple[int, ...] = (len(ids), *particles.images.shape[1:])

    def read(self, indices: Indices) -> NDArray[np.float32]:
        chosen = indices if isinstance(indices, slice) else np.asarray(indices)
        return self._particles.read(self._ids[chosen])


def aligner(result: Result, ids: NDArray[np.int64] | None = None) -> Aligner | VolumeAligner:
    """The function behind an aligned stack of images or of subtomograms."""
    return VolumeAligner(result, ids) if result.dimensions == 3 else Aligner(result, ids)


class Aligner:
    """Puts images into the canonical frame of their class.

    Parameters
    ----------
    result : holds the poses, RELION's convention
    ids : (m,) particle of each image, or None where image i is particle i
    """

    def __init__(self, result: Result, ids: NDArray[np.int64] | None = None) -> None:
        table = result.table if ids is None else result.table.iloc[ids]
        self._poses = table[_POSE_2D].to_numpy(dtype=np.float64)

    def __call__(self, images: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images (k, box, box) of the numbers ``indices`` (k,), centred, turned upright and brought to scale 1."""
        posed = [align_image(image, *self._poses[i]) for image, i in zip(images, indices, strict=True)]
        return np.stack(posed) if posed else images


class VolumeAligner:
    """Puts subtomograms into the canonical frame of their class; parameters as ``Aligner``."""

    def __init__(self, result: Result, ids: NDArray[np.int64] | None = None) -> None:
        table = result.table if ids is None else result.table.iloc[ids]
        self._angles = table[_ANGLES].to_numpy(dtype=np.float64)
        self._origins = table[_ORIGINS].to_numpy(dtype=np.float64)
        self._scales = table["scale"].to_numpy(dtype=np.float64)

    def __call__(self, volumes: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Volumes (k, box, box, box) of the numbers ``indices`` (k,), centred, turned upright, brought to scale 1."""
        posed = [
            align_volume(volume, self._angles[i], self._origins[i], self._scales[i])
            for volume, i in zip(volumes, indices, strict=True)
        ]
        return np.stack(posed) if posed else volumes


def align_image(
    image: NDArray[np.float32], psi: float, origin_x: float, origin_y: float, scale: float = 1.0
) -> NDArray[np.float32]:
    """One image (box, box) moved by +origin (pixel), turned by +psi (degree) about floor(box / 2), divided by scale.

    One cubic resampling. What lies outside the image becomes its median; an image or a pose that is not finite comes
    back as it is.
    """
    if not np.isfinite([psi, origin_x, origin_y, scale]).all() or scale <= 0 or not np.isfinite(image).all():
        return image
    cos, sin = np.cos(np.deg2rad(psi)), np.sin(np.deg2rad(psi))
    # The pixel at (y, x) of the aligned image lies at c + scale * R(-psi) (. - c) - origin of the stored one.
    return _resampled(image, scale * np.array([[cos, -sin], [sin, cos]]), np.array([origin_y, origin_x]))


def align_volume(
    volume: NDArray[np.float32], angles: NDArray[np.float64], origin: NDArray[np.float64], scale: float = 1.0
) -> NDArray[np.float32]:
    """One volume (box, box, box), axes z, y, x, in the frame of its class: ``x_ref = R (x_vol - c + t) / scale + c``.

    One cubic resampling, as ``align_image``.

    Parameters
    ----------
    volume : a subtomogram
    angles : RELION's (rot, tilt, psi) in degrees, (3,)
    origin : t, (x, y, z) in voxels, (3,)
    scale : magnification of the particle
    """
    usable = np.isfinite([*angles, *origin, scale]).all() and scale > 0 and bool(np.isfinite(volume).all())
    if not usable:
        return volume
    back = relion_to_matrix(angles).T  # on (x, y, z); reversing both axes gives the same on (z, y, x)
    return _resampled(volume, scale * back[::-1, ::-1], np.asarray(origin)[::-1])


def _resampled(
    image: NDArray[np.float32], matrix: NDArray[np.float64], origin: NDArray[np.float64]
) -> NDArray[np.float32]:
    """An image or volume whose pixel p is found at ``matrix (p - c) + c - origin`` of the given one."""
    centre = np.array(image.shape) // 2
    offset = centre - matrix @ centre - origin
    cval = float(np.median(image))
    return np.asarray(affine_transform(image, matrix, offset, order=3, mode="constant", cval=cval))


class VolumeArray:
    """An array (z, y, x) of which whatever is looked at is read or drawn, and no more.

    Attributes
    ----------
    name : what messages call it
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)
    ndim = 3

    def __init__(self, shape: tuple[int, int, int], name: object) -> None:
        self.shape = shape
        self.name = name

    def region(self, start: list[int], stop: list[int]) -> NDArray[Any]:
        """The voxels from ``start`` to below ``stop`` (z, y, x)."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all voxels would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> VolumeArray:
        return self

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Voxels by whole numbers and slices, as of an array.

        Raises
        ------
        InputError : more is asked for than a view can show
        """
        parts = _region(key, self.shape)
        size = self.dtype.itemsize * math.prod(stop - start for start, stop, _ in parts)
        if size > _LARGEST_READ:
            raise InputError(
                f"{self.name} ({size / 2**30:.1f} GB) is too large to be shown as a whole; hide it, or go back to the "
                "2D view."
            )
        if not size:
            return np.empty([stop - start for start, stop, local in parts if not isinstance(local, int)], self.dtype)
        box = self.region([start for start, _, _ in parts], [stop for _, stop, _ in parts])
        return box[tuple(local for _, _, local in parts)]


class TomogramArray(VolumeArray):
    """The data of a layer that shows a tomogram.

    Attributes
    ----------
    tomogram : the file
    """

    def __init__(self, tomogram: Tomogram) -> None:
        super().__init__(tomogram.shape, tomogram.path)
        self.tomogram = tomogram

    def region(self, start: list[int], stop: list[int]) -> NDArray[np.float32]:
        """Read from the file."""
        return self.tomogram.read(start, stop)


class PaintedArray(VolumeArray):
    """The data of a layer that shows averages in a tomogram: their densities, or their class numbers.

    Attributes
    ----------
    painted : draws them
    """

    def __init__(self, painted: Painted, *, labels: bool = False) -> None:
        super().__init__(painted.shape, "the averages in the tomogram")
        self.painted = painted
        self.labels = labels
        self.dtype = np.dtype(np.uint16 if labels else np.float32)

    def region(self, start: list[int], stop: list[int]) -> NDArray[Any]:
        """Draw the particles that reach the region."""
        return (self.painted.labels if self.labels else self.painted.density)(start, stop)


def _region(key: Any, shape: tuple[int, ...]) -> list[tuple[int, int, Any]]:
    """For each axis the range (start, stop) that an index touches, and the index within that range."""
    parts = list(key) if isinstance(key, tuple) else [key]
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    return [_along(part, size) for part, size in zip(parts, shape, strict=True)]


def _along(part: Any, size: int) -> tuple[int, int, Any]:
    if isinstance(part, slice):
        steps = range(*part.indices(size))
        if not len(steps):
            return 0, 0, slice(None)
        return min(steps[0], steps[-1]), max(steps[0], steps[-1]) + 1, slice(None, None, steps.step)
    number = int(part)
    number += size if number < 0 else 0
    if not 0 <= number < size:
        raise IndexError(f"index {part} is out of range for {size} slices")
    return number, number + 1, 0
