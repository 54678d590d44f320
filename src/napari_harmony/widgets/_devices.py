"""What a run can be computed on, in words."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """``key`` is what ``Settings.device`` takes; ``words`` are for people; ``memory`` in bytes, None: the main one."""

    key: str
    words: str
    memory: int | None = None


def cpu() -> Device:
    """The processor, with the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Device("cpu", f"CPU ({cores} core{'s' if cores != 1 else ''})")


def devices() -> list[Device]:
    """Every device, the one that "auto" takes first. Imports torch, which takes seconds: not for the main thread."""
    import torch

    found = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        words = f"{properties.name}, {properties.total_memory / 2**30:.0f} GB"
        found.append(Device(f"cuda:{number}", words, properties.total_memory))
    found.append(cpu())
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU"))  # after the CPU: "auto" does not take it
    return found


def why_cpu() -> str:
    """Why only the processor is offered. Imports torch."""
    import torch

    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} was installed without CUDA"
    return f"torch {torch.__version__} sees no CUDA device"
