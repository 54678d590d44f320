"""One of two processes: ``python team_worker.py RANK PORT FOLDER`` writes what came out of their work to FOLDER."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import volume_data
from engine_data import draw, run, simulated, stack
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_harmony.engine import api
from napari_harmony.engine.near import PIECE
from napari_harmony.engine.preprocess import prepare
from napari_harmony.engine.processes import Place, form_team
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.shared_norm import shared_norms
from napari_harmony.engine.store import stored
from napari_harmony.engine.team import Team
from napari_harmony.engine.train import TrainSettings, train
from napari_harmony.engine.volumes.discovery import Search
from napari_harmony.engine.volumes.learning import network_samples
from napari_harmony.engine.volumes.plans import NEARBY, Stage
from napari_harmony.engine.volumes.search import maximise
from napari_harmony.engine.volumes.seen import look
from napari_harmony.engine.volumes.shared import within
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError, TeamBroken
from napari_harmony.models import HarmonyModel, ModelCard, VolumeNetwork
from napari_harmony.models.bundled import bundled_model
from napari_harmony.objectives import SeedPoses
from napari_harmony.particles.images import ArrayImages

BATCH, CHANNELS = 7, 5


@dataclass(frozen=True)
class Parcel:
    """Something to send: fields of several kinds, in a dataclass in a dataclass."""

    number: Tensor
    flag: Tensor
    name: str = "unsent"


@dataclass(frozen=True)
class Parcels:
    wave: Tensor
    inner: Parcel


def parcels(first: int, count: int) -> Parcels:
    """``count`` rows that say which they are."""
    row = torch.arange(first, first + count)
    return Parcels(torch.complex(row.float(), -row.float())[:, None], Parcel(row, row % 2 == 0))


def messages(team: Team) -> dict[str, Tensor]:
    """What is sent to and fro: of eight rows, three and five."""
    mine = slice(0, 3) if team.first else slice(3, 8)
    gathered = team.gather(parcels(mine.start, mine.stop - mine.start))
    nothing = team.gather(torch.ones(0 if team.first else 2, 3))
    added = team.sum(parcels(team.rank, 2).wave)
    return {
        "wave": torch.view_as_real(gathered.wave),
        "number": gathered.inner.number,
        "flag": gathered.inner.flag,
        "nothing": nothing,
        "added": torch.view_as_real(added),
        "told": torch.tensor(team.of_first([4, 2] if team.first else [7])),
        "agreed": torch.tensor([team.agreed(team.first), team.agreed(not team.first)]),
    }


def ways(team: Team) -> dict[str, Tensor]:
    """Messages longer than a piece of the memory that is shared, by this memory and by torch's way."""
    count = PIECE // 4 + 1000
    mine = torch.arange(count, dtype=torch.float32) * (team.rank + 1)
    found = {}
    for way, members in (("memory", team), ("sockets", replace(team, near=None))):
        whole = torch.zeros(5)
        rows = members.share(5)
        whole[rows] = torch.arange(5.0)[rows]
        members.complete(whole)
        found |= {f"{way}.sum": members.sum(mine), f"{way}.rows": members.gather(mine), f"{way}.whole": whole}
    said = {"has_memory": team.near is not None, "nameless": memory_is_nameless()}
    return found | {name: torch.tensor([yes]) for name, yes in said.items()}


def memory_is_nameless() -> bool:
    """Whether the files in memory that this process has open are gone from their folder."""
    maps = Path("/proc/self/maps")
    mapped = maps.read_text().splitlines() if maps.is_file() else []
    return all(line.endswith("(deleted)") for line in mapped if "/napari-harmony-" in line)


class Broken(ArrayImages):
    """Images of which the last ones cannot be read."""

    def read(self, rows: Any) -> Any:
        if np.arange(len(self._array))[rows].max() >= 12:
            raise InputError("stack.mrcs, image 13: it is torn.")
        return super().read(rows)


def read(team: Team) -> dict[str, Tensor]:
    """Particles that each process reads a share of, and how the run ends where one of them cannot."""
    images = np.random.default_rng(0).normal(size=(17, 32, 32)).astype(np.float32)
    images[3], images[11, 2, 2], images[16] = 1.0, np.nan, images[0]
    whole = stack(images)
    found = finish(prepare(whole, Settings(), torch.device("cpu"), team=team))
    words = []
    for number in range(2):
        try:
            finish(prepare(replace(whole, images=Broken(images)), Settings(), torch.device("cpu"), team=team))
        except InputError as error:
            words.append(str(error))
        assert len(words) == number + 1
    numbers = {"samples": torch.view_as_real(found.samples), "ctf": found.ctf, "noise": found.noise}
    flags = torch.tensor([["", "constant", "not-finite", "duplicate"].index(flag) for flag in found.flags])
    said = torch.tensor([word == "stack.mrcs, image 13: it is torn." for word in words])
    return {**numbers, "flags": flags, "keys": torch.as_tensor(found.keys.astype(np.int64)), "said": said}


