"""What ``align``, ``train`` and ``apply`` are asked in the same words: one list of options for the three."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass

from napari_harmony.cli import options
from napari_harmony.engine.settings import Settings

#: Options of which a trained model has decided already.
OF_TRAINING = ("objective", "additions", "start", "local_search", "free_rot", "reference", "reference_lowpass")


@dataclass(frozen=True)
class Asked:
    """The options of a run.

    Attributes
    ----------
    settings : parameters of the engine
    transforms : as the user gave them, or None: those of the model, if there is one
    pixel_size : angstrom, overrides the file; None to keep it
    tilt_range : lowest and highest tilt in degrees, overrides the file; None to keep it
    rescale : bring particles of another pixel size or box to those of the model
    resume : continue an interrupted run
    json_progress : events as JSON on standard output
    devices : processes on each node, a number or "auto"
    nodes : how many work together
    """

    settings: Settings
    transforms: str | None = None
    pixel_size: float | None = None
    tilt_range: tuple[float, float] | None = None
    rescale: bool = False
    resume: bool = False
    json_progress: bool = False
    devices: str = "1"
    nodes: int = 1


def asked(
    classes: options.Classes = "auto",
    transforms: options.Transforms = None,
    device: options.Device = "auto",
    devices: options.Devices = "1",
    num_nodes: options.NumNodes = 1,
    seed: options.Seed = 0,
    preset: options.Preset = "balanced",
    max_shift: options.MaxShift = None,
    mask_diameter: options.MaskDiameter = None,
    pixel_size: options.PixelSize = None,
    tilt_range: options.TiltRange = None,
    objective: options.Objective = "harmony",
    additions: options.With = None,
    start: options.Start = "search",
    local_search: options.LocalSearch = None,
    free_rot: options.FreeRot = False,
    symmetry: options.Symmetry = "C1",
    reference: options.Reference = None,
    reference_lowpass: options.ReferenceLowpass = 60.0,
    memory: options.Memory = options.DEFAULT_MEMORY,
    cache: options.Cache = None,
    precision: options.PrecisionOption = "auto",
    rescale: options.Rescale = False,
    resume: options.Resume = False,
    json_progress: options.JsonProgress = False,
) -> Asked:
    """The options as they stand on the command line.

    Raises
    ------
    InputError : naming the option that cannot be used
    """
    settings = options.make_settings(
        classes=classes,
        transforms=transforms,
        device=device,
        seed=seed,
        preset=preset,
        max_shift=max_shift,
        mask_diameter=mask_diameter,
        objective=objective,
        additions=additions,
        start=start,
        local_search=local_search,
        free_rot=free_rot,
        symmetry=symmetry,
        reference=reference,
        reference_lowpass=reference_lowpass,
        memory=memory,
        cache=cache,
        precision=precision,
    )
    return Asked(settings, transforms, pixel_size, tilt_range, rescale, resume, json_progress, devices, num_nodes)


def takes_run_options(without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that puts the options of a run, but for some, in the place of a command's parameter ``run``.

    The command is called with what :func:`asked` makes of them.
    """
    shared = [p for p in inspect.signature(asked, eval_str=True).parameters.values() if p.name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())
        place = [parameter.name for parameter in own].index("run")
        every = [*own[:place], *shared, *own[place + 1 :]]

        @functools.wraps(command)
        def call(**given: object) -> None:
            run = asked(**{parameter.name: given.pop(parameter.name) for parameter in shared})  # type: ignore[arg-type]
            command(**given, run=run)

        # typer reads the options off the signature and the annotations
        call.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        return call

    return decorate
