"""The closed loop: a diffusion decoder learns from the content code, and says how much the code may hold.

After CL-Dis (Jin et al. 2024), for noisy images that show posed particles. Three parts:

*The decoder.* No image shows a clean canonical particle, and a diffusion model fitted to noisy images draws noise.
Here the picture that the decoder predicts is posed, filtered and compared with the image, as every picture of the
library is; what it is given to take noise away from is not the image, but the picture that the content code alone
gives, with noise added. For an image ``y = A x + n`` and a noised picture ``x_t`` whose noise is independent of n,

    E |y - A f(x_t, t, z)|^2 = E |A (x - f(x_t, t, z))|^2 + E |n|^2

so that the best f is ``E[x | x_t, z]``, the *clean* particle: the noise of images is averaged away, not drawn. The one
way from n into ``x_t`` and z is the content code, a few numbers whose information the feedback holds down; and the code
is read from the transformed copy.

*Distillation.* The decoder has a semantic code of its own, read from the encoder's features and learned with it; the
posterior of the content code, cut from the graph, is its teacher. It is told either code by turns, for it is the
content code from which pictures are drawn later.

*Feedback.* The divergence of the content posterior from its prior is held at a capacity C, by one of two laws.
``schedule``: C grows as the reverse diffusion's own bottleneck loosens. ``measured``: C is the information about the
picture that the decoder takes from the code, at the noise of the data. Noised to a signal-to-noise ratio s, a picture
is found again with a mean squared error that the code lowers by g(s); by I-MMSE the code holds ``1/2 integral g ds``
nats. The code is read from a particle drawn anew from that picture, so that what it holds of the noise of an image does
not count. A code that holds as many nats as its posterior claims is calibrated, and then the divergence stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_harmony.errors import InputError
from napari_harmony.models import DiffusionDecoder, ModelCard
from napari_harmony.models.diffusion import decoder_of
from napari_harmony.models.encoding import drawn
from napari_harmony.objectives.context import Context
from napari_harmony.objectives.data import Batch, Branch
from napari_harmony.objectives.forward import Competition, all_hypotheses, fit, seeded_hypotheses
from napari_harmony.objectives.seeds import SeedPoses
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.views import Views
from napari_harmony.objectives.volume_context import VolumeContext, fit_volumes

#: How the capacity of the content code is set, and the weight that holds the code to it. A schedule is only followed
#: under a weight well above that of the likelihood, and takes the place of the recipe's own prior. A measurement says
#: nothing until there is something to measure, so that the prior stays and the weight comes late; together they make
#: 1, at which the divergence costs what it does in the likelihood: where the measurement is too low, as while the
#: decoder still learns, the code is held no harder than that. "none" leaves the prior alone.
LAWS = {"schedule": Weight(4.0, full=0.1), "measured": Weight(0.9, start=0.25, full=0.6), "none": Weight(0.0)}
#: Of the shifts under which particles are drawn anew to be measured, as a fraction of the shift bound.
SHIFT_SPREAD = 0.3
#: Nats that a dimension of the content may hold, and all of them together.
PER_DIMENSION, MOST = 2.0, 25.0


@dataclass(frozen=True)
class LoopSettings:
    """Numbers of the closed loop.

    Attributes
    ----------
    law : one of ``LAWS``
    most : nats that the content code may ever hold; None for two per dimension, at most 25
    pressure : weight of ``|divergence - C|``; None for that of the law
    settled : part of the training after which the schedule law has reached ``most``
    share : of the batch that the diffusion decoder learns from
    untold : share of the particles whose content it is not told
    distil : weight of the distillation at the beginning and at the end; None for a semantic code on its own
    decoder : weight of the decoder's squared error per pixel
    every : steps between two measurements of the information
    pace : of its running mean, per measurement
    """

    law: str = "schedule"
    most: float | None = None
    pressure: Weight | None = None
    settled: float = 0.6
    share: float = 0.25
    untold: float = 0.1
    distil: tuple[float, float] | None = (0.1, 0.01)
    decoder: float = 1.0
    every: int = 4
    pace: float = 0.05

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise InputError(f"law: '{self.law}' is unknown; choose from {', '.join(LAWS)}.")


class DiffusionFeedback(Term[Views]):
    """Squared error of the diffusion decoder, distillation of the content code, and the code's capacity.

    Needs a network with a diffusion decoder (``network.sharp``).

    Attributes
    ----------
    measured : () running mean of the information, nats, that the decoder takes from the content code
    """

    name = "diffusion"

    def __init__(self, card: ModelCard, weight: Weight, settings: LoopSettings | None = None) -> None:
        self.weight, self.settings = weight, settings or LoopSettings()
        self.most = self.settings.most or min(PER_DIMENSION * card.content, MOST)
        self.replaces = ("content prior",) if self.settings.law == "schedule" else ()
        self.measured, self._steps = torch.zeros(()), torch.zeros(())

    def to(self, device: torch.device) -> None:
        """Move what was measured to the device."""
        self.measured, self._steps = self.measured.to(device), self._steps.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """What was measured so far."""
        return {"measured": self.measured, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        if set(state) != {"measured", "steps"}:
            raise ValueError(f"the term '{self.name}' keeps measured and steps, but was given {sorted(state)}")
        self.measured = state["measured"].to(self.measured.device)
        self._steps = state["steps"].to(self._steps.device)

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.settings
        trial = _try(context, settings, measured=settings.law == "measured" and int(self._steps) % settings.every == 0)
        total = settings.decoder * trial.error
        logged = {"error": trial.error.detach()}
        if settings.distil is not None:
            first, last = settings.distil
            total = total + (first + (last - first) * context.progress) * trial.distillation
            logged["distillation"] = trial.distillation.detach()
        if settings.law == "none":
            return total, logged
        self._follow(trial.information)
        capacity, divergence = self.capacity(context), _divergence(context)
        pressure = settings.pressure or LAWS[settings.law]
        total = total + pressure(context.progress) * (divergence - capacity).abs()
        return total, logged | {"nats": divergence.detach(), "capacity": capacity}

    def _follow(self, information: Tensor | None) -> None:
        """Count a step, and put what its batch tells, if any, into the running mean, which is a plain one at first."""
        if information is not None:
            rate = (1 / (self._steps // self.settings.every + 1)).clamp_min(self.settings.pace)
            self.measured = self.measured + rate * (information - self.measured)
        self._steps = self._steps + 1

    def capacity(self, context: Views) -> Tensor:
        """() nats that the content code may hold at this point of the training."""
        if self.settings.law == "measured":
            return self.measured.clamp(1.0, self.most)
        share = _decoder(context).schedule.loosened(context.progress / self.settings.settled)
        return self.measured.new_tensor(self.most * share)


@dataclass(frozen=True)
class _Trial:
    """What the decoder made of a part of the batch: means over its particles.

    Attributes
    ----------
    error : squared error per pixel against the images, in units of the noise
    distillation : divergence of the semantic code from the content code, nats
    information : estimate of what the content code tells of the picture, nats; None where it was not measured
    """

    error: Tensor
    distillation: Tensor
    information: Tensor | None


def _try(context: Views, settings: LoopSettings, measured: bool) -> _Trial:
    """Let the decoder draw the first particles of the batch, which is in random order already."""
    rows = slice(0, max(1, round(settings.share * len(context.batch))))
    decoder, code = _decoder(context), context.copy.encoding[rows]
    assert isinstance(context, Context | VolumeContext) and code.pooled is not None
    mean, log_variance = decoder.read(code.pooled)
    teacher = (code.content_mean.detach(), code.content_log_variance.detach())
    content = drawn(mean, log_variance, context.generator)
    if settings.distil is not None:
        even = torch.arange(len(content), device=content.device) % 2 == 0
        content = torch.where(even[:, None], content, context.copy.content[rows].detach())
    pictures = context.pictures[1][rows].detach()
    decoder.adapt(pictures)
    level, noised, known = _noised(decoder, pictures, settings.untold, context.generator)
    clean = decoder.denoise(noised, level, content, known)
    error = _misfit(context, rows, clean)
    information = _measured(context, settings) if measured else None
    return _Trial(error, _gaussian_divergence(teacher, (mean, log_variance)).mean(), information)


@torch.no_grad()
def _measured(context: Context | VolumeContext, settings: LoopSettings) -> Tensor:
    """() nats that a code tells of the picture that it was read from, by how much it helps to find the picture again.

    Particles are drawn anew, with new noise, and their codes read. Codes of the images themselves hold their noise as
    well, and pictures made from such codes show it: of these, any code would seem to tell all that it claims.
    """
    dream = replace(context, batch=replace(context.batch, seeds=None))
    rows = slice(0, max(1, round(settings.share * len(context.batch))))
    code = dream.rehearse(SHIFT_SPREAD)[2][rows]
    content = drawn(code.content_mean, code.content_log_variance, context.generator)
    decoder, pictures = _decoder(context), dream.pictures[0][rows]
    step = decoder.schedule.information(float(_power(context) * decoder.size**2)).to(pictures)
    lowest = int((step == 0).sum())
    level, noised, _ = _noised(decoder, pictures, 0.0, context.generator, lowest)
    nothing = torch.zeros_like(level, dtype=torch.bool)
    told, untold = decoder.denoise(noised, level, content), decoder.denoise(noised, level, content, nothing)
    gain = ((untold - pictures).square() - (told - pictures).square()).flatten(1).sum(1) / decoder.size**2
    return 0.5 * (len(step) - lowest) * (step[level] * gain).mean()


def _decoder(context: Views) -> DiffusionDecoder:
    decoder = decoder_of(context.network)
    assert decoder is not None, "the network was built without the diffusion decoder"
    return decoder


def _noised(
    decoder: DiffusionDecoder, pictures: Tensor, untold: float, generator: torch.Generator, lowest: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Levels (n,), spread evenly from ``lowest`` on, noised pictures, and whether the content is told (n,)."""
    n, device, levels = len(pictures), pictures.device, len(decoder.schedule) - lowest
    offset = torch.rand((), generator=generator, device=device)
    level = lowest + ((torch.arange(n, device=device) + offset) * (levels / n)).long().clamp_max(levels - 1)
    level = level[torch.randperm(n, generator=generator, device=device)]
    noise = torch.randn(pictures.shape, generator=generator, device=device)
    known = torch.rand(n, generator=generator, device=device) >= untold
    return level, decoder.noised(pictures, level, noise), known


