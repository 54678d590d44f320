"""The optimiser of every training: torch's own fused step of Adam, and a state of named tensors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw

#: What is kept of each parameter.
_STEP, _MEAN, _SQUARE = "step", "exp_avg", "exp_avg_sq"


class Adam:
    """Adam (D. Kingma, J. Ba, ICLR 2015), with the decay of I. Loshchilov and F. Hutter (ICLR 2019).

    The same numbers as ``torch.optim.Adam`` and ``AdamW`` with ``fused=True``. Those load torch's compiler when they
    are made, which takes a second or two of every run and is not needed.

    Parameters
    ----------
    parameters : what is learned; those without a gradient stay as they are
    rate : learning rate
    betas : memories of the mean gradient and of its square
    decay : of the parameters, per step and learning rate
    """

    def __init__(
        self, parameters: Iterable[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.999), decay: float = 0.0
    ) -> None:
        self.parameters = list(parameters)
        self.rate = rate
        self._betas, self._decay = betas, decay
        self._slots: dict[int, dict[str, Tensor]] = {}

    def forget(self) -> None:
        """Forget the gradients of the batch before."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters along their gradients."""
        moved = [(index, p, p.grad) for index, p in enumerate(self.parameters) if p.grad is not None]
        if not moved:
            return
        slots = [self._slot(index) for index, *_ in moved]
        (adamw if self._decay else adam)(
            [parameter for _, parameter, _ in moved],
            [gradient for *_, gradient in moved],
            [slot[_MEAN] for slot in slots],
            [slot[_SQUARE] for slot in slots],
            [],
            [slot[_STEP] for slot in slots],
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self.rate,
            weight_decay=self._decay,
            eps=1e-8,
            maximize=False,
        )

    def _slot(self, index: int) -> dict[str, Tensor]:
        """What is kept of a parameter; nothing yet at its first step."""
        if index not in self._slots:
            self._slots[index] = _fresh(self.parameters[index])
        return self._slots[index]

    def state_dict(self) -> dict[str, Tensor]:
        """What a later training needs to go on: "<number of the parameter>.<name>"."""
        return {f"{index}.{name}": value for index, slot in self._slots.items() for name, value in slot.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave; ValueError where it is of other parameters."""
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            number, name = key.split(".", 1)
            slots.setdefault(int(number), {})[name] = value
        for index, slot in slots.items():
            fits = index < len(self.parameters) and slot.keys() == {_STEP, _MEAN, _SQUARE}
            if not fits or any(slot[name].shape != self.parameters[index].shape for name in (_MEAN, _SQUARE)):
                raise ValueError("the optimiser learned other parameters")
        self._slots = {
            index: {name: value.to(self.parameters[index].device, copy=True) for name, value in slot.items()}
            for index, slot in slots.items()
        }


def _fresh(parameter: Tensor) -> dict[str, Tensor]:
    start = {_STEP: torch.zeros((), dtype=torch.float32, device=parameter.device)}
    return start | {name: torch.zeros_like(parameter, memory_format=torch.preserve_format) for name in (_MEAN, _SQUARE)}
