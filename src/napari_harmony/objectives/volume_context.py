"""A batch of subtomograms, seen twice by the network, and the forward model of a volume behind a missing wedge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from napari_harmony.models.volume_encoding import VolumeEncoding
from napari_harmony.models.volume_network import VolumePoseNetwork
from napari_harmony.objectives.data import Batch, VolumeBranch
from napari_harmony.objectives.forward import GAIN_SPREAD
from napari_harmony.objectives.perturbation import (
    Redrawn,
    changed_pose,
    likeliest_pose,
    pose_features,
    read_volumes,
)
from napari_harmony.objectives.seeds import SeedVolumes
from napari_harmony.objectives.views import Views
from napari_harmony.transforms import Pose3D, so3
from napari_harmony.transforms.spectra import Band, spectra_of, volumes_from

#: A sample whose amplitude is below this share of the largest on its shell lies outside the wedge: it holds no noise.
_BLIND = 0.05


@dataclass(frozen=True)
class VolumeFit:
    """How well k posed volumes explain each subtomogram.

    Attributes
    ----------
    pose : (n, k) canonical volume -> original subtomogram
    error : (n, k) half the squared error over all samples inside the wedge, in units of the noise, with the prior of
        the gain
    gain : (n, k) solved for, without gradient
    responsibility : (n, k) without gradient, sums to 1 over k
    """

    pose: Pose3D
    error: Tensor
    gain: Tensor
    responsibility: Tensor


@dataclass(frozen=True)
class VolumeContext(Views):
    """A batch of subtomograms in both branches; attributes as in ``Views``."""

    network: VolumePoseNetwork
    original: VolumeBranch
    copy: VolumeBranch

    @cached_property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """Canonical volumes (n, b, b, b) of either branch's content, in the order of ``branches``."""
        first, second = self.network.decode(torch.cat([self.original.content, self.copy.content])).chunk(2)
        return first, second

    @cached_property
    def fits(self) -> tuple[VolumeFit, VolumeFit]:
        """How well either branch explains the *original* subtomograms.

        Contents are swapped: the poses of a branch carry the volume that the other branch sees. The known
        transformation of the copy is undone in its poses.
        """
        first, second = self.pictures
        return self._fit(self.original, second), self._fit(self.copy, first)

    def _fit(self, branch: VolumeBranch, volumes: Tensor) -> VolumeFit:
        seeds = self.batch.seeds
        if isinstance(seeds, SeedVolumes):
            pose = seeds.pose.each(lambda field: field[:, None])
        else:
            likely = branch.encoding.logits.topk(min(self.kept, branch.encoding.logits.shape[1]), dim=1).indices
            rows = torch.arange(len(likely), device=likely.device)[:, None]
            undo = branch.applied.inverse().each(lambda field: field[:, None])
            pose = undo.compose(branch.encoding.pose[rows, likely])
        contrast = "contrast" in self.network.shape.transforms
        return fit_volumes(self.batch, volumes, pose, self.network.band, self.temperature, contrast)

    def rehearse(self, shift_spread: float) -> tuple[Pose3D, Tensor, VolumeEncoding]:
        """The volumes that a search found, or those of the batch, under new poses, other wedges, and new noise."""
        seeds = self.batch.seeds
        with torch.no_grad():
            shown = seeds.shown if isinstance(seeds, SeedVolumes) else self.pictures[0].detach()
            pose, samples, amplitude = self._rehearsed(shown, shift_spread)
        return pose, self.original.content.detach(), self.network.encode(samples, amplitude)

    def _rehearsed(self, shown: Tensor, shift_spread: float) -> tuple[Pose3D, Tensor, Tensor]:
        """New poses (n,), samples (n, m) and amplitudes (n, m)."""
        share, generator, shape = self.batch.share, self.generator, self.network.shape
        spread = shift_spread * shape.max_shift
        pose = share.of(lambda n: random_poses(n, shape.transforms, spread, generator))
        amplitude = self.batch.ctf_of_others(generator)
        assert amplitude is not None
        drawn = posed(shown, pose.each(lambda field: field[:, None]), self.network.band)[:, 0] * amplitude
        if "contrast" in shape.transforms:
            gain = share.of(lambda n: torch.randn(n, 1, generator=generator, device=generator.device))
            drawn = drawn * (GAIN_SPREAD * gain).exp()
        return pose, drawn + seen_noise(amplitude, self.network.band, generator, share.drawing()), amplitude

    @property
    def factors(self) -> tuple[str, ...]:
        """Transformations, and the orientation of the wedge."""
        return (*self.network.shape.transforms, "wedge")

    def redraw(self, factor: str, rows: slice) -> Redrawn:
        """As in ``Views``. Another wedge is the particle's own, turned about the beam: another tilt axis."""
        shape, band, generator = self.network.shape, self.network.band, self.generator
        encoding = self.original.encoding[rows]
        assert self.batch.ctf is not None
        amplitude = self.batch.ctf[rows]
        pose = changed_pose(likeliest_pose(encoding), factor, shape, generator)
        if factor == "wedge":
            turn = torch.rand(len(amplitude), generator=generator, device=generator.device) * torch.pi
            about_beam = torch.stack([torch.zeros_like(turn), torch.zeros_like(turn), turn], -1)
            turned = _turned_amplitude(amplitude, so3.to_matrix(so3.from_rotation_vector(about_beam)), band)
            amplitude = turned * _inside(turned, band)
        volumes = self.network.decode(encoding.content_mean)
        clean = posed(volumes, pose.each(lambda field: field[:, None]), band)[:, 0]
        samples = pose.gain[:, None] * clean * amplitude + seen_noise(amplitude, band, generator)
        said = read_volumes(self.network.encode(samples, amplitude), shape)
        return Redrawn({"content": encoding.content_mean, **pose_features(pose, shape)}, said)


