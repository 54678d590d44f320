"""The device asked for or a sentence, and batches that fit the memory given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from napari_harmony.engine.devices import choose_arithmetic, choose_device, describe_device
from napari_harmony.errors import InputError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has two CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    card = SimpleNamespace(name="NVIDIA H100", total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_a_gpu_where_there_is_one(gpus: None) -> None:
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="'cuda:2' is not visible"):
        choose_device("cuda:2")


def test_auto_takes_the_cpu_otherwise(no_gpu: None) -> None:
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused(no_gpu: None, name: str) -> None:
    with pytest.raises(InputError, match=f"device: '{name}' is not visible to torch .*; choose auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "xpu"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device: '{name}' is unknown; choose auto, cpu, cuda"):
        choose_device(name)


def test_devices_are_named_for_people(gpus: None) -> None:
    assert describe_device(torch.device("cuda")) == "NVIDIA H100, 80 GB"
    assert describe_device(torch.device("cpu")) == f"CPU, {torch.get_num_threads()} threads"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_take_no_more_than_the_memory_given(gpus: None, device: str) -> None:
    small, large = (choose_arithmetic(torch.device(device), memory) for memory in (2**20, 2**40))
    assert 4 * small.budget <= 2**20
    assert small.budget < large.budget <= 2**30
    assert (small.memory, large.memory) == (2**20, 2**40)
    assert small.kind == large.kind


def test_bfloat16_only_where_the_processor_multiplies_it(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_arithmetic(torch.device("cuda"), 2**28).kind == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_arithmetic(torch.device("cuda"), 2**28).kind == torch.float32
    assert choose_arithmetic(torch.device("cuda"), 2**28, "mixed").kind == torch.bfloat16
    for capable, kind in ((True, torch.bfloat16), (False, torch.float32)):
        said = {"avx512_bf16": False, "amx_bf16": capable}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda said=said: said, raising=False)
        assert choose_arithmetic(torch.device("cpu"), 2**28).kind == kind
        assert choose_arithmetic(torch.device("cpu"), 2**28, "full").kind == torch.float32


def test_full_precision_is_full_on_every_device(gpus: None) -> None:
    assert choose_arithmetic(torch.device("cuda"), 2**28, "full").kind == torch.float32
