"""The options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_harmony.additions import ADDITIONS, additions_of
from napari_harmony.engine.settings import OBJECTIVES, PRECISIONS, PRESETS, STARTS, TRANSFORMS, Settings
from napari_harmony.errors import InputError
from napari_harmony.sizes import size_of, size_text

DEFAULT_TRANSFORMS = Settings().transforms
DEFAULT_MEMORY = size_text(Settings().memory)
FORMATS = ("star", "relion")
FORMAT_HELP = "'relion' adds the files that RELION's Select job opens."

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="Particles: .star, .cs, .mrcs, .mrc, .tif, or a folder of subtomograms.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Folder for the results.", show_default=False)]
Classes = Annotated[str, typer.Option(metavar="N|auto", help="Number of content classes, or chosen from the data.")]
Transforms = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help=f"What may differ in a class, of: {', '.join(TRANSFORMS)}.",
        show_default=f"the model's, or {','.join(DEFAULT_TRANSFORMS)}",
    ),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="Of large products on NVIDIA GPUs: 32 bits, or bfloat16; auto: where the GPU is made for it.",
    ),
]
Devices = Annotated[
    str,
    typer.Option(metavar="N|auto", help="Processes on each node, one per graphics card; 'auto' for all cards."),
]
NumNodes = Annotated[int, typer.Option(metavar="M", min=1, help="Nodes that work together.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of every random choice; same seed, same result.")]
Preset = Annotated[str, typer.Option(metavar="|".join(PRESETS), help="How much time to spend.")]
MaxShift = Annotated[
    float | None, typer.Option(metavar="A", help="Largest shift in angstrom.", show_default="0.16 of the box")
]
MaskDiameter = Annotated[
    float | None, typer.Option(metavar="A", help="Diameter of the particle in angstrom.", show_default="0.9 of the box")
]
PixelSize = Annotated[
    float | None, typer.Option(metavar="A", help="Angstrom per pixel.", show_default="what the input says")
]
TiltRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Subtomograms: first and last tilt about y in degrees, the missing wedge.",
        show_default="what the input says",
    ),
]
Objective = Annotated[str, typer.Option(metavar="|".join(OBJECTIVES), help="What training minimises.")]
With = Annotated[
    str | None,
    typer.Option(
        "--with",
        metavar="LIST",
        help=f"Train for more besides, of: {', '.join(ADDITIONS)}; 'name=strength' to weigh it.",
        show_default="none",
    ),
]
Start = Annotated[
    str,
    typer.Option(
        metavar="|".join(STARTS), help="Subtomograms: orientations from nothing, or near those that INPUT gives."
    ),
]
LocalSearch = Annotated[
    float | None,
    typer.Option(metavar="DEG", help="How far from INPUT's orientations with '--start input'.", show_default="30"),
]
FreeRot = Annotated[
    bool,
    typer.Option("--free-rot", help="With '--start input': rot, the turn about the reference's z axis, is unknown."),
]
Symmetry = Annotated[str, typer.Option(metavar="C1|Cn|Dn", help="Subtomograms: the point group of the particles.")]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="FILE[,FILE...]",
        help="Subtomograms: volumes (.mrc, .map) that classes start from.",
        show_default="none: from single particles",
    ),
]
ReferenceLowpass = Annotated[float, typer.Option(metavar="A", help="Finer detail of the references is not used.")]
Memory = Annotated[
    str, typer.Option(metavar="SIZE", help="Images: main memory they may take; more wait on disk, such as 512M or 2G.")
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where they wait, until the run ends.", show_default="the user's cache folder"),
]
Rescale = Annotated[
    bool, typer.Option("--rescale", help="Bring particles of another pixel size or box to those of the model.")
]
Format = Annotated[str, typer.Option("--format", metavar="star|relion", help=FORMAT_HELP)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
JsonProgress = Annotated[bool, typer.Option("--json-progress", help="Print one JSON object per line.")]


def make_settings(
    *,
    classes: str,
    transforms: str | None,
    reference: str | None = None,
    additions: str | None = None,
    memory: str = DEFAULT_MEMORY,
    cache: Path | None = None,
    **others: Any,
) -> Settings:
    """Settings from the words of the command line.

    Raises
    ------
    InputError : naming the option that cannot be used
    """
    for name in ("max_shift", "mask_diameter"):
        if others.get(name) is not None:
            check_positive(name, others[name])
    chosen = DEFAULT_TRANSFORMS
    if transforms is not None:
        chosen = tuple(word.strip() for word in transforms.split(",") if word.strip())
    references = tuple(word.strip() for word in (reference or "").split(",") if word.strip())
    return Settings(
        classes=_classes(classes),
        transforms=chosen,
        references=references,
        additions=additions_of(additions or ""),
        memory=size_of(memory, "--memory"),
        cache=str(cache or ""),
        **others,
    )


def check_positive(name: str, value: float) -> None:
    """Raise ``InputError`` unless an option is a positive, finite number."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--{name.replace('_', '-')} is {value:g}: give a positive number of angstrom.")


def check_format(name: str) -> None:
    """Raise ``InputError`` unless there is such an output format."""
    if name not in FORMATS:
        raise InputError(f"--format: '{name}' is unknown; choose from {', '.join(FORMATS)}.")


def _classes(word: str) -> int | None:
    if word.strip().lower() == "auto":
        return None
    try:
        return int(word)
    except ValueError:
        raise InputError(f"--classes is '{word}': give a whole number, or 'auto'.") from None
