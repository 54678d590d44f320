"""The models that come with the package: pretrained on made-up particles, for runs on any to start from. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from napari_harmony.errors import InputError
from napari_harmony.models.card import model_files, read_card

#: Where they lie, each in a folder of its own.
BUNDLED = Path(__file__).parents[1] / "bundled"
#: What ``--model`` calls them; which of them is meant is said by the particles.
WORD = "bundled"


def bundled_model(dimensions: int) -> Path:
    """The folder of the model of the package for any images (2) or subtomograms (3).

    Raises
    ------
    InputError : this installation has none
    """
    folders = sorted(path for path in BUNDLED.glob("*") if model_files(path)[1].is_file())
    for folder in folders:
        card, _ = read_card(model_files(folder)[1])
        if card.general and card.dimensions == dimensions:
            return folder
    things = "subtomograms" if dimensions == 3 else "images"
    raise InputError(f"model: this installation has no bundled model of {things}; train one on these particles.")


def is_bundled(folder: str | os.PathLike[str]) -> bool:
    """Whether a model is one of the package."""
    return Path(folder).parent == BUNDLED
