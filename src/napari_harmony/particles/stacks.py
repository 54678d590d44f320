"""The stacks that one metadata file names, opened once each and checked against one another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_harmony.errors import InputError
from napari_harmony.particles.files import inner_suffix
from napari_harmony.particles.images import Frames
from napari_harmony.particles.mrc import MrcHeader, open_frames
from napari_harmony.particles.resolve import PathFinder
from napari_harmony.particles.tiff import open_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StackOpener:
    """Opens stacks by the names in a metadata file; all must have one box size.

    Attributes
    ----------
    frames : the opened files
    names : as the metadata file writes them
    headers : of those that are MRC
    """

    def __init__(self, metadata: Path, finder: PathFinder) -> None:
        self.metadata = metadata
        self.finder = finder
        self.frames: list[Frames] = []
        self.names: list[str] = []
        self.headers: list[MrcHeader] = []

    def add(self, name: str, *, single: bool = False) -> int:
        """Open a stack and return its number.

        Parameters
        ----------
        name : as the metadata file writes it
        single : the file is named without an image number, so it must hold one image

        Raises
        ------
        InputError : missing or damaged file, another box size than the stacks before, a volume where one image is meant
        """
        # RELION reads "x.mrc:mrcs" as a stack although .mrc means a volume to it
        path = self.finder.find(name.removesuffix(":mrcs"))
        frames: Frames
        if inner_suffix(path) in (".tif", ".tiff"):
            frames, _ = open_tiff(path)
        else:
            frames, header = open_frames(path)
            self.headers.append(header)
        if single and frames.shape[0] != 1:
            raise InputError(
                f"{self.metadata} names {name} without an image number, and it has {frames.shape[0]} slices: it is a "
                "volume; only 2D particle images are read from STAR files."
            )
        if self.frames and frames.shape[1:] != self.frames[0].shape[1:]:
            raise InputError(
                f"{self.metadata} mixes box sizes: {self.frames[0].shape[1]} pixels in {self.names[0]} and "
                f"{frames.shape[1]} in {name}; rescale the stacks to one size, or split the file."
            )
        self.frames.append(frames)
        self.names.append(name)
        return len(self.frames) - 1

    def counts(self) -> NDArray[np.int64]:
        """Number of images in each file."""
        return np.array([frames.shape[0] for frames in self.frames], np.int64)