def random_poses(n: int, transforms: tuple[str, ...], shift_spread: float, generator: torch.Generator) -> Pose3D:
    """Poses (n,): rotations uniform on SO(3), shifts normal with ``shift_spread`` voxels per axis."""
    device = generator.device
    quaternion = so3.random_rotations(n, generator)
    shift = shift_spread * torch.randn(n, 3, generator=generator, device=device)
    still = so3.identity(n, device=device)
    return Pose3D.of(quaternion if "rotation" in transforms else still, shift * ("translation" in transforms))


def fit_volumes(
    batch: Batch, volumes: Tensor, pose: Pose3D, band: Band, temperature: float = 1.0, contrast: bool = True
) -> VolumeFit:
    """Draw ``volumes`` (n, b, b, b) under poses (n, k), behind the wedge, and compare with the samples of the batch."""
    assert batch.ctf is not None
    drawn = posed(volumes, pose, band) * batch.ctf[:, None]
    samples = batch.images[:, None]
    # One of each Friedel pair is held, so that half the squares of all samples are the squares of these.
    if not contrast:
        error = _squares(samples - drawn)
        gain, prior = torch.ones_like(error), torch.zeros_like(error)
    else:
        # at the optimum the derivative by the gain is zero: a constant there, the gradient by all else is exact
        with torch.no_grad():
            cross = 2 * (samples.conj() * drawn).real.sum(-1)
            gain = (cross + GAIN_SPREAD**-2) / (2 * _squares(drawn) + GAIN_SPREAD**-2)
            prior = 0.5 * ((gain - 1) / GAIN_SPREAD) ** 2
        error = _squares(samples - gain[..., None] * drawn) + prior
    responsibility = torch.softmax(-error.detach() / temperature, dim=1)
    return VolumeFit(pose, error, gain, responsibility)


def posed(volumes: Tensor, pose: Pose3D, band: Band) -> Tensor:
    """Samples (n, k, m) of volumes (n, b, b, b) under rotation and shift of poses (n, k)."""
    n, k = pose.shape
    turned = torch.einsum("nkji,mj->nkmi", so3.to_matrix(pose.quaternion), band.frequency)
    samples = spectra_of(volumes, band.limit).each_at(turned.reshape(n, -1, 3)).reshape(n, k, -1)
    phase = pose.shift @ (band.frequency.T * (-2 * torch.pi / band.box))
    return samples * torch.polar(torch.ones_like(phase), phase)


