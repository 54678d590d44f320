"""From images as stored to whitened, Fourier-cropped samples that the engine computes with."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_harmony.engine.geometry import Geometry, name_of, working_geometry
from napari_harmony.engine.reading import alike, read_ahead
from napari_harmony.engine.search import Observations
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.engine.subsets import subsets_of
from napari_harmony.engine.team import ALONE, Team
from napari_harmony.engine.work import Work
from napari_harmony.errors import InputError
from napari_harmony.particles.ctf import CtfParameters, ctf_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.dataset import Particles

#: Images per read.
BATCH = 512
#: Where the background holds less than the first share of the power, images count as free of noise, and the second of
#: their power as variation between objects of one content.
CLEAN, VARIATION = 0.01, 0.3
#: Words for images that cannot be used.
CONSTANT, NOT_FINITE = "constant", "not-finite"
#: Smallest standard deviation of the background, of that of the whole image, that contrast is measured by.
LEAST_NOISE = 0.1


@dataclass(frozen=True)
class Prepared:
    """Particles ready for the engine.

    Attributes
    ----------
    samples : (n, box, box // 2 + 1) complex64, orthonormal rfft2 of the whitened images about their centre; noise has
        unit variance per sample; unusable images are zero
    ctf : (n, box, box // 2 + 1) float32, CTF over the noise amplitude: ``samples = ctf * signal + white noise``
    noise : (shells,) noise amplitude per ring that was divided out
    usable : (n,) bool; of exact copies only the first is usable, for the others would let noise agree with itself
    flags : (n,) str, why an image is unusable
    keys : (n,) uint64, a fingerprint of each image, which gives the particles an order of their own
    geometry : lengths
    subset_number : (n,) half sets, 1 or 2, that the input names; None where it names none
    """

    samples: torch.Tensor
    ctf: torch.Tensor
    noise: torch.Tensor
    usable: NDArray[np.bool_]
    flags: NDArray[np.object_]
    keys: NDArray[np.uint64]
    geometry: Geometry
    subset_number: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def subset(self, rows: torch.Tensor | slice) -> Prepared:
        """Some of the particles; consecutive ones are not copied."""
        chosen = rows if isinstance(rows, slice) else rows.cpu().numpy()
        return replace(
            self,
            samples=self.samples[rows],
            ctf=self.ctf[rows],
            usable=self.usable[chosen],
            flags=self.flags[chosen],
            keys=self.keys[chosen],
            subset_number=None if self.subset_number is None else self.subset_number[chosen],
        )

    def observe(self, basis: SteerableBasis) -> Observations:
        """The particles on the band of ``basis``, matched-filtered by their CTF."""
        band = basis.band
        ctf = self.ctf[:, band.row, band.column]
        matched = self.samples[:, band.row, band.column] * ctf
        return Observations(matched, _azimuthal_power(ctf, basis), basis, self.geometry.box)


def _azimuthal_power(ctf: torch.Tensor, basis: SteerableBasis) -> torch.Tensor:
    """Squared CTF (n, f) averaged on rings and interpolated to the radial nodes, (n, nodes)."""
    radius = basis.band.radius
    shells = int(radius.max()) + 2
    lower = radius.floor().long()
    share = torch.zeros(len(radius), shells, device=ctf.device)
    share.scatter_add_(1, lower[:, None], 1 - (radius - lower)[:, None])
    share.scatter_add_(1, lower[:, None] + 1, (radius - lower)[:, None])
    rings = share / share.sum(0).clamp_min(1e-6)
    rings[:, 0] = rings[:, 1]
    node = basis.node_frequency
    low = node.floor().long().clamp_max(shells - 2)
    high_share = (node - low).clamp(0, 1)
    return ctf**2 @ (rings[:, low] * (1 - high_share) + rings[:, low + 1] * high_share)


def prepare(
    particles: Particles,
    settings: Settings,
    device: torch.device,
    largest: int | None = None,
    team: Team = ALONE,
) -> Work[Prepared]:
    """Read, check, normalise, whiten and Fourier-crop all particles; yields the fraction done, returns ``Prepared``.

    The noise spectrum is that of the images outside the mask. Images with NaN or without variance become zero and are
    flagged, as are exact copies of an earlier image (the first one stays). Each process of a team reads its share, and
    gets the others'.
    """
    geometry = working_geometry(particles, settings, largest)
    count, box, spectrum = len(particles), geometry.box, NoiseSpectrum(geometry, device)
    samples = torch.zeros(count, box, box // 2 + 1, dtype=torch.complex64, device=device)
    ctf = torch.empty(count, box, box // 2 + 1, device=device)
    flags, keys = np.full(count, "", dtype=object), np.zeros(count, np.uint64)

    def read(mine: slice) -> Work[None]:
        batches = [range(start, min(start + BATCH, mine.stop)) for start in range(mine.start, mine.stop, BATCH)]
        with closing(read_ahead(particles, batches)) as coming:
            for rows, images in zip(batches, coming, strict=True):
                part = slice(rows.start, rows.stop)
                samples[part], flags[part], keys[part] = transformed(images, spectrum)
                known = None if particles.ctf is None else particles.ctf.subset(np.arange(count)[part])
                ctf[part] = seen_through(known, len(rows), geometry, device)
                yield (rows.stop - mine.start) / (mine.stop - mine.start)

    yield from alike(team, read, count)
    spectrum.share(team)
    noise = spectrum.amplitude()
    inverse = on_rings(1.0 / noise, box)
    for values in (samples, ctf):
        values[team.share(count)] *= inverse
        team.complete(values)
    flags, keys = of_all(team, flags, keys, samples.device)
    flags[(flags == "") & repeated(keys)] = "duplicate"
    usable = flags == ""
    if not usable.any():
        raise InputError(f"{name_of(particles)}: no image holds a finite signal; check the stack.")
    return Prepared(samples, ctf, noise, usable, flags, keys, geometry, subsets_of(particles))


def of_all(
    team: Team, flags: NDArray[np.object_], keys: NDArray[np.uint64], device: torch.device
) -> tuple[NDArray[np.object_], NDArray[np.uint64]]:
    """Words and fingerprints (n,), of which every process knows its share."""
    words = np.array(["", CONSTANT, NOT_FINITE], dtype=object)
    numbers = torch.as_tensor([list(words).index(word) for word in flags], device=device)
    prints = torch.as_tensor(keys.view(np.int64), device=device)
    team.complete(numbers)
    team.complete(prints)
    return words[numbers.cpu().numpy()], prints.cpu().numpy().view(np.uint64)


def transformed(
    images: NDArray[np.float32], spectrum: NoiseSpectrum
) -> tuple[torch.Tensor, list[str], NDArray[np.uint64]]:
    """Normalised and Fourier-cropped samples (n, box, box // 2 + 1) of images as stored, and what ``flagged`` says.

    ``spectrum`` takes up their noise, which is not divided out yet. Images that cannot be used become zero.
    """
    words, keys = flagged(images)
    bad = np.array([word != "" for word in words], dtype=bool)
    images[bad] = 0
    device = spectrum.weight.device
    normalised = _normalise(torch.as_tensor(images, device=device), spectrum.geometry)
    return spectrum.add(normalised, torch.as_tensor(~bad, device=device)), words, keys


def flagged(images: NDArray[np.float32]) -> tuple[list[str], NDArray[np.uint64]]:
    """A word for each image (or volume) that cannot be used, "" for the others, and a fingerprint of each."""
    return _suspicions(images), _fingerprints(images)


def _suspicions(images: NDArray[np.float32]) -> list[str]:
    """A word for each image that cannot be used, "" for the others."""
    pixels = images.reshape(len(images), -1)
    low, high = pixels.min(axis=1).astype(float), pixels.max(axis=1).astype(float)
    # What is not finite is the least or the greatest value of an image, or makes them so.
    finite = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        flat = high - low <= 1e-6 * np.maximum(np.abs(low), np.abs(high))
    return list(np.where(finite, np.where(flat, CONSTANT, ""), NOT_FINITE))


def _fingerprints(images: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A number for each image that is the same only for the same pixels."""
    digests = [blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def repeated(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys stood earlier already."""
    first = np.unique(keys, return_index=True)[1]
    repeated = np.ones(len(keys), dtype=bool)
    repeated[first] = False
    return repeated


def _outside(box: int, radius: float, device: torch.device) -> torch.Tensor:
    """Soft weight (box, box) of the background: 0 inside ``radius`` pixels, 1 three pixels further out."""
    axis = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    distance = torch.hypot(axis[:, None], axis[None, :])
    # A mask as large as the box still leaves its corners; never less than those of the inscribed circle.
    edge = min(radius, 0.48 * box)
    return 0.5 - 0.5 * torch.cos(torch.pi * ((distance - edge) / 3).clamp(0, 1))


def _normalise(images: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Background of each image to mean 0 and standard deviation 1."""
    weight = _outside(geometry.source_box, geometry.mask_radius * geometry.scale, images.device)
    total = weight.sum()
    mean = (images * weight).sum((1, 2)) / total
    centred = images - mean[:, None, None]
    deviation = ((centred**2 * weight).sum((1, 2)) / total).sqrt()
    whole = centred.std(dim=(1, 2))
    # The background of images without noise is flat, or holds a few traces of the object: no measure of its contrast.
    deviation = torch.maximum(deviation, LEAST_NOISE * whole).clamp_min(1e-12)
    return centred / deviation[:, None, None]


class NoiseSpectrum:
    """Turns normalised images into cropped samples while averaging the spectrum of their background."""

    def __init__(self, geometry: Geometry, device: torch.device) -> None:
        self.geometry = geometry
        self.weight = _outside(geometry.source_box, geometry.mask_radius * geometry.scale, device)
        self.rings = _rings(geometry.box, device)
        self.power = torch.zeros(int(self.rings.max()) + 1, dtype=torch.float64, device=device)
        self.whole = torch.zeros_like(self.power)
        self.images = 0

    def add(self, images: torch.Tensor, good: torch.Tensor) -> torch.Tensor:
        if not good.any():
            # The Fourier transform of no image at all is an error.
            return cropped_transform(images, self.geometry.box)
        background = images[good] * self.weight
        background = background - background.mean((1, 2), keepdim=True) * (self.weight / self.weight.mean())
        power = (cropped_transform(background, self.geometry.box).abs() ** 2).double().sum(0)
        self.power.index_add_(0, self.rings.flatten(), (power / (self.weight**2).mean()).flatten())
        self.images += int(good.sum())
        samples = cropped_transform(images, self.geometry.box)
        self.whole.index_add_(0, self.rings.flatten(), (samples[good].abs() ** 2).double().sum(0).flatten())
        return samples

    def share(self, team: Team) -> None:
        """Take up what the other processes have averaged."""
        self.power, self.whole = team.sum(self.power), team.sum(self.whole)
        self.images = int(team.sum(torch.tensor([self.images])))

    def amplitude(self) -> torch.Tensor:
        """Noise amplitude per ring, smoothed over three rings (the background's own window blurs it as much)."""
        counts = torch.bincount(self.rings.flatten()).double()
        power = self.power / counts / max(self.images, 1)
        power[0] = power[1]
        padded = torch.nn.functional.pad(power[None, None], (1, 1), mode="replicate")[0, 0]
        smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
        whole = self.whole / counts / max(self.images, 1)
        whole[0] = whole[1]
        if smooth.sum() < CLEAN * whole.sum():
            # Images without noise: what differs between objects of one content takes its place. It is white, for
            # that falls with frequency as the objects themselves do, and coarse features tell contents apart.
            smooth = torch.full_like(smooth, VARIATION * float((whole * counts).sum() / counts.sum()))
        return smooth.clamp_min(1e-6 * float(smooth.max())).sqrt().float()


def _rings(box: int, device: torch.device) -> torch.Tensor:
    """Ring number of every sample of an rfft2, (box, box // 2 + 1), cut at the corners to the edge's."""
    fy = torch.fft.fftfreq(box, 1 / box, device=device)[:, None]
    fx = torch.arange(box // 2 + 1, device=device)[None, :]
    return torch.hypot(fy, fx.float()).round().long().clamp_max(box // 2)


def on_rings(values: torch.Tensor, box: int) -> torch.Tensor:
    """Values (shells,) of rings at every sample of an rfft2, (box, box // 2 + 1)."""
    return values[_rings(box, values.device).clamp_max(len(values) - 1)]


def cropped_transform(images: torch.Tensor, box: int) -> torch.Tensor:
    """Orthonormal rfft2 about the image centre, cropped to a box x box grid: (n, box, box // 2 + 1) complex64.

    White noise of unit variance stays white of unit variance in every sample kept.
    """
    source = images.shape[-1]
    transform = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(1, 2)), norm="ortho")
    if source == box:
        return transform
    half = box // 2
    rows = torch.cat([torch.arange((box + 1) // 2), torch.arange(source - half, source)]).to(images.device)
    return transform[:, rows, : half + 1]


def seen_through(
    parameters: CtfParameters | None, count: int, geometry: Geometry, device: torch.device
) -> torch.Tensor:
    """CTF of ``count`` particles as ``ctf_grid`` gives it; ones where it is not known."""
    if parameters is None:
        return torch.ones(count, geometry.box, geometry.box // 2 + 1, device=device)
    return ctf_grid(parameters, geometry, device)


def ctf_grid(parameters: CtfParameters, geometry: Geometry, device: torch.device) -> torch.Tensor:
    """CTF of n particles on the rfft2 grid of the working images, (n, box, box // 2 + 1)."""
    box, count = geometry.box, len(parameters)
    shape = (count, box, box // 2 + 1)
    step = 1.0 / (box * geometry.pixel_size)
    fy = (torch.fft.fftfreq(box, 1 / box, device=device) * step)[:, None].expand(shape[1:])
    fx = (torch.arange(box // 2 + 1, device=device) * step)[None, :].expand(shape[1:])
    out = torch.empty(shape, device=device)
    for rows in np.array_split(np.arange(count), max(1, count // BATCH)):
        out[rows[0] : rows[-1] + 1] = ctf_at(parameters.subset(rows), fx, fy)
    return out
