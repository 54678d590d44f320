"""The model library: a folder in which every trained model is a folder of its own, and the models of the package.

No torch is loaded: a model is known by its card until it is used.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path
from psygnal import Signal

from napari_harmony.errors import InputError
from napari_harmony.models.bundled import BUNDLED, WORD
from napari_harmony.models.card import ModelCard, model_files, read_card, read_weights
from napari_harmony.models.fitness import ANGSTROM, mismatch, why_not_rescaled
from napari_harmony.preferences import preferences

if TYPE_CHECKING:
    from napari_harmony.models import HarmonyModel

__all__ = [
    "BUNDLED",
    "VARIABLE",
    "Entry",
    "Library",
    "card_facts",
    "default_folder",
    "default_library",
    "mismatch",
    "name_problem",
    "why_not_rescaled",
]

#: Names a folder of the library; it goes before napari's preferences, which the command line does not see.
VARIABLE = "NAPARI_HARMONY_MODELS"
#: Words that ``--model`` understands, and which therefore name no model.
RESERVED = ("train", WORD)
_LONGEST_NAME = 80
_FORBIDDEN = frozenset('/\\:*?"<>|')
#: Names that Windows keeps for devices.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}


@dataclass(frozen=True)
class Entry:
    """A model of the library.

    Attributes
    ----------
    name : what users call it: the name of its folder
    folder : with ``model.safetensors`` and ``model.json``
    card : what it is, or None where it cannot be read
    bundled : whether it came with the package, and stays as it is
    problem : one sentence on why it cannot be used; "" where it can
    """

    name: str
    folder: Path
    card: ModelCard | None
    bundled: bool = False
    problem: str = ""

    @property
    def title(self) -> str:
        """What lists call it: of a model of the package, also that it is one."""
        if not self.bundled:
            return self.name
        return WORD if self.card is not None and self.card.general else f"{self.name} ({WORD})"


class Library:
    """The models in a folder, which is made when the first one is added, and those of the package.

    Signals
    -------
    changed() : after a model was added, renamed or deleted through this object
    """

    changed = Signal()

    def __init__(self, folder: Path, bundled: Path | None = None) -> None:
        self.folder = folder
        self.bundled = bundled or BUNDLED

    def entries(self) -> list[Entry]:
        """Every model, those of the package first, each by name; with cards and problems as the files are now."""
        return _entries_in(self.bundled, bundled=True) + _entries_in(self.folder, bundled=False)

    def find(self, name: str) -> Entry:
        """The model of that name, own ones before those of the package; capitals count only between two of a name.

        Raises
        ------
        InputError : there is none, with the names that there are, or it is broken
        """
        own_first = sorted(self.entries(), key=lambda entry: entry.bundled)
        same = [entry for entry in own_first if entry.name.casefold() == name.casefold()]
        chosen = next((entry for entry in same if entry.name == name), same[0] if same else None)
        if chosen is None:
            known = ", ".join(entry.name for entry in own_first) or "none yet"
            raise InputError(f"there is no model '{name}' in the library ({self.folder}); it holds: {known}.")
        if chosen.problem:
            raise InputError(chosen.problem)
        return chosen

    def add(self, source: HarmonyModel | Path | str, name: str, *, announce: bool = True) -> Entry:
        """Copy a model into the library.

        Parameters
        ----------
        source : a model, or the folder (or either file) of a saved one
        name : of the new entry
        announce : emit ``changed``; without, the caller does, as from another thread than that of who listens

        Raises
        ------
        InputError : the name cannot be used or is taken, or the source is no whole model; nothing has changed then
        """
        name = self._free(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".adding-", dir=self.folder))
        try:
            stage.chmod(0o755)  # mkdtemp lets nobody else read
            if isinstance(source, str | os.PathLike):
                _copy_model(Path(source), stage)
            else:
                source.save(stage)
            os.replace(stage, self.folder / name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        if announce:
            self.changed.emit()
        return _entry(self.folder / name, bundled=False)

    def free_name(self, wish: str) -> str:
        """A name like ``wish`` that a new model may have: without what folders cannot, and numbered where taken."""
        plain = "".join("-" if c in _FORBIDDEN or not c.isprintable() else c for c in wish)[: _LONGEST_NAME - 5]
        plain = plain.strip(". ") or "model"
        if name_problem(plain):
            plain = f"{plain} model"
        for number in count(1):
            name = plain if number == 1 else f"{plain} {number}"
            try:
                return self._free(name)
            except InputError:
                continue
        raise AssertionError("there are more numbers than models")

    def rename(self, name: str, new: str) -> Entry:
        """Give a model another name.

        Raises
        ------
        InputError : there is no such model of the user's, or the new name cannot be used or is taken
        """
        folder = self._own(name)
        if new.strip() == name:
            return _entry(folder, bundled=False)
        new = self._free(new, besides=name)
        os.replace(folder, self.folder / new)
        self.changed.emit()
        return _entry(self.folder / new, bundled=False)

    def delete(self, name: str, discard: Callable[[Path], object] = shutil.rmtree) -> None:
        """Take a model out of the library.

        ``discard`` is called with its folder: it removes it for good, unless something kinder is given, such as a move
        into the system's trash.

        Raises
        ------
        InputError : there is no such model of the user's, or its files stay where they are
        """
        folder = self._own(name)
        try:
            discard(folder)
        except OSError as error:
            raise InputError(f"{folder} cannot be deleted ({error.strerror}); close what uses it.") from error
        finally:
            self.changed.emit()
        if folder.exists():
            raise InputError(f"{folder} could not be deleted; close what uses it, or delete the folder by hand.")

    def _own(self, name: str) -> Path:
        """The folder of one of the user's models."""
        folder = self.folder / name
        if not name or Path(name).name != name or not _is_model(folder):
            bundled = any(entry.name == name for entry in _entries_in(self.bundled, bundled=True))
            reason = "belongs to napari-harmony and stays as it is" if bundled else "is not in the library"
            raise InputError(f"the model '{name}' {reason}; choose one of your own in {self.folder}.")
        return folder

    def _free(self, name: str, besides: str | None = None) -> str:
        """The name without blanks around it, if a new model may have it."""
        name = name.strip()
        if problem := name_problem(name):
            raise InputError(problem)
        taken = {entry.name.casefold() for entry in self.entries() if entry.name != besides}
        place = self.folder / name
        # a folder that is no model is in the way as well; a name that differs in capitals may be the very folder
        in_the_way = place.exists() and not (besides is not None and name.casefold() == besides.casefold())
        if name.casefold() in taken or in_the_way:
            raise InputError(f"there is a model '{name}' in the library already; choose another name.")
        return name


