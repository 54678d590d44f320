"""The state of a training at the end of an epoch, as named tensors: no pickle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_harmony.engine.disk import MAKE_ROOM, kept_on
from napari_harmony.errors import InputError
from napari_harmony.objectives import Adam, Objective


@dataclass(frozen=True)
class TrainState:
    """What a training needs to go on.

    Attributes
    ----------
    epoch : how many epochs are done
    tensors : weights, optimiser and objective, as "network.", "optimiser." and "objective." entries
    """

    epoch: int
    tensors: dict[str, Tensor]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, beside and then renamed."""
        from safetensors.torch import save

        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        with kept_on(path.parent, "the state of the training", MAKE_ROOM):
            try:
                beside.write_bytes(save(self.tensors, {"epoch": str(self.epoch)}))
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainState:
        """Read what ``save`` wrote; InputError where it is something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(os.fspath(path), framework="pt") as file:
                epoch = (file.metadata() or {}).get("epoch", "")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: the training state cannot be read ({error}); start without resuming.") from None
        if not epoch.isdecimal():
            raise InputError(f"{path}: this is no training state (it lacks 'epoch'); start without resuming.")
        return cls(int(epoch), tensors)


def snapshot(epoch: int, network: nn.Module, optimiser: Adam, objective: Objective) -> TrainState:
    """The state after ``epoch`` epochs, copied to the CPU."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"optimiser.{name}": value for name, value in optimiser.state_dict().items()}
    tensors |= {f"objective.{name}": value for name, value in objective.state_dict().items()}
    copied = {n: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for n, t in tensors.items()}
    return TrainState(epoch, copied)


def restore(state: TrainState, network: nn.Module, optimiser: Adam, objective: Objective) -> int:
    """Put a state back and return the number of epochs done; InputError where it is of another training."""
    try:
        network.load_state_dict(_part(state, "network."))
        optimiser.load_state_dict(_part(state, "optimiser."))
        objective.load_state_dict(_part(state, "objective."))
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The training state is of another training ({reason}); start without resuming.") from None
    return state.epoch


def _part(state: TrainState, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.tensors.items() if name.startswith(prefix)}
