"""The protocol of an objective: a sum of terms, each in its own file.

A further objective is a subclass of ``Term`` put into the tuple of an ``Objective``. It may use everything of the
``Views``: the network (to decode, re-render and re-encode), both branches with their contents, pose hypotheses and
the *known* transformation of the copy, the canonical pictures, and the fits. A term may have modules of its own. What
works against the network (a critic, a controller) it trains within its call on detached codes; what works with the
network (a head) it hands out in ``parameters``. Both go into ``state_dict``, so that a resumed training goes on where
it stopped. What must outlive the training, such as a further decoder, belongs to the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from napari_harmony.objectives.views import Views

#: What a term looks at: ``Views`` where it serves images and volumes, else the one or the other.
ViewsT = TypeVar("ViewsT", bound=Views, contravariant=True)


@dataclass(frozen=True)
class Weight:
    """Weight of a term: ``value``, reached in a straight line from 0 over the training's ``start`` to ``full``."""

    value: float
    start: float = 0.0
    full: float = 0.0

    def __call__(self, progress: float) -> float:
        """The weight at ``progress`` in [0, 1]."""
        if progress < self.start:
            return 0.0
        if progress >= self.full:
            return self.value
        return self.value * (progress - self.start) / (self.full - self.start)


class Term(ABC, Generic[ViewsT]):
    """One summand of an objective."""

    name: str
    weight: Weight
    #: Whether it is a mean over particles that it looks at one by one, so that a batch can be shared out.
    one_by_one: ClassVar[bool] = False
    #: Names of terms of a recipe that this one takes the place of.
    replaces: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self, context: ViewsT) -> tuple[Tensor, dict[str, Tensor]]:
        """The unweighted value, a scalar (mean over particles), and detached numbers worth logging, by short name."""

    def to(self, device: torch.device) -> None:
        """Move the modules of its own, before the first call."""

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Parameters of its own that are learned together with the network's, always in the same order."""
        return ()

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that a resumed training needs; none by default."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        if state:
            raise ValueError(f"the term '{self.name}' keeps no state, but was given {sorted(state)}")


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms."""

    terms: tuple[Term[Any], ...]

    def __call__(self, context: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and the parts by name: each term, and what it logs as ``term.part``."""
        total = torch.zeros((), device=context.batch.images.device)
        parts: dict[str, Tensor] = {}
        for term in self.terms:
            weight = term.weight(context.progress)
            if weight == 0.0:
                continue
            value, logged = term(context)
            total = total + weight * value
            parts[term.name] = value.detach()
            parts |= {f"{term.name}.{name}": part for name, part in logged.items()}
        return total, parts

    @property
    def one_by_one(self) -> bool:
        """Whether all terms are means over particles that they look at one by one."""
        return all(term.one_by_one for term in self.terms)

    def to(self, device: torch.device) -> None:
        """Move what the terms have of their own."""
        for term in self.terms:
            term.to(device)

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """What the terms learn together with the network."""
        return tuple(parameter for term in self.terms for parameter in term.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        """The state of all terms, as ``term.tensor``."""
        return {f"{term.name}.{name}": value for term in self.terms for name, value in term.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        for term in self.terms:
            prefix = f"{term.name}."
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            term.load_state_dict(own)