def name_problem(name: str) -> str:
    """Why a model cannot be called so, as one sentence; "" where it can. It becomes the name of a folder."""
    if not name:
        return "a model needs a name: give a few letters or digits."
    if len(name) > _LONGEST_NAME:
        return f"the name has {len(name)} characters; give at most {_LONGEST_NAME}."
    wrong = sorted({c for c in name if c in _FORBIDDEN or not c.isprintable()})
    if wrong:
        return f"the name '{name}' holds {wrong[0]!r}, which a folder's name cannot have; leave it out."
    if name[0] == "." or name[-1] in ". ":
        return f"the name '{name}' begins or ends with a dot or a blank; leave it out."
    if name.casefold() in RESERVED or name.split(".")[0].casefold() in _DEVICES:
        return f"the name '{name}' means something else to the program or the system; choose another one."
    return ""


def default_folder() -> Path:
    """Where the user's models lie: by the environment, by napari's preferences, or in the user's data folder."""
    chosen = os.environ.get(VARIABLE, "") or preferences().model_folder
    return Path(chosen).expanduser() if chosen else user_data_path("napari-harmony", appauthor=False) / "models"


def default_library() -> Library:
    """The library in the default folder: one object for all that ask, so that each hears what the others change."""
    return _library(default_folder())


@cache
def _library(folder: Path) -> Library:
    return Library(folder)


def card_facts(card: ModelCard) -> dict[str, str]:
    """What a card says, as words by what they are about."""
    if card.general:
        return _general_facts(card)
    unit, things = ("voxels", "subtomograms") if card.dimensions == 3 else ("px", "images")
    width = card.box * card.pixel_size
    version = card.package_version.split("+")[0] or "unknown"  # without what git adds
    facts = {
        "Trained on": f"{card.trained_on or 'not recorded'} ({card.particles:,} {things})",
        "Trained": f"{card.trained or 'day not recorded'}, version {version}",
        "Box": f"{card.original_box} {unit} of {width / card.original_box:.3g} {ANGSTROM}, {width:.0f} {ANGSTROM} wide",
        "Network": f"{card.box} {unit} of {card.pixel_size:.3g} {ANGSTROM}, {card.content} content numbers",
        "Mask": f"{card.mask_diameter:.0f} {ANGSTROM} wide; shifts up to {card.max_shift:.0f} {ANGSTROM}",
        "Transforms": ", ".join(card.transforms) or "none",
        "Classes": str(card.classes) if card.classes else "none",
        "Objective": ", ".join((card.objective, *card.additions)),
    }
    return facts | ({"Started from": card.started_from} if card.started_from else {})


def _general_facts(card: ModelCard) -> dict[str, str]:
    """What the card of a model for any particles says."""
    unit, things = ("voxels", "subtomograms") if card.dimensions == 3 else ("px", "images")
    facts = dict(fact.split(": ", 1) for fact in card.about if ": " in fact)
    return {
        "For": f"any {things}: a run that starts from it finds its own classes",
        "Box": f"any of at least {card.box} {unit}; of any pixel size",
        "Network": f"{card.box} {unit} across the box, {card.content} content numbers",
        "Trained": f"{card.trained or 'day not recorded'}, version {card.package_version.split('+')[0] or 'unknown'}",
        **facts,
    }


def _is_model(folder: Path) -> bool:
    """Whether a folder is meant to be a model: it holds one of the two files."""
    return folder.is_dir() and any(path.is_file() for path in model_files(folder))


def _entries_in(place: Path, *, bundled: bool) -> list[Entry]:
    try:
        folders = [path for path in place.iterdir() if not path.name.startswith(".") and _is_model(path)]
    except OSError:  # not there yet, or unreadable: an empty library
        return []
    return [_entry(path, bundled) for path in sorted(folders, key=lambda path: path.name.casefold())]


def _entry(folder: Path, bundled: bool) -> Entry:
    """An entry as its files are; a broken one has a problem and perhaps no card."""
    weights, card_path = model_files(folder)
    try:
        card, _ = read_card(card_path)
    except InputError as error:
        return Entry(folder.name, folder, None, bundled, str(error))
    missing = "" if weights.is_file() else f"{weights} is missing: copy both files of the model again, or delete it."
    return Entry(folder.name, folder, card, bundled, missing)


def _copy_model(source: Path, stage: Path) -> None:
    """Copy the two files of a model that belong together, under the names that a library uses."""
    weights, card_path = model_files(source)
    _, more = read_card(card_path)
    tensors, card = model_files(stage)
    tensors.write_bytes(read_weights(weights, more.get("sha256"), card_path))
    entries = json.loads(card_path.read_text(encoding="utf-8")) | {"tensors": tensors.name}
    card.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
