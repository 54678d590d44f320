"""Everything a user may choose for a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from napari_harmony.additions import Addition
from napari_harmony.errors import InputError

TRANSFORMS = ("rotation", "translation", "scale", "contrast", "defocus")
PRESETS = ("fast", "balanced", "thorough")
OBJECTIVES = ("harmony", "harmony-2022")
PRECISIONS = ("auto", "full", "mixed")

STARTS = ("search", "input")
LARGEST_ORDER = 100  # of a symmetry axis
#: Bytes for images, where the user does not say, and at least.
MEMORY, LEAST_MEMORY = 1280 * 2**20, 2**20

Preset = Literal["fast", "balanced", "thorough"]
Precision = Literal["auto", "full", "mixed"]


@dataclass(frozen=True)
class Settings:
    """Parameters of ``fit``, ``align`` and ``cluster``.

    Attributes
    ----------
    classes : number of content classes, or None to choose it from the data
    transforms : which transformations separate particles of one content, a subset of ``TRANSFORMS``; "defocus", of
        images with a known CTF alone, is how far each particle's is from what the input says
    mask_diameter : of the soft circular mask in angstrom, None for 0.9 of the box
    max_shift : largest shift searched in angstrom, None for 0.16 of the box
    preset : how much time to spend
    seed : of every random choice; same seed, same device, same result
    device : "auto", "cpu", "cuda", "cuda:1", "mps"
    objective : "harmony", or "harmony-2022" (the published one, as a baseline)
    batch_memory : bytes that one batch may take on the device
    precision : "full" computes with 32 bits throughout, "mixed" makes large products in bfloat16 on any CUDA device,
        "auto" where the device is made for them
    additions : objectives that the network is trained for besides "harmony"
    memory : bytes of main memory that images may take; of more than fit in that, a sample is searched and learned from,
        and all are placed portion by portion
    cache : folder for the file in which they wait meanwhile, "" for the user's cache folder

    Of subtomograms alone:

    start : "search" for orientations from nothing, or look near those of the "input"
    local_search : degrees that rotations may differ from those of the input, None for 30
    free_rot : of the input's angles rot, the turn about the reference's z axis, is unknown and searched over the whole
        circle, as of filaments of which only the direction is known
    symmetry : point group of the particles: "C1" for none, Cn about z, Dn with two-fold axes across it
    references : files of volumes that the classes start from, in place of single particles
    reference_lowpass : angstrom; finer detail of the references is not used
    """

    classes: int | None = None
    transforms: tuple[str, ...] = ("rotation", "translation", "contrast")
    mask_diameter: float | None = None
    max_shift: float | None = None
    preset: Preset = "balanced"
    seed: int = 0
    device: str = "auto"
    objective: str = "harmony"
    batch_memory: int = 256 * 2**20
    precision: Precision = "auto"
    additions: tuple[Addition, ...] = ()
    memory: int = MEMORY
    cache: str = ""
    start: str = "search"
    local_search: float | None = None
    free_rot: bool = False
    symmetry: str = "C1"
    references: tuple[str, ...] = ()
    reference_lowpass: float = 60.0

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 1:
            raise InputError(f"classes is {self.classes}: give a number of at least 1, or 'auto'.")
        if unknown := set(self.transforms) - set(TRANSFORMS):
            raise InputError(f"transforms: '{sorted(unknown)[0]}' is unknown; choose from {', '.join(TRANSFORMS)}.")
        if self.preset not in PRESETS:
            raise InputError(f"preset: '{self.preset}' is unknown; choose from {', '.join(PRESETS)}.")
        if self.objective not in OBJECTIVES:
            raise InputError(f"objective: '{self.objective}' is unknown; choose from {', '.join(OBJECTIVES)}.")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision: '{self.precision}' is unknown; choose from {', '.join(PRECISIONS)}.")
        if self.additions and self.objective != "harmony":
            raise InputError(f"with: the objective {self.objective} stands alone; leave it out, or choose 'harmony'.")
        self._check_start()
        self._check_symmetry()
        if self.memory < LEAST_MEMORY:
            raise InputError(f"memory is {self.memory} bytes: give at least 1M.")
        if not 0 < self.reference_lowpass < float("inf"):
            raise InputError(f"reference_lowpass is {self.reference_lowpass:g}: give a positive number of angstrom.")

    def _check_symmetry(self) -> None:
        found = re.fullmatch("C([0-9]{1,3})|D([0-9]{1,3})", self.symmetry)
        if found is None or not (1 <= int(found[1] or 2) <= LARGEST_ORDER and 2 <= int(found[2] or 2) <= LARGEST_ORDER):
            raise InputError(
                f"symmetry: '{self.symmetry}' is unknown; give C1 for none, C2, C3 ... or D2, D3 ... "
                f"(up to {LARGEST_ORDER})."
            )

    def _check_start(self) -> None:
        if self.start not in STARTS:
            raise InputError(f"start: '{self.start}' is unknown; choose from {', '.join(STARTS)}.")
        if self.local_search is not None and not 0 < self.local_search <= 180:
            raise InputError(f"local_search is {self.local_search:g}: give degrees above 0, up to 180.")
        for name, given in (("local_search", self.local_search is not None), ("free_rot", self.free_rot)):
            if given and self.start != "input":
                raise InputError(f"{name} limits how far a run goes from the input's orientations: start from 'input'.")
        if self.free_rot and "rotation" not in self.transforms:
            raise InputError("free_rot searches a rotation: put 'rotation' among the transforms.")

    def check_defocus(self, dimensions: int, ctf_known: bool) -> None:
        """Raise ``InputError`` where defocus is to be found on subtomograms, or on images without a CTF."""
        if "defocus" not in self.transforms:
            return
        if dimensions == 3:
            raise InputError("transforms: 'defocus' is found for images; leave it out for subtomograms.")
        if not ctf_known:
            raise InputError(
                "transforms: 'defocus' is found as an offset from a known CTF, and these images have none; open them "
                "from a .star or .cs file with CTF columns, or leave it out."
            )

    def check_images(self) -> None:
        """Raise ``InputError`` where something was chosen that only subtomograms have."""
        if self.symmetry != "C1":
            raise InputError(f"symmetry: {self.symmetry} is for subtomograms; images have none, leave it out.")
        if self.references:
            raise InputError("references are for subtomograms; of images classes are found without, leave them out.")
        if self.start != "search":
            raise InputError("start: images are always searched from nothing; only subtomograms start from the input.")

    def check_model(self) -> None:
        """Raise ``InputError`` where something was chosen that a trained model decides."""
        if self.references:
            raise InputError("references: a model has classes of its own; leave them out, or train on these particles.")
        if self.start != "search":
            raise InputError(
                "start: a model knows its own frame, not that of the input; search from nothing, or train on these "
                "particles."
            )