def normalised(team: Team) -> dict[str, Tensor]:
    """A batch with channels far from zero through a normalisation, and the gradients of what comes out."""
    generator = torch.Generator().manual_seed(0)
    values = 100 + torch.randn(BATCH, CHANNELS, generator=generator)
    weights = torch.randn(BATCH, CHANNELS, generator=generator)
    rows = team.share(BATCH)
    network = nn.Sequential(nn.BatchNorm1d(CHANNELS))
    mine = values[rows].clone().requires_grad_()
    with shared_norms(network, team):
        out = network(mine)
        (out * weights[rows]).sum().backward()
    norm = network[0]
    return {
        "out": team.gather(out.detach()),
        "values": team.gather(mine.grad),
        "weight": team.sum(norm.weight.grad),
        "bias": team.sum(norm.bias.grad),
        "mean": norm.running_mean.clone(),
        "variance": norm.running_var.clone(),
    }


def trained(team: Team) -> dict[str, Tensor]:
    """The weights of a network after two steps on images with seeds."""
    generator = torch.Generator().manual_seed(1)
    psi = 360 * torch.rand(22, generator=generator)
    images = torch.cat([draw(0, [float(p)]) for p in psi]) + torch.randn(22, 32, 32, generator=generator)
    seeds = SeedPoses(-torch.deg2rad(psi), torch.zeros(22, 2), torch.ones(22))
    filters = torch.linspace(0.5, 1.0, 22)[:, None, None].expand(22, 32, 17)
    lengths = {"box": 32, "pixel_size": 10.0, "original_box": 32, "mask_diameter": 290.0, "max_shift": 50.0}
    card = ModelCard(**lengths, transforms=("rotation", "translation", "contrast"), content=4, hypotheses=4)
    # the second step is late enough for images that the network draws itself
    steps = train(images, filters, card=card, settings=TrainSettings(epochs=2, batch=22), seeds=seeds, team=team)
    losses = []
    while True:
        try:
            losses.append(next(steps).loss)
        except StopIteration as stop:
            return {"losses": torch.tensor(losses), **{k: v.clone() for k, v in stop.value.state_dict().items()}}


def searched(team: Team) -> dict[str, Tensor]:
    """Subtomograms near their true poses, and what they add up to."""
    data, truth = volume_data.prepared(24), volume_data.true_poses(volume_data.subtomograms(24).truth)
    rows = torch.arange(23)  # shares of different size
    search = Search(data.subset(rows), torch.Generator(), ("rotation", "translation"), team=team)
    start = within(truth, slice(0, 23))
    seen = search.data(5.0)
    sums = search.sums(seen, start, 3)
    found = finish(search.expect(seen, maximise(sums, search.mask), Stage(5.0, 20.0, 1, NEARBY), start))
    return {"grids": sums.grids, "share": sums.share, "particle": found.particle, "score": found.class_score}


def streamed(team: Team) -> dict[str, Tensor]:
    """Images that do not fit in memory: as they wait in their file, and placed on what the bundled model saw."""
    data, device = simulated(230, box=32), torch.device("cpu")
    with TemporaryDirectory() as cache:
        settings = Settings(classes=3, preset="fast", memory=2**20, cache=cache)
        kept = finish(stored(data.particles, settings, device, team))
        several = finish(kept.preparing(np.arange(len(kept)), slice(200, 230)))
        model = HarmonyModel.load(bundled_model(2))
        table = run(api.align(data.particles, settings, model=model, team=team)).value.table
    columns = torch.from_numpy(table[["class_number", "psi", "origin_x", "origin_y"]].to_numpy(np.float64))
    return {"samples": torch.view_as_real(several.samples), "table": columns.contiguous()}


def looked_at(team: Team) -> dict[str, Tensor]:
    """What the bundled network sees in subtomograms, and its features of them while it is trained."""
    data = volume_data.prepared(11)
    model = HarmonyModel.load(bundled_model(3))
    seen = finish(look(model, data, team))
    samples, amplitude = network_samples(data, model.card.box)
    rows, network = team.share(len(data)), model.network.train()
    assert isinstance(network, VolumeNetwork)
    with shared_norms(network, team):
        features = network.encode(samples[rows], amplitude[rows]).features
    assert features is not None
    learning = team.gather(features.detach())
    return {"content": seen.proposals.content_mean.clone(), "marks": seen.marks.float(), "features": learning}


PARTS: tuple[Callable[[Team], dict[str, Tensor]], ...] = (
    messages,
    ways,
    read,
    streamed,
    normalised,
    trained,
    searched,
    looked_at,
)


def main() -> None:
    rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    team = form_team(Place("ourselves", rank, 2, 1), "cpu")
    found = {f"{part.__name__}.{name}": value for part in PARTS for name, value in part(team).items()}
    if not team.first:
        save_file(found, folder / "1.safetensors")
        os._exit(9)
    try:
        for _ in range(3):  # the end of the other one may be heard a message late
            team.wait()
    except TeamBroken:
        save_file(found, folder / "0.safetensors")


if __name__ == "__main__":
    main()
