"""The published objective for subtomograms: its loss, its resampling and its copies."""

from __future__ import annotations

import math

import torch

from napari_harmony.models import BOX_2022, Harmony2022VolumeNetwork, NetworkShape
from napari_harmony.objectives import (
    Batch,
    Harmony2022Volumes,
    VolumeContext,
    published_volume_branches,
    published_volume_copy,
)
from napari_harmony.objectives.harmony_2022_volumes import canonical_volumes, moved_volumes
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import volumes_from

N, BOTH = 2, ("rotation", "translation")


def context() -> VolumeContext:
    torch.manual_seed(0)
    network = Harmony2022VolumeNetwork(NetworkShape(box=BOX_2022, content=3, transforms=BOTH))
    generator = torch.Generator().manual_seed(0)
    m = len(network.band.index)
    batch = Batch(torch.randn(N, m, dtype=torch.complex64, generator=generator), torch.ones(N, m))
    own, copy = published_volume_branches(network, batch, published_volume_copy(N, BOTH, generator), generator)
    return VolumeContext(network, batch, own, copy, progress=0.0, temperature=1.0, kept=1, generator=generator)


def blob(x: float, y: float, z: float, box: int = 32) -> torch.Tensor:
    """A Gaussian at a place counted from the centre voxel, (1, box, box, box)."""
    axis = torch.arange(box) - box // 2
    squares = (axis - x) ** 2 + ((axis - y) ** 2)[:, None] + ((axis - z) ** 2)[:, None, None]
    return torch.exp(-squares / 18)[None]


def test_volumes_are_rotated_about_the_centre_voxel_then_shifted() -> None:
    turn = so3.from_rotation_vector(torch.tensor([[0.4, -0.7, 1.1]]))
    pose = Pose3D.of(turn, torch.tensor([[2.0, -1.5, 0.5]]))
    place = torch.tensor([[3.0, 5.0, -2.0]])
    x, y, z = (so3.rotate_points(turn, place) + pose.shift)[0].tolist()
    for box in (32, 31):
        moved = moved_volumes(blob(*place[0].tolist(), box=box), pose)
        torch.testing.assert_close(moved, blob(x, y, z, box), atol=0.09, rtol=0)
        torch.testing.assert_close(canonical_volumes(moved, pose), blob(*place[0].tolist(), box=box), atol=0.16, rtol=0)


def test_a_volume_can_be_hidden_altogether() -> None:
    """The trap that the forward model does not have: push the input out of the frame and show nothing."""
    away = Pose3D.of(so3.identity(1), torch.tensor([[100.0, 0.0, 0.0]]))
    assert float(canonical_volumes(blob(0, 0, 0), away).abs().max()) == 0.0


def test_the_loss_is_what_the_paper_minimises() -> None:
    at = context()
    band = at.network.band
    first, second = (canonical_volumes(volumes_from(b.images, band), b.encoding.pose[:, 0]) for b in at.branches)
    image_terms = sum(
        ((a - b) ** 2).sum() / N for a, b in ((at.pictures[0], first), (at.pictures[1], second), (first, second))
    )
    a, b = at.original.encoding, at.copy.encoding
    p, q = (torch.distributions.Normal(e.content_mean, (e.content_log_variance / 2).exp()) for e in (a, b))
    divergence = torch.distributions.kl_divergence(p, q).sum() / N / 3
    total, parts = Harmony2022Volumes(gamma=2.0)(at)
    torch.testing.assert_close(total, 2 * image_terms + divergence)
    total.backward()
    head = at.network.encoder[-1].bias.grad
    assert bool(torch.isfinite(head).all()) and bool((head[:6] != 0).all())
    torch.testing.assert_close(parts["content"], divergence.detach())


def test_copies_are_what_is_moved_and_have_the_published_ranges() -> None:
    at = context()
    band = at.network.band
    moved = moved_volumes(volumes_from(at.batch.images, band), at.copy.applied)
    seen = volumes_from(at.copy.images, band)
    assert torch.corrcoef(torch.stack([moved.flatten(), seen.flatten()]))[0, 1] > 0.98
    copies = published_volume_copy(2000, BOTH, torch.Generator().manual_seed(0))
    largest = float(so3.to_rotation_vector(copies.quaternion).abs().max())
    assert 1.5 < largest <= math.pi / 2 + 1e-5
    assert 3.9 < float(copies.shift.abs().max()) <= 4.0
    still = published_volume_copy(5, ("translation",), torch.Generator().manual_seed(0))
    assert float(so3.angle(still.quaternion).max()) == 0.0
