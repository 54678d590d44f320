"""Some particles of a data set as a data set of their own, which can be run on, saved and exported like the whole."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.particles.cryosparc import CryosparcMetadata
from napari_harmony.particles.dataset import ImageSource, Indices, Metadata, Particles
from napari_harmony.particles.images import FileImages, as_indices
from napari_harmony.particles.relion_read import RelionMetadata
from napari_harmony.particles.star import parse_star
from napari_harmony.particles.star_write import write_star
from napari_harmony.particles.volumes import VolumeImages

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImageRows:
    """Some images, or volumes, of a source.

    Parameters
    ----------
    source : (n, box, box[, box])
    rows : (m,) which of them, in this order
    """

    def __init__(self, source: ImageSource, rows: NDArray[np.int64]) -> None:
        self.source, self.rows = source, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, box, box[, box])."""
        return (len(self.rows), *self.source.shape[1:])

    def read(self, indices: Indices) -> NDArray[np.float32]:
        """Images in the order asked."""
        return self.source.read(self.rows[as_indices(indices, len(self.rows))])


def subset(particles: Particles, rows: Indices) -> Particles:
    """Some particles, in the order of ``rows``, with their CTF or wedge and their rows of the file they came from."""
    chosen = as_indices(rows, len(particles))
    return replace(
        particles,
        images=_images(particles.images, chosen),
        table=particles.table.iloc[chosen].reset_index(drop=True),
        ctf=None if particles.ctf is None else particles.ctf.subset(chosen),
        wedge=None if particles.wedge is None else particles.wedge.subset(chosen),
        metadata=_metadata(particles.metadata, chosen),
    )


def _images(source: ImageSource, rows: NDArray[np.int64]) -> ImageSource:
    if isinstance(source, FileImages):
        sign = None if source.sign is None else source.sign[rows]
        return FileImages(source.files, source.file_of[rows], source.frame_of[rows], sign)
    if isinstance(source, VolumeImages):
        return VolumeImages(source.files, source.file_of[rows], source.first_slice[rows])
    return ImageRows(source, rows)


def _metadata(metadata: Metadata | None, rows: NDArray[np.int64]) -> Metadata | None:
    if isinstance(metadata, RelionMetadata):
        return _relion(metadata, rows)
    if isinstance(metadata, CryosparcMetadata):
        more = {name: values[rows] for name, values in metadata.passthrough.items()}
        return replace(metadata, records=metadata.records[rows], passthrough=more)
    return None


def _relion(metadata: RelionMetadata, rows: NDArray[np.int64]) -> RelionMetadata:
    """The file as it would be with these rows alone; nothing of it but the rows differs."""
    tables = metadata.document.tables
    with tempfile.TemporaryDirectory() as folder:
        path = write_star(Path(folder) / "some.star", metadata.document, metadata.particles, rows=rows)
        document = parse_star(path.read_bytes(), metadata.path)
    changed: dict[str, Any] = {"document": document, "particles": document.tables[tables.index(metadata.particles)]}
    if metadata.optics is not None and metadata.optics_row is not None:
        changed |= {"optics": document.tables[tables.index(metadata.optics)], "optics_row": metadata.optics_row[rows]}
    return replace(metadata, **changed)
