"""What a data set is: lazy images, one row per particle, and how large a pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.ctf import CtfParameters
    from napari_harmony.particles.wedge import Wedge

Indices = Sequence[int] | slice | np.ndarray


class ImageSource(Protocol):
    """Particle images, or volumes, that are read only when asked for.

    ``shape`` is (n, box, box) or, for volumes in the order z, y, x, (n, box, box, box); ``read`` gives float32 arrays
    of shape (len(indices), box, box[, box]) in the order asked.
    Opening a source reads headers, never images.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, indices: Indices) -> NDArray[np.float32]: ...


class Metadata(Protocol):
    """The file a data set came from, kept so that it can be written back with nothing lost."""

    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Particles:
    """A particle stack, of images or of subtomograms, with its per-particle rows.

    Attributes
    ----------
    images : lazy source of shape (n, box, box), or (n, box, box, box) for subtomograms (z, y, x)
    table : one row per particle in input order, RangeIndex; holds the labels of the metadata file as they are
        (``rlnMicrographName``...), and ``rlnAnglePsi``... only if the file had them. Empty columns for a bare stack.
    pixel_size : angstrom per pixel of ``images`` (1.0 and ``pixel_size_known=False`` where no file says it)
    ctf : per-particle CTF, or None where unknown
    metadata : the parsed metadata file (STAR, .cs), or None for a bare stack
    path : what the user opened
    wedge : where the subtomograms have data in Fourier space, or None where unknown and for images
    """

    images: ImageSource
    table: pd.DataFrame
    pixel_size: float
    ctf: CtfParameters | None = None
    metadata: Metadata | None = None
    path: Path | None = None
    pixel_size_known: bool = True
    wedge: Wedge | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def box(self) -> int:
        """Edge of the images in pixels, of the volumes in voxels."""
        return self.images.shape[-1]

    @property
    def dimensions(self) -> int:
        """2 for images, 3 for subtomograms."""
        return len(self.images.shape) - 1

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Images (len(indices), box, box) or volumes (len(indices), box, box, box), float32, as stored."""
        return self.images.read(indices)

    def with_ctf(self, ctf: CtfParameters | None) -> Particles:
        """The same particles under another CTF."""
        return replace(self, ctf=ctf)

    def with_wedge(self, wedge: Wedge | None) -> Particles:
        """The same particles under another missing wedge."""
        return replace(self, wedge=wedge)
