"""Adaptive independence: a code may tell nothing of another, by as much pressure as that takes and no more.

After the idea of P. Esser, J. Haux, B. Ommer, *Unsupervised robust disentangling of latent characteristics for image
synthesis*, ICCV 2019. One critic estimates what the code tells of the other one and is fought by the code; a second one
only watches. A code that merely learned to fool the first is found out by the second, and the gap between the two sets
how narrow the code must be. The two are equal, and so the gap says nothing but that. Both learn twice from every batch:
with one step they lag behind the code, and a critic made afterwards finds what they missed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from napari_harmony.models import ModelCard
from napari_harmony.objectives.adam import Adam
from napari_harmony.objectives.critics import Critic, critic_loss, shuffled
from napari_harmony.objectives.cross_contrastive import ContentPrior
from napari_harmony.objectives.term import Term, Weight
from napari_harmony.objectives.views import Views
from napari_harmony.transforms import Pose2D, Pose3D, so3

#: The largest gap between the critics that the controller heeds in one step, in nats.
_MOST_GAP = 10.0


@dataclass(frozen=True)
class Controls:
    """Constants of ``AdversarialIndependence``; information is in nats.

    Attributes
    ----------
    allowed : information that the code may hold of the other
    penalty : of the augmented Lagrangian; also the rate of its multiplier
    rate : by how much gamma moves per step and nat of the gap between the critics
    slack : of that gap; as long as it is smaller, gamma falls
    memory : of the moving averages of what the critics read, per step
    gamma : the first weight of the divergence from the prior
    least, most : bounds of gamma
    critic_rate : learning rate of the critics
    width : of the layers of both critics
    steps : how often each learns from a batch
    """

    allowed: float = 0.125
    penalty: float = 0.1
    rate: float = 0.01
    slack: float = 0.01
    memory: float = 0.99
    gamma: float = 1e-3
    least: float = 1e-3
    most: float = 5.0
    critic_rate: float = 2e-3
    width: int = 64
    steps: int = 2


class AdversarialIndependence:
    """Two critics, an augmented Lagrangian and the controller of gamma, for any two codes of the same particles.

    The parts of the state have the names of the publication: ``lam`` is the multiplier of the constraint that the
    information is at most ``allowed``, ``gamma`` the weight of the divergence of the code's posterior from its prior.
    ``steps`` counts the batches.

    Parameters
    ----------
    code, other : dimensions of the code that is to be independent, and of what it must not tell
    controls : constants
    """

    def __init__(self, code: int, other: int, controls: Controls | None = None) -> None:
        self.controls = controls or Controls()
        self.attacked = Critic(code, other, self.controls.width)
        self.watching = Critic(code, other, self.controls.width)
        self._optimisers = {
            name: Adam(critic.parameters(), self.controls.critic_rate, (0.5, 0.9)) for name, critic in self._critics
        }
        self.steps, self.lam, self.gamma = 0, 0.0, self.controls.gamma
        self._averages = [0.0, 0.0]

    def __call__(
        self, code: Tensor, other: Tensor, divergence: Tensor, generator: torch.Generator, *, active: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What to add to the loss of one batch, in nats; the critics learn from it, and the controller moves.

        Parameters
        ----------
        code : (n, c), drawn from its posterior, with gradients
        other : (n, o), taken as given
        divergence : scalar, mean Kullback-Leibler divergence of the code's posterior from its prior
        generator : for the pairs that do not belong together
        active : False during the warm-up, when only the critics learn
        """
        if len(code) < 2:
            return self.gamma * divergence, {}
        known = other.detach()
        # what a critic reads on a batch that it has learned from is too much, so it reads first
        self._read(code.detach(), known)
        self._learn(code.detach(), known, generator)
        excess = self.attacked.as_constant(code, known).mean() - self.controls.allowed
        loss = self.gamma * divergence
        mu = self.controls.penalty
        if active:
            if mu * float(excess.detach()) + self.lam >= 0:
                loss = loss + self.lam * excess + 0.5 * mu * excess.square()
            self._control(float(excess.detach()))
        return loss, self._logged(loss)

    @property
    def readings(self) -> tuple[float, float]:
        """Information in nats as the attacked and the watching critic read it, averaged over the last batches."""
        full = 1 - self.controls.memory**self.steps
        first, second = self._averages
        return (first / full, second / full) if self.steps else (0.0, 0.0)

    @property
    def _critics(self) -> tuple[tuple[str, Critic], tuple[str, Critic]]:
        return ("attacked", self.attacked), ("watching", self.watching)

    def _read(self, code: Tensor, other: Tensor) -> None:
        with torch.no_grad():
            read = [float(critic(code, other).mean()) for _, critic in self._critics]
        memory = self.controls.memory
        self._averages = [memory * old + (1 - memory) * new for old, new in zip(self._averages, read, strict=True)]
        self.steps += 1

    def _learn(self, code: Tensor, other: Tensor, generator: torch.Generator) -> None:
        for name, critic in self._critics:
            for _ in range(self.controls.steps):
                a, b = critic.first(code), critic.second(other)
                loss = critic_loss((a * b).sum(-1), (a * shuffled(b, generator)).sum(-1))
                self._optimisers[name].forget()
                loss.backward()
                self._optimisers[name].step()

    def _control(self, excess: float) -> None:
        """Move multiplier and gamma by what was read."""
        controls = self.controls
        self.lam = max(0.0, self.lam + controls.penalty * excess)
        attacked, watching = (max(0.0, value) for value in self.readings)
        gap = min(max(watching - attacked, 0.0), _MOST_GAP)
        moved = self.gamma + controls.rate * (gap - controls.slack)
        self.gamma = min(max(moved, controls.least), controls.most)

    def _logged(self, loss: Tensor) -> dict[str, Tensor]:
        attacked, watching = self.readings
        values = {"attacked": attacked, "watching": watching, "gamma": self.gamma, "lambda": self.lam}
        return {name: loss.new_tensor(value).detach() for name, value in values.items()}

    def to(self, device: torch.device) -> None:
        """Move the critics."""
        self.attacked.to(device)
        self.watching.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """Critics, their optimisers, and the state of the controller."""
        numbers = [float(self.steps), *self._averages, self.lam, self.gamma]
        state = {"controller": torch.tensor(numbers, dtype=torch.float64)}
        for name, critic in self._critics:
            state |= {f"{name}.{key}": value for key, value in critic.state_dict().items()}
            state |= {f"optimiser.{name}.{k}": v for k, v in self._optimisers[name].state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        steps, first, second, self.lam, self.gamma = state["controller"].tolist()
        self.steps, self._averages = round(steps), [first, second]
        for name, critic in self._critics:
            critic.load_state_dict(_part(state, f"{name}."))
            self._optimisers[name].load_state_dict(_part(state, f"optimiser.{name}."))


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


#: Numbers that stand for each transformation in images and in subtomograms. Copies vary no other ones.
FEATURES = {
    2: {"rotation": 2, "translation": 2, "scale": 1, "contrast": 2},
    3: {"rotation": 9, "translation": 3},
}


class IndependencePenalty(Term[Views]):
    """Content must not tell how the particle lies; ``AdversarialIndependence`` of the content from its transformation.

    It looks at the copies. Their transformation is that of the particle followed by the one that made the copy, which
    is exact, new in every step, and as random as the recipe made it, whatever the particles do: where they lie in
    preferred ways, a content that goes with an orientation is not blamed for it.

    The weight of the divergence from the prior is that of ``ContentPrior``, which fixes the scale of the code, plus
    gamma. Like the reconstruction, all is in nats, so that gamma and the multiplier have no unit to be tuned to.

    Parameters
    ----------
    card : of the model: its content, dimensions and transformations
    strength : the allowed information is ``controls.allowed / strength``
    exclude : names of transformations that the content may tell of
    warm_up : steps until the penalty sets in, or this share of the training where that is sooner
    controls : constants
    """

    def __init__(
        self,
        card: ModelCard,
        strength: float = 1.0,
        *,
        exclude: tuple[str, ...] = (),
        warm_up: tuple[int, float] = (300, 0.3),
        controls: Controls | None = None,
    ) -> None:
        controls = controls or Controls()
        sizes = FEATURES[card.dimensions]
        self.name, self.weight = "independence", Weight(1.0)
        self.factors = tuple(name for name in sizes if name in card.transforms and name not in exclude)
        self.warm_up = warm_up
        size = sum(sizes[name] for name in self.factors)
        self.core = AdversarialIndependence(card.content, size, replace(controls, allowed=controls.allowed / strength))

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        copy = context.copy
        if not self.factors:
            return copy.content.new_zeros(()), {}
        other = standardised(pose_features(copy.applied.compose(fitted_pose(context)), self.factors))
        steps, share = self.warm_up
        active = self.core.steps >= steps or context.progress >= share
        divergence = ContentPrior()(context)[0]
        return self.core(copy.content.float(), other, divergence, context.generator, active=active)

    def to(self, device: torch.device) -> None:
        """Move the critics."""
        self.core.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """The state of critics and controller."""
        return self.core.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        self.core.load_state_dict(state)


@torch.no_grad()
def fitted_pose(context: Views) -> Pose2D | Pose3D:
    """The pose (n,) that explains each original particle best, with gain and offset as they were solved for."""
    fits = context.fits
    best = torch.cat([fit.error for fit in fits], dim=1).argmin(dim=1)
    rows = torch.arange(len(best), device=best.device)

    def chosen(values: list[Tensor]) -> Tensor:
        return torch.cat(values, dim=1)[rows, best]

    poses = [fit.pose for fit in fits]
    pose = type(poses[0])(**{f.name: chosen([getattr(one, f.name) for one in poses]) for f in fields(poses[0])})
    solved = {
        name: chosen([getattr(fit, name) for fit in fits]) for name in ("gain", "offset") if hasattr(fits[0], name)
    }
    known: Pose2D | Pose3D = replace(pose, **solved)
    return known


def pose_features(pose: Pose2D | Pose3D, names: tuple[str, ...]) -> Tensor:
    """Numbers (n, f) without jumps for the transformations ``names`` of poses (n,), as many as ``FEATURES`` says.

    Cosine and sine of an angle, the entries of the matrix of a rotation in space, pixels, logarithms of scale and gain.
    """
    if isinstance(pose, Pose2D):
        rotation = torch.stack([pose.angle.cos(), pose.angle.sin()], -1)
    else:
        rotation = so3.to_matrix(pose.quaternion).flatten(-2)
    parts = {
        "rotation": rotation,
        "translation": pose.shift,
        "scale": pose.log_scale[:, None],
        "contrast": torch.stack([pose.gain.clamp_min(0.05).log(), pose.offset], -1),
    }
    return torch.cat([parts[name] for name in names], dim=-1)


def standardised(values: Tensor) -> Tensor:
    """Columns (n, f) with mean 0 and variance 1; those that do not vary become 0."""
    centred = values - values.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(1e-6)
