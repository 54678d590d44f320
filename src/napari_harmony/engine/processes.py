"""The process group of a run on several devices or nodes, set up by Lightning Fabric.

Who starts the processes is read off the environment: ``torchrun`` (and ``fabric run``, which uses it), ``srun`` of
SLURM, or else ``cli.launch``, which starts those of one node itself. No torch is needed to read it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_harmony.errors import InferenceError, InputError

if TYPE_CHECKING:
    from napari_harmony.engine.team import Team

#: Who started the processes: nobody but the user, ``cli.launch``, torchrun, ``fabric run``, or SLURM's srun.
Starter = Literal["nobody", "ourselves", "torchrun", "fabric", "slurm"]
#: Environment variable that ``cli.launch`` gives to the processes that it starts.
STARTED = "NAPARI_HARMONY_STARTED"


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is.

    Attributes
    ----------
    starter : of the processes
    rank : from 0
    per_node, nodes : processes on each node, and how many nodes there are
    """

    starter: Starter
    rank: int
    per_node: int
    nodes: int

    @property
    def size(self) -> int:
        """All processes."""
        return self.per_node * self.nodes


def place_in(environment: Mapping[str, str] = os.environ) -> Place:
    """What the environment says of the processes that were started already; one process where it says nothing.

    Raises
    ------
    InputError : nodes with different numbers of processes
    """
    if STARTED in environment:
        local, nodes = int(environment["LOCAL_WORLD_SIZE"]), int(environment["NAPARI_HARMONY_NODES"])
        rank = int(environment["NODE_RANK"]) * local + int(environment["LOCAL_RANK"])
        return Place("ourselves", rank, local, nodes)
    if "TORCHELASTIC_RUN_ID" in environment:
        starter: Starter = "fabric" if environment.get("LT_CLI_USED") == "1" else "torchrun"
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        starter, names = "slurm", ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "")
    else:
        return Place("nobody", 0, 1, 1)
    rank, size = (int(environment[name]) for name in names[:2])
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1)) if starter == "slurm" else 0
    local = int(environment[names[2]]) if names[2] else size // nodes
    if size % local or (nodes and local * nodes != size):
        raise InputError(f"{size} processes were started on nodes of different sizes; start as many on each node.")
    return Place(starter, rank, local, size // local)


def wanted_devices(word: str, device: str) -> int:
    """How many processes a node gets for ``--devices``: a number, or "auto" for every graphics card.

    Parameters
    ----------
    word : of the command line
    device : as in ``Settings``

    Raises
    ------
    InputError : it is no number, or the device cannot be shared out
    """
    if word == "auto":
        import torch

        return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") else 1
    count = int(word) if word.isdecimal() else 0
    if count < 1:
        raise InputError(f"--devices is '{word}': give a number of at least 1, or 'auto'.")
    return count


def check_shared(place: Place, device: str) -> None:
    """Raise ``InputError`` where a device cannot take part in a run of several processes."""
    if place.size > 1 and device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: several processes need a device for each; choose auto, cpu or cuda.")


def form_team(place: Place, device: str) -> Team:
    """Meet the other processes of a run; returns when all are there.

    Parameters
    ----------
    place : of this process
    device : "auto", "cpu" or "cuda"

    Raises
    ------
    InputError : Lightning Fabric is missing, or there are fewer graphics cards than processes
    InferenceError : the others cannot be reached
    """
    from napari_harmony.engine.team import ALONE, Team

    if place.size == 1:
        return ALONE
    from napari_harmony.engine.devices import choose_device

    try:
        import lightning_fabric
    except ImportError as error:
        raise InputError(
            f"Several processes need Lightning Fabric ({error}): pip install lightning-fabric, or leave out --devices."
        ) from None
    logging.getLogger(lightning_fabric.__name__).setLevel(logging.ERROR)  # it announces every process
    kind = choose_device(device).type
    _check_cards(kind, place)
    try:
        fabric = lightning_fabric.Fabric(**_asked_of_fabric(place, kind))
        if place.starter != "fabric":  # which has launched already
            fabric.launch()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InferenceError(f"The {place.size} processes of this run could not meet: {reason}") from error
    if fabric.world_size != place.size:
        raise InputError(
            f"{place.size} processes were started, but Lightning Fabric sees {fabric.world_size}; give --devices and "
            "--num-nodes as they were given to what started them."
        )
    team = Team(fabric.global_rank, fabric.world_size, fabric.device)
    return with_memory(team) if place.nodes == 1 and kind == "cpu" else team


def with_memory(team: Team) -> Team:
    """The same processes, all of one node, speaking through memory where they can share some."""
    import torch

    from napari_harmony.engine import near

    path, opened = b"", None
    with suppress(OSError):
        path = os.fsencode(near.create(team.size)) if team.first and near.can_share() else b""
    try:
        told = Path(os.fsdecode(bytes(team.of_first(list(path)))))
        processes = tuple(team.gather(torch.tensor([os.getpid()])).tolist())
        with suppress(OSError):
            opened = near.Near.opened(told, team.rank, processes)
        all_have = int(team.sum(torch.tensor([int(opened is not None)]))) == team.size
    finally:
        if path:
            os.unlink(path)  # who has it open keeps it
    return replace(team, near=opened) if all_have else team


def _check_cards(kind: str, place: Place) -> None:
    import torch

    if kind == "cuda" and torch.cuda.device_count() < place.per_node:
        raise InputError(
            f"--devices {place.per_node}: torch sees {torch.cuda.device_count()} graphics cards; give fewer devices, "
            "or --device cpu."
        )


def _asked_of_fabric(place: Place, kind: str) -> dict[str, Any]:
    """Arguments of ``Fabric``."""
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    if place.starter == "fabric":
        return {}
    environments = {"torchrun": TorchElasticEnvironment, "slurm": SLURMEnvironment}
    return {
        "accelerator": kind,
        "devices": place.per_node,
        "num_nodes": place.nodes,
        "strategy": "ddp",
        "plugins": [environments.get(place.starter, LightningEnvironment)()],
    }
