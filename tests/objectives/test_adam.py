"""The optimiser takes torch's steps, goes on where it stopped, and loads no compiler."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from napari_harmony.objectives import Adam


def lesson(seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """A network, one of whose parameters never gets a gradient, and what it is shown."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        network.register_parameter("idle", nn.Parameter(torch.ones(2)))
        return network, torch.randn(50, 4)


def learn(network: nn.Module, shown: torch.Tensor, optimiser: Any, steps: int) -> None:
    for _ in range(steps):
        for parameter in network.parameters():
            parameter.grad = None
        (network(shown) - shown[:, :3].square()).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_steps_are_those_of_torch(decay: float) -> None:
    (ours, shown), (theirs, _) = lesson(), lesson()
    options: dict[str, Any] = {"lr": 0.02, "betas": (0.5, 0.9), "fused": True}
    learn(ours, shown, Adam(ours.parameters(), 0.02, (0.5, 0.9), decay), 20)
    reference = torch.optim.AdamW if decay else torch.optim.Adam
    learn(theirs, shown, reference(theirs.parameters(), weight_decay=decay, **options), 20)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if one.grad is not None:
            assert torch.equal(one, other)
    assert torch.equal(ours.get_parameter("idle"), torch.ones(2))


def test_the_rate_can_be_changed_between_steps() -> None:
    network, shown = lesson()
    optimiser = Adam(network.parameters(), 0.02)
    learn(network, shown, optimiser, 1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser.rate = 0.0
    learn(network, shown, optimiser, 3)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))


def test_it_goes_on_from_its_state() -> None:
    (whole, shown), (part, _) = lesson(), lesson()
    learn(whole, shown, Adam(whole.parameters(), 0.02), 10)
    first = Adam(part.parameters(), 0.02)
    learn(part, shown, first, 4)
    second = Adam(part.parameters(), 0.02)
    second.load_state_dict(first.state_dict())
    learn(part, shown, second, 6)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), part.parameters(), strict=True))


def test_the_state_of_other_parameters_is_refused() -> None:
    network, shown = lesson()
    optimiser = Adam(network.parameters(), 0.02)
    learn(network, shown, optimiser, 1)
    state = optimiser.state_dict()
    idle, *learned = network.parameters()
    for others in ([idle], [idle, torch.zeros(8, 5), *learned[1:]]):
        with pytest.raises(ValueError, match="other parameters"):
            Adam(others, 0.02).load_state_dict(state)
    with pytest.raises(ValueError, match="other parameters"):
        optimiser.load_state_dict({name: value for name, value in state.items() if name != "1.step"})


def test_the_state_of_torch_s_own_optimiser_is_understood() -> None:
    """Checkpoints of before hold the same names."""
    (whole, shown), (part, _) = lesson(), lesson()
    learn(whole, shown, Adam(whole.parameters(), 0.02), 5)
    theirs = torch.optim.Adam(part.parameters(), lr=0.02, fused=True)
    learn(part, shown, theirs, 3)
    slots = theirs.state_dict()["state"].items()
    ours = Adam(part.parameters(), 0.02)
    ours.load_state_dict({f"{index}.{name}": value for index, slot in slots for name, value in slot.items()})
    learn(part, shown, ours, 2)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), part.parameters(), strict=True))


def test_no_compiler_is_loaded() -> None:
    program = """
import sys, torch
from napari_harmony.objectives import Adam
p = torch.zeros(2, requires_grad=True)
p.sum().backward()
Adam([p], 1.0).step()
assert (p + 1).abs().max() < 1e-6 and "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
