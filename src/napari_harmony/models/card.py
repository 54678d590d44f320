"""The card of a trained model: what it is, what it was trained on, and what input it expects. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import types
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from napari_harmony.models.network import NetworkShape

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ModelCard:
    """Everything about a model that is not a tensor.

    Attributes
    ----------
    box : edge of the network's grid in pixel; images are Fourier-cropped to it
    pixel_size : angstrom per pixel of that grid
    original_box : edge in pixel of the images it was trained on, before cropping
    transforms : names of the transformations that it predicts
    content, hypotheses : sizes, as in ``NetworkShape``
    mask_diameter, max_shift : angstrom
    objective : "harmony" or "harmony-2022"
    seed, particles, epochs : of the training
    classes : number of class templates kept with the model, 0 for none
    package_version : of napari-harmony that trained it
    dimensions : 2 for images, 3 for subtomograms
    template_box : edge of the class templates, 0 where they are on the network's grid
    additions : objectives it was trained for besides, each as ``name`` or ``name=strength``
    trained_on : name of the particles it was trained on, "" where it is not known, as for models of older versions
    trained : day of the training, as in 2026-11-22, or ""
    started_from : name of the model that the training went on from, "" for none
    general : it was pretrained for any particles: it has no classes, and a box, pixel size and lengths of no meaning
        beyond the network's grid; a run that starts from it finds classes of its own
    guided : of subtomograms: what is seen from all sides decides how each is read (``GuidedVolumeNetwork``)
    about : facts on how it was trained, each as ``words: text``
    format_version : of the files
    """

    box: int
    pixel_size: float
    original_box: int
    transforms: tuple[str, ...]
    content: int
    hypotheses: int
    mask_diameter: float
    max_shift: float
    objective: str = "harmony"
    seed: int = 0
    particles: int = 0
    epochs: int = 0
    classes: int = 0
    package_version: str = ""
    dimensions: int = 2
    template_box: int = 0
    additions: tuple[str, ...] = ()
    trained_on: str = ""
    trained: str = ""
    started_from: str = ""
    general: bool = False
    guided: bool = False
    about: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def shape(self) -> NetworkShape:
        """Sizes of the network, in pixel of its grid."""
        from napari_harmony.models.network import NetworkShape

        return NetworkShape(
            box=self.box,
            content=self.content,
            hypotheses=self.hypotheses,
            transforms=self.transforms,
            max_shift=self.max_shift / self.pixel_size,
            mask_diameter=self.mask_diameter / self.pixel_size,
        )

    def to_json(self, **more: Any) -> str:
        """The card as a JSON object, with further entries if given."""
        return json.dumps({**asdict(self), **more}, indent=2) + "\n"


def model_files(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The tensor file and the card file that ``path`` (a folder, or either file) stands for."""
    path = Path(path)
    if path.suffix in (".safetensors", ".json"):
        return path.with_suffix(".safetensors"), path.with_suffix(".json")
    return path / "model.safetensors", path / "model.json"


def read_weights(path: Path, checksum: object, card: Path) -> bytes:
    """The tensor file as it is, if it is the one that its card names by ``checksum``.

    Raises InputError where it cannot be read, or is another.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the tensors cannot be read ({error.strerror}); it belongs beside {card}.") from None
    if checksum != hashlib.sha256(data).hexdigest():
        raise InputError(f"{path}: 'sha256' of {card.name} names another file; copy both files of the model together.")
    return data


def read_card(path: Path) -> tuple[ModelCard, dict[str, Any]]:
    """The card in a JSON file, and the entries that are not part of the card.

    Raises InputError where the file is absent, is no card, lacks an entry, or is of another format version.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no model card here; give the folder or file that training wrote.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the model card cannot be read ({error}); train the model again.") from None
    if not isinstance(entries, dict) or "format_version" not in entries:
        raise InputError(f"{path}: this is no model card (it lacks 'format_version'); give a model of napari-harmony.")
    if entries["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: format_version is {entries['format_version']!r}, this napari-harmony reads {FORMAT_VERSION}; "
            "use the version named in 'package_version', or train the model again."
        )
    types_of = get_type_hints(ModelCard)
    values = {f.name: _entry(path, entries, f.name, types_of[f.name], f.default is MISSING) for f in fields(ModelCard)}
    card = ModelCard(**{name: value for name, value in values.items() if value is not None})
    _check_ranges(path, card)
    return card, {name: value for name, value in entries.items() if name not in values}


def _entry(path: Path, entries: dict[str, Any], name: str, kind: Any, required: bool) -> Any:
    """One entry of the card in its type, None where it is absent and has a default."""
    if name not in entries:
        if required:
            raise InputError(f"{path}: the model card lacks '{name}'; train the model again.")
        return None
    value = entries[name]
    if isinstance(kind, types.GenericAlias) and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    accepted = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}.get(kind, get_args(kind))
    wrong = isinstance(value, bool) is not (kind is bool) or not isinstance(value, accepted)
    if kind not in (bool, int, float, str) or wrong:
        raise InputError(f"{path}: '{name}' of the model card is {value!r}, which has the wrong type; train again.")
    return kind(value)


def _check_ranges(path: Path, card: ModelCard) -> None:
    """Refuse sizes from which no network can be built."""
    least = {"box": 16, "content": 1, "hypotheses": 1, "classes": 0, "original_box": 1, "template_box": 0}
    for name, bound in least.items():
        if getattr(card, name) < bound:
            raise InputError(f"{path}: '{name}' of the model card is {getattr(card, name)}, which is under {bound}.")
    if card.dimensions not in (2, 3):
        raise InputError(f"{path}: 'dimensions' of the model card is {card.dimensions}; models are of 2 or 3.")
    for name in ("pixel_size", "mask_diameter", "max_shift"):
        if not 0 < getattr(card, name) < float("inf"):
            raise InputError(f"{path}: '{name}' of the model card is {getattr(card, name)}, which is not a length.")
