"""The batch script that runs a command on a SLURM cluster. No Qt."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import PurePath

from napari_harmony.errors import InputError

_GIGABYTE = 2**30
#: What a job gets at the least, whatever an estimate says: torch alone takes half a gigabyte.
_LEAST_MEMORY = 4
#: GPUs of a node that one job can ask for.
MOST_GPUS = 16


@dataclass(frozen=True)
class Resources:
    """What the job asks of the cluster.

    Attributes
    ----------
    cores : of each node
    gpus : of each node, one for each process; 0 computes on the cores, in one process
    memory : gigabytes of main memory of each node
    hours : after which the cluster stops the job; it can be continued
    partition : name of a queue; "" for the cluster's own choice
    nodes : that work together
    """

    cores: int = 8
    gpus: int = 1
    memory: int = 16
    hours: int = 8
    partition: str = ""
    nodes: int = 1

    @property
    def processes(self) -> int:
        """Processes on each node."""
        return max(1, self.gpus)

    def __post_init__(self) -> None:
        for name, least in (("cores", 1), ("gpus", 0), ("memory", 1), ("hours", 1), ("nodes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: give at least {least}.")
        if self.partition and not re.fullmatch(r"[\w.,+-]+", self.partition):
            raise InputError(f"partition: '{self.partition}' is no name of a partition; 'sinfo' lists them.")


def memory_for(needed: int) -> int:
    """Gigabytes to ask for where a run is estimated to need so many bytes: half as much again, rounded up."""
    return max(_LEAST_MEMORY, -(-3 * needed // (2 * _GIGABYTE)))


def slurm_script(command: str, out: PurePath, resources: Resources, name: str = "napari-harmony") -> str:
    """A script for ``sbatch`` that runs a command, and continues it when it is submitted again.

    Parameters
    ----------
    command : as ``napari_harmony.command.command_line`` gives it, quoted for a POSIX shell
    out : its OUT folder; what the job prints goes beside it
    resources : what the job asks for
    name : of the job in the cluster's lists

    Raises
    ------
    InputError : ``out`` has a character that SLURM reads as its own, or one that ends a line
    """
    log = f"{out}.log"
    if wrong := sorted({character for character in log if character in '%"\\' or not character.isprintable()}):
        raise InputError(f"{out}: SLURM does not take {wrong[0]!r} in the name of a file; choose another folder.")
    options = {
        "job-name": re.sub(r"[^\w.-]+", "-", name).strip("-") or "napari-harmony",
        "output": f'"{log}"',
        "open-mode": "append",
        "nodes": resources.nodes,
        "ntasks-per-node": resources.processes,
        "cpus-per-task": max(1, resources.cores // resources.processes),
        "mem": f"{resources.memory}G",
        "time": f"{resources.hours}:00:00",
    }
    if resources.gpus:
        options["gres"] = f"gpu:{resources.gpus}"
    if resources.partition:
        options["partition"] = resources.partition
    lines = [f"#SBATCH --{option}={value}" for option, value in options.items()]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *lines,
            "# Submit with sbatch; submitted again, it continues a job that was stopped.",
            "# If napari-harmony lives in an environment, activate it here.",
            "set -eu",
            'export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"',
            launched(command, resources),
            "",
        ]
    )


def launched(command: str, resources: Resources) -> str:
    """The line of the script that runs a command, or continues it; the program then hears the cluster's signals."""
    again = command if "--resume" in shlex.split(command) else f"{command} --resume"
    if resources.processes * resources.nodes == 1:
        return f"exec {again}"
    # srun does not take over the cores of each task from sbatch, and lets the others wait for one that has died
    return f'exec srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" {again}'
