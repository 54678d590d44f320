"""Images read on the side: while a batch is computed with, the next one comes from the disk."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Indices, Particles


def read_ahead(particles: Particles, batches: Iterable[Indices]) -> Generator[NDArray[np.float32], None, None]:
    """Images (or volumes) of each batch of rows, in order; at most one batch is read ahead.

    One thread reads, so that the source is never asked two things at a time. What goes wrong there is raised here, when
    the batch is due. Closing the iterator waits for the batch that is being read.
    """

    def read(rows: Indices) -> NDArray[np.float32]:
        return np.asarray(particles.read(rows), dtype=np.float32)

    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
        coming = None
        for rows in batches:
            due, coming = coming, reader.submit(read, rows)
            if due is not None:
                yield due.result()
        if coming is not None:
            yield coming.result()
