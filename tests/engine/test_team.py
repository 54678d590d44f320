"""Two processes that share the work of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import team_worker
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_harmony.engine import near
from napari_harmony.engine.processes import Place, check_shared, form_team, place_in, wanted_devices
from napari_harmony.engine.shared_norm import SharedNorm, shared_norms
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.errors import InputError


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What came out in each of two processes, of which the second died when all was done."""
    folder = tmp_path_factory.mktemp("team")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    support = os.pathsep.join([str(Path(team_worker.__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": support, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, team_worker.__file__]
    workers = [subprocess.Popen([*command, str(r), port, str(folder)], env=environment) for r in range(2)]
    try:
        codes = [worker.wait(120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert codes == [0, 9]
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


def of(part: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in found.items() if name.startswith(f"{part}.")}


def test_both_know_the_same(both: list[dict[str, Tensor]]) -> None:
    assert both[0].keys() == both[1].keys()
    for name, value in both[0].items():
        assert torch.equal(value, both[1][name]), name


def test_rows_come_in_the_order_of_the_processes(both: list[dict[str, Tensor]]) -> None:
    whole, found = team_worker.parcels(0, 8), of("messages", both[0])
    assert torch.equal(found["wave"], torch.view_as_real(whole.wave))
    assert torch.equal(found["number"], whole.inner.number) and torch.equal(found["flag"], whole.inner.flag)
    assert torch.equal(found["nothing"], torch.ones(2, 3))


def test_sums_and_decisions(both: list[dict[str, Tensor]]) -> None:
    found = of("messages", both[1])
    assert torch.equal(found["added"][:, 0, 0], torch.tensor([1.0, 3.0]))
    assert found["told"].tolist() == [4, 2]
    assert found["agreed"].tolist() == [True, False]


def test_memory_and_sockets_say_the_same(both: list[dict[str, Tensor]]) -> None:
    found = of("ways", both[1])
    assert bool(found["has_memory"]) == near.can_share()
    row = torch.arange(len(found["memory.sum"]), dtype=torch.float32)
    for way in ("memory", "sockets"):
        assert torch.equal(found[f"{way}.sum"], 3 * row)
        assert torch.equal(found[f"{way}.rows"], torch.cat([row, 2 * row]))
        assert torch.equal(found[f"{way}.whole"], torch.arange(5.0))
    assert found["nameless"].all()


def test_processes_read_a_share_each_and_fail_alike(both: list[dict[str, Tensor]]) -> None:
    found, alone = of("read", both[1]), team_worker.read(ALONE)
    assert found["flags"].tolist() == alone["flags"].tolist() and set(alone["flags"].tolist()) == {0, 1, 2, 3}
    for name, value in alone.items():
        torch.testing.assert_close(found[name], value)
    assert both[0]["read.said"].all() and both[1]["read.said"].all()


def test_processes_fill_one_file_with_what_does_not_fit_in_memory(both: list[dict[str, Tensor]]) -> None:
    found, alone = of("streamed", both[1]), team_worker.streamed(ALONE)
    torch.testing.assert_close(found["samples"], alone["samples"])
    assert not found["samples"][:200].any() and found["samples"][200:].any(dim=1).all()
    assert torch.equal(found["table"][:, 0], alone["table"][:, 0])
    turned = (found["table"][:, 1] - alone["table"][:, 1] + 180) % 360 - 180
    assert float(turned.abs().median()) < 0.1


def test_a_normalisation_sees_the_batches_of_all(both: list[dict[str, Tensor]]) -> None:
    found = of("normalised", both[0])
    for name, value in team_worker.normalised(ALONE).items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


def test_a_training_is_that_of_one_process(both: list[dict[str, Tensor]]) -> None:
    found, alone = of("trained", both[0]), team_worker.trained(ALONE)
    torch.testing.assert_close(found["losses"], alone.pop("losses"), rtol=1e-4, atol=0)
    for name, value in alone.items():
        # Adam makes of a gradient that is nearly zero a whole step of the rate, up or down.
        assert float((found[name] - value).abs().float().median()) < 1e-5, name


def test_a_search_of_subtomograms_is_that_of_one_process(both: list[dict[str, Tensor]]) -> None:
    found = of("searched", both[0])
    for name, value in team_worker.searched(ALONE).items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)


def test_what_the_bundled_network_sees_in_subtomograms_is_that_of_one_process(both: list[dict[str, Tensor]]) -> None:
    found = of("looked_at", both[0])
    for name, value in team_worker.looked_at(ALONE).items():
        assert found[name].shape == value.shape
        near = 1e-2 if name == "marks" else 1e-3  # marks are in half precision
        torch.testing.assert_close(found[name], value, rtol=near, atol=near)


def test_a_network_keeps_its_own_normalisations() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    own, names = network[1], list(network.state_dict())
    with shared_norms(network, Team(0, 2)):
        assert isinstance(network[1], SharedNorm) and list(network.state_dict()) == names
        network.eval()
        assert torch.isfinite(network(torch.ones(4, 2))).all()  # without asking anybody
    assert network[1] is own and not own.training


@pytest.mark.parametrize("count", [1, 4, 11])
def test_every_particle_is_in_one_share(count: int) -> None:
    shares = [list(range(count))[Team(rank, 3).share(count)] for rank in range(3)]
    assert sum(shares, []) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_who_started_the_processes_is_read_off_the_environment() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    srun = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "3", "SLURM_PROCID": "4", "SLURM_NTASKS": "6"}
    assert place_in({}) == Place("nobody", 0, 1, 1)
    assert place_in(torchrun) == Place("torchrun", 5, 4, 2)
    assert place_in({**torchrun, "LT_CLI_USED": "1"}) == Place("fabric", 5, 4, 2)
    assert place_in(srun) == Place("slurm", 4, 2, 3)
    # a batch script in which nobody called srun is one process, however many tasks were asked for
    assert place_in({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}).size == 1
    with pytest.raises(InputError, match="as many on each"):
        place_in({**srun, "SLURM_STEP_NUM_TASKS": "7"})


@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5"])
def test_devices_that_cannot_be_counted_are_refused(word: str) -> None:
    with pytest.raises(InputError, match="--devices"):
        wanted_devices(word, "cpu")


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Place("ourselves", 0, 2, 1)
    with pytest.raises(InputError, match="choose auto, cpu or cuda"):
        check_shared(two, "cuda:1")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(InputError, match="pip install lightning-fabric"):
        form_team(two, "cpu")
    assert form_team(Place("nobody", 0, 1, 1), "mps") is ALONE and wanted_devices("auto", "cpu") == 1