def make_volume_branches(
    network: VolumePoseNetwork, batch: Batch, applied: Pose3D, generator: torch.Generator
) -> tuple[VolumeBranch, VolumeBranch]:
    """Encode the subtomograms of a batch and their copies moved by ``applied`` (n,), together in one pass."""
    n = len(batch)
    assert batch.ctf is not None
    with torch.no_grad():
        normal = batch.share.drawing()
        copies, amplitude = moved_copies(batch.images, batch.ctf, applied, network.band, generator, normal)
    samples = torch.cat([batch.images, copies])
    encoding = network.encode(samples, torch.cat([batch.ctf, amplitude]))
    content = encoding.sample(generator, batch.share.drawing_pairs())
    identity = Pose3D.identity(n, device=batch.images.device)
    return (
        VolumeBranch(samples[:n], identity, encoding[:n], content[:n]),
        VolumeBranch(samples[n:], applied, encoding[n:], content[n:]),
    )


def moved_copies(
    samples: Tensor,
    amplitude: Tensor,
    applied: Pose3D,
    band: Band,
    generator: torch.Generator,
    normal: Callable[..., Tensor] = torch.randn,
) -> tuple[Tensor, Tensor]:
    """Subtomograms turned and moved as wholes, then seen through their wedge again: samples and amplitudes (n, m).

    The wedge turns with the particle: what it hid stays hidden, and the wedge of the microscope hides more. Where the
    turned particle brings no noise along, new noise takes its place, so that all that is inside the wedge is equally
    noisy and nothing but the signal tells how the copy was made.
    """
    pose = applied.each(lambda field: field[:, None])
    turned = posed(volumes_from(samples, band), pose, band)[:, 0]
    rotation = so3.to_matrix(applied.quaternion)
    brought = _turned_amplitude(amplitude, rotation, band)
    inside = _inside(amplitude, band)
    # a sample between some that hold noise and some that do not brings the share of them along, as variance
    carried = _turned_amplitude(inside.float(), rotation, band).clamp(0, 1)
    fresh = seen_noise(amplitude, band, generator, normal) * (1 - carried).sqrt()
    return (turned + fresh) * inside, brought * inside


def seen_noise(
    amplitude: Tensor, band: Band, generator: torch.Generator, normal: Callable[..., Tensor] = torch.randn
) -> Tensor:
    """Complex noise (n, m) of unit variance where the wedge lets anything through; ``normal`` draws it."""
    noise = normal((*amplitude.shape, 2), generator=generator, device=amplitude.device)
    return torch.view_as_complex(noise * 0.5**0.5) * _inside(amplitude, band)


def _inside(amplitude: Tensor, band: Band) -> Tensor:
    """(n, m) bool, what the wedge lets through: compared within a shell, as the noise of shells may differ by much."""
    shell = band.shell.expand_as(amplitude)
    largest = amplitude.new_zeros(len(amplitude), int(band.shell.max()) + 1).scatter_reduce(1, shell, amplitude, "amax")
    return amplitude > _BLIND * largest.gather(1, shell)


def _turned_amplitude(amplitude: Tensor, rotation: Tensor, band: Band) -> Tensor:
    """Amplitudes (n, m), the same at opposite frequencies, turned by matrices (n, 3, 3)."""
    reach = int(band.limit) + 1
    grid = amplitude.new_zeros(len(amplitude), 2 * reach + 1, 2 * reach + 1, 2 * reach + 1)
    x, y, z = (band.frequency.round().long() + reach).T
    grid[:, z, y, x] = amplitude
    grid[:, 2 * reach - z, 2 * reach - y, 2 * reach - x] = amplitude
    points = torch.einsum("nji,mj->nmi", rotation, band.frequency) / reach
    values = functional.grid_sample(
        grid[:, None], points[:, None, None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return values[:, 0, 0, 0]


def _squares(samples: Tensor) -> Tensor:
    """Sum of squares over the last axis of complex samples."""
    return torch.view_as_real(samples).square().sum((-2, -1))
