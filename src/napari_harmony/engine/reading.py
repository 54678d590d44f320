"""Images read on the side, while a batch is computed with, and by several processes, a share by each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.team import Team
from napari_harmony.engine.work import Work, finish
from napari_harmony.errors import InferenceError

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


def alike(team: Team, read: Callable[[slice], Work[None]], count: int) -> Work[None]:
    """Have each process ``read`` its share of ``count`` rows; what goes wrong in one goes wrong in all.

    The others then read the rows that could not be read, to hear the reason for themselves.

    Raises
    ------
    InferenceError : another process could not read what this one can
    """
    error = None
    try:
        yield from read(team.share(count))
    except Exception as caught:
        if team.size == 1:
            raise
        error = caught
    failed = torch.zeros(team.size, dtype=torch.int32)
    failed[team.rank] = error is not None
    failed = team.sum(failed)
    if error is not None:
        raise error
    if failed.any():
        rank = int(failed.argmax())
        finish(read(team.of(rank, count)))
        raise InferenceError(f"Process {rank + 1} of {team.size} could not read its share of the particles.")