def _power(context: Views) -> Tensor:
    """Share of the power of a picture that images show: what CTF or wedge let through."""
    ctf = context.batch.ctf
    return torch.ones((), device=context.batch.images.device) if ctf is None else ctf.square().mean()


def _divergence(context: Views) -> Tensor:
    """Kullback-Leibler divergence of the content posteriors from a standard normal, nats, mean over both branches."""
    total = torch.zeros((), device=context.batch.images.device)
    for branch in context.branches:
        mean, log_variance = branch.encoding.content_mean, branch.encoding.content_log_variance
        total = total + 0.25 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    return total


def _gaussian_divergence(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Kullback-Leibler divergence (n,) of Gaussians ``one`` from ``other``, each mean and log variance (n, d)."""
    (mean, log_variance), (far, log_far) = one, other
    squares = (mean - far).square() + log_variance.exp()
    return 0.5 * (squares * (-log_far).exp() - 1 + log_far - log_variance).sum(1)


def _misfit(context: Views, rows: slice, pictures: Tensor) -> Tensor:
    """() squared error per pixel of some images against ``pictures``, posed and filtered, in units of the noise.

    The pose is the seed, or the hypothesis of the original that explains the image best.
    """
    batch, seeds = context.batch, context.batch.seeds
    trust = batch.images.new_ones(len(pictures), dtype=torch.float32) if seeds is None else seeds.weight[rows]
    if isinstance(context, VolumeContext):
        error = _volume_misfit(context, rows, pictures)
    else:
        assert isinstance(context, Context)
        error = _image_misfit(context, rows, pictures)
    return (trust * error).mean() * (2 / pictures[0].numel())


def _image_misfit(context: Context, rows: slice, pictures: Tensor) -> Tensor:
    """(n,) half squared errors."""
    batch, branch, known = context.batch, context.original, context.network.transformations
    part = Branch(branch.images[rows], branch.applied[rows], branch.encoding[rows], branch.content[rows])
    if isinstance(batch.seeds, SeedPoses):
        every = torch.arange(rows.start, rows.stop, device=pictures.device)
        hypotheses = seeded_hypotheses(part, batch.seeds.take(every), known)
    else:
        hypotheses = all_hypotheses(part, known)
    seen = Batch(batch.images[rows], None if batch.ctf is None else batch.ctf[rows])
    contrast = any(t.name == "contrast" for t in known)
    return fit(seen, pictures, hypotheses, Competition(1.0, 1, contrast)).error[:, 0]


def _volume_misfit(context: VolumeContext, rows: slice, volumes: Tensor) -> Tensor:
    """(n,) half squared errors."""
    batch, own = context.batch, context.fits[0]
    best = own.error[rows].detach().argmin(1, keepdim=True)
    every = torch.arange(len(best), device=best.device)[:, None]
    pose = own.pose[rows].detach()[every, best]
    seen = Batch(batch.images[rows], None if batch.ctf is None else batch.ctf[rows])
    contrast = "contrast" in context.network.shape.transforms
    return fit_volumes(seen, volumes, pose, context.network.band, 1.0, contrast).error[:, 0]
