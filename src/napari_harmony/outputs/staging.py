"""Several files that appear together or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def staged(folder: Path, owned: Sequence[str]) -> Iterator[Path]:
    """A temporary folder whose files move into ``folder`` when the block ends well.

    Files named in ``owned`` that an earlier run left in ``folder`` are replaced, or removed where this run has none;
    all other files stay. When the block or the move fails, ``folder`` is as it was before.

    Parameters
    ----------
    folder : created, with its parents, if missing
    owned : file names that belong to one run

    Yields
    ------
    an empty folder inside ``folder``: on the same file system, and writable even where the folder above is not
    """
    missing = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    done = False
    try:
        yield stage
        _publish(stage, folder, owned)
        done = True
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if not done:
            for place in missing:
                with contextlib.suppress(OSError):  # somebody else has put something there
                    place.rmdir()


def _publish(stage: Path, folder: Path, owned: Sequence[str]) -> None:
    """Move the files of ``stage`` into ``folder``; put the earlier ones back if anything fails on the way."""
    new = sorted(path.name for path in stage.iterdir())
    earlier = Path(tempfile.mkdtemp(prefix=".earlier-", dir=stage))
    added: list[str] = []
    try:
        for name in {*owned, *new}:
            if os.path.lexists(folder / name):
                os.replace(folder / name, earlier / name)
        for name in new:
            os.replace(stage / name, folder / name)
            added.append(name)
    except BaseException:
        for name in added:
            os.replace(folder / name, stage / name)
        for path in earlier.iterdir():
            os.replace(path, folder / path.name)
        raise
