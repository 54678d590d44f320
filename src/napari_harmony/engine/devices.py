"""Which device runs, in which arithmetic."""

from __future__ import annotations

import torch

from napari_harmony.engine.search import Arithmetic
from napari_harmony.engine.settings import Precision
from napari_harmony.errors import InputError
from napari_harmony.objectives.precision import takes_bfloat16


def choose_device(name: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" or "mps"; ``InputError`` if it is not there."""
    if name == "auto":
        # MPS lacks complex operations that the search needs on several torch versions: only on request.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device: '{name}' is unknown; choose auto, cpu, cuda, cuda:N or mps.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device: '{name}' is unknown; choose auto, cpu, cuda, cuda:N or mps.")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device: '{name}' is not visible to torch {torch.__version__}; choose auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device: 'mps' is not visible to torch {torch.__version__}; choose auto or cpu.")
    return device


def describe_device(device: torch.device) -> str:
    """The device in words, such as "NVIDIA H100, 80 GB" or "CPU, 2 threads"."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads"
    return str(device)


def choose_arithmetic(device: torch.device, memory: int, precision: Precision = "auto") -> Arithmetic:
    """The fastest arithmetic that ``precision`` allows and that does not change the result, for ``memory`` bytes.

    Scores of the exhaustive search rank poses that are refined afterwards; bfloat16 products (summed in float32) have
    a relative error of 2e-3, below the noise of the scores.
    """
    kind = torch.float32
    if takes_bfloat16(device, precision):
        kind = torch.bfloat16
    elif device.type == "cpu" and precision != "full" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            kind = torch.bfloat16
    if device.type != "cpu":
        # A card wants large products; two blocks, and what moves the images, take a quarter of the memory each.
        return Arithmetic(kind, int(min(memory // 8, 2**30)), memory, max(1, memory // 16), max(1, memory // 2**18))
    threads = torch.get_num_threads()
    sizes = (Arithmetic.block * threads, Arithmetic.columns * threads)
    return Arithmetic(kind, int(min(memory // 8, 48_000_000)), memory, *sizes)
