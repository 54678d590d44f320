"""``Harmony``: the engine with the habits of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from inspect import signature
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_harmony.additions import additions_of
from napari_harmony.engine.events import Done, Event
from napari_harmony.engine.settings import Preset, Settings
from napari_harmony.errors import HarmonyError, InferenceError, InputError
from napari_harmony.models.bundled import WORD, bundled_model
from napari_harmony.particles.dataset import Particles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_harmony.models import HarmonyModel
    from napari_harmony.results import Result

#: A fit that begins with nothing.
TRAIN = "train"
Callback = Callable[[Event], object]
#: What can be aligned: opened particles, a file, or an array of shape (n, box, box), or of subtomograms
#: (n, box, box, box), with pixels of 1 angstrom.
Source: TypeAlias = "Particles | Path | str | NDArray[np.floating]"


class Harmony:
    """Align and classify particles: content disentangled from transformations, without labels.

    Parameters
    ----------
    classes : number of content classes, or None to choose it from the data
    transforms : which transformations separate particles of one content: a subset of ``rotation``,
        ``translation``, ``scale``, ``contrast``
    mask_diameter : of the soft circular mask in angstrom, None for 0.9 of the box
    max_shift : largest shift searched in angstrom, None for 0.16 of the box
    preset : ``fast``, ``balanced`` or ``thorough``
    seed : of every random choice; same seed, same device, same result
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``
    objective : ``harmony``, or ``harmony-2022``, the published one, as a baseline
    additions : objectives trained for besides: ``loocc``, ``independence``, ``diffusion``, or ``name=strength``
    start : of subtomograms: ``search`` for orientations from nothing, or look near those of the ``input``
    local_search : degrees that rotations may differ from those of the input, None for 30
    free_rot : the input's rot, the turn about the reference's z axis, is unknown, as for filaments
    symmetry : of subtomograms: ``C1`` for none, ``Cn``, ``Dn``
    memory : bytes of main memory that images may take; of more, a sample is searched and the rest waits on disk
    cache : folder where they wait, "" for the user's cache folder
    references : of subtomograms: files of volumes that classes start from
    reference_lowpass : angstrom; finer detail of the references is not used
    model : what a fit begins with: ``train`` for nothing, ``bundled`` for the package's own model for any particles

    Attributes
    ----------
    model_ : the fitted model, after ``fit``, ``align``, ``fit_align`` or ``load``
    result_ : the last ``Result``, after ``align`` or ``fit_align``

    Examples
    --------
    >>> from napari_harmony import Harmony, open_particles
    >>> particles = open_particles("particles.star")  # doctest: +SKIP
    >>> harmony = Harmony(classes=10, preset="fast")
    >>> result = harmony.fit_align(particles, callback=print)  # doctest: +SKIP
    >>> result.table[["class_number", "psi", "psi_spread"]].head()  # doctest: +SKIP
    >>> harmony.save("model")  # doctest: +SKIP
    >>> Harmony.load("model").align(open_particles("more.star"))  # doctest: +SKIP
    """

    def __init__(
        self,
        classes: int | None = None,
        *,
        transforms: Sequence[str] = ("rotation", "translation", "contrast"),
        mask_diameter: float | None = None,
        max_shift: float | None = None,
        preset: Preset = "balanced",
        seed: int = 0,
        device: str = "auto",
        objective: str = "harmony",
        additions: Sequence[str] = (),
        start: str = "search",
        local_search: float | None = None,
        free_rot: bool = False,
        symmetry: str = "C1",
        references: Sequence[str] = (),
        reference_lowpass: float = 60.0,
        model: str = TRAIN,
        memory: int = Settings().memory,
        cache: Path | str = "",
    ) -> None:
        self.classes = classes
        self.transforms = transforms
        self.mask_diameter = mask_diameter
        self.max_shift = max_shift
        self.preset = preset
        self.seed = seed
        self.device = device
        self.objective = objective
        self.additions = additions
        self.start = start
        self.local_search = local_search
        self.free_rot = free_rot
        self.symmetry = symmetry
        self.references = references
        self.reference_lowpass = reference_lowpass
        self.model = model
        self.memory = memory
        self.cache = cache

    @property
    def settings(self) -> Settings:
        """The parameters as the engine takes them; raises ``InputError`` for values that cannot be used."""
        return Settings(
            **{
                **{name: value for name, value in self.get_params().items() if name != "model"},
                "transforms": tuple(self.transforms),
                "references": tuple(map(str, self.references)),
                "cache": str(self.cache),
                "additions": additions_of(",".join(self.additions)),
            }
        )

    def fit(self, particles: Source, callback: Callback | None = None, enough: Flag | None = None) -> Harmony:
        """Train a model on particles and return the estimator.

        Parameters
        ----------
        particles : from ``open_particles``; or a path, or an array of 1 angstrom pixels of shape (n, box, box), or
            (n, box, box, box) for subtomograms without a missing wedge
        callback : called with every ``Progress``, ``Preview`` and ``Loss``; whatever it raises ends the run
        enough : when it is set, by the callback or another thread, the run ends soon with what it has

        Raises
        ------
        InputError : if parameters or particles cannot be used
        InferenceError : if the run fails
        """
        from napari_harmony.engine import api

        opened = _as_particles(particles)
        done = _last(api.fit(opened, self.settings, model=self._begun(opened), enough=enough), callback)
        self.model_: HarmonyModel = done.value
        return self

    def align(
        self,
        particles: Source,
        callback: Callback | None = None,
        enough: Flag | None = None,
        *,
        rescale: bool = False,
    ) -> Result:
        """Align and classify particles with the fitted model; where there is none yet, one is fitted to them first.

        With ``rescale`` particles of another pixel size or box are brought to those of the model as they are read; the
        result is in their own pixels. Other parameters, and errors, as ``fit``.

        Returns
        -------
        one row per particle in input order, with class averages and their resolution
        """
        return self._align(particles, getattr(self, "model_", None), callback, enough, rescale)

    def fit_align(self, particles: Source, callback: Callback | None = None, enough: Flag | None = None) -> Result:
        """Train afresh on particles, then align and classify the same ones; parameters and errors as ``fit``."""
        return self._align(particles, None, callback, enough)

    def save(self, path: Path | str) -> Path:
        """Write the fitted model into a folder: ``model.safetensors`` and ``model.json``."""
        model = self._fitted()
        folder = Path(path)
        from napari_harmony.outputs import names
        from napari_harmony.outputs.staging import staged

        with staged(folder, names.MODEL) as stage:
            model.save(stage)
        return folder

    @classmethod
    def load(cls, path: Path | str, **parameters: Any) -> Harmony:
        """An estimator around a saved model; ``parameters`` as for the constructor.

        Raises
        ------
        InputError : if there is no model, or one that does not match this version
        """
        from napari_harmony.models import HarmonyModel

        harmony = cls(**parameters)
        harmony.model_ = HarmonyModel.load(Path(path))
        return harmony

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters as they were given."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **parameters: Any) -> Harmony:
        """Change parameters; raises ``InputError`` for names that do not exist."""
        for name, value in parameters.items():
            if name not in _parameters():
                raise InputError(f"Harmony has no parameter '{name}'; choose from {', '.join(_parameters())}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = {name: parameter.default for name, parameter in signature(type(self)).parameters.items()}
        changed = {name: value for name, value in self.get_params().items() if value != defaults[name]}
        return f"Harmony({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def _fitted(self) -> HarmonyModel:
        if not hasattr(self, "model_"):
            raise HarmonyError("This Harmony has no model yet; call fit, align or fit_align first.")
        return self.model_

    def _begun(self, particles: Particles) -> HarmonyModel | None:
        """The model that a fit starts from, if any."""
        if self.model == TRAIN:
            return None
        if self.model != WORD:
            raise InputError(f"model: '{self.model}' is unknown; choose '{TRAIN}' or '{WORD}'.")
        from napari_harmony.models import HarmonyModel

        return HarmonyModel.load(bundled_model(particles.dimensions))

    def _align(
        self,
        particles: Source,
        model: HarmonyModel | None,
        callback: Callback | None,
        enough: Flag | None,
        rescale: bool = False,
    ) -> Result:
        from napari_harmony.engine import api

        opened = _as_particles(particles)
        start = model or self._begun(opened)
        done = _last(api.align(opened, self.settings, model=start, enough=enough, rescale=rescale), callback)
        if done.model is not None:
            self.model_ = done.model
        self.result_: Result = done.value
        return self.result_


def _parameters() -> list[str]:
    return [name for name in signature(Harmony.__init__).parameters if name != "self"]


def _last(events: Iterator[Event], callback: Callback | None) -> Done:
    """Run an engine call to its end; it is closed whatever happens."""
    try:
        for event in events:
            if isinstance(event, Done):
                return event
            if callback is not None:
                callback(event)
    finally:
        if isinstance(events, Generator):
            events.close()
    raise InferenceError("The run ended without a result; please report this.")


def _as_particles(source: Source) -> Particles:
    """Particles from whatever names them."""
    if isinstance(source, Particles):
        return source
    if isinstance(source, str | Path):
        from napari_harmony.particles import open_particles

        return open_particles(source)
    import pandas as pd

    from napari_harmony.particles.images import ArrayImages
    from napari_harmony.particles.volumes import ArrayVolumes

    images = ArrayVolumes(source) if source.ndim == 4 else ArrayImages(source)
    return Particles(images, pd.DataFrame(index=pd.RangeIndex(images.shape[0])), 1.0, pixel_size_known=False)
