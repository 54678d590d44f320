"""Navigation: directions of a content code along which the picture changes in ways of their own.

The axes of a content code mean nothing by themselves. Here the codes of the particles are whitened, those directions
are kept that the decoder draws anything of, and these are turned until each changes the picture in a way that can be
told from the others (``navigation_training``). Every direction has a content-tracking score and a verdict.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.analysis.disentanglement.tracking import (
    LEAK,
    STEPS,
    ContentTracking,
    Direction,
    content_tracking,
    frames_along,
)
from napari_harmony.errors import InputError

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray

    from napari_harmony.analysis.navigation_training import Sensitivity

#: The most directions that are looked for unless told otherwise.
MOST = 8
#: A direction is active where one particle's picture says so many nats about it: half the logarithm of 1 plus the
#: squared change of the picture per standard deviation, in units of the noise.
LEAST_INFORMATION = 0.1
#: Directions of the codes that vary less than this part of the most varying one are rounding.
_RANK = 1e-4
#: The part of the particles that lies within the radius to which codes are clipped.
_WITHIN = 0.99
#: Particles along whose codes directions are scored.
_ANCHORS = 24
_FORMAT = 1


@dataclass(frozen=True)
class Navigation:
    """Directions of a content code of d numbers.

    Attributes
    ----------
    centre : (d,) mean code of the particles
    basis : (k, d) step of one standard deviation along each direction, in content space
    whiten : (k, d) gives slider coordinates, in standard deviations: ``(code - centre) @ whiten.T``; biorthogonal to
        ``basis``
    spread : (k,) standard deviation of the particles' coordinates
    activity : (k,) change of the picture per standard deviation, root of the sum of squares over pixels, in units of
        the noise; directions come in this order, the most active first
    tracking : content-tracking scores of the directions, in the same order
    names : what the user calls the directions
    radius : coordinates are clipped to this length: farther out there are no particles
    accuracy : how often a small network tells from two pictures along which direction they differ, in [0, 1]
    """

    centre: NDArray[np.float64]
    basis: NDArray[np.float64]
    whiten: NDArray[np.float64]
    spread: NDArray[np.float64]
    activity: NDArray[np.float64]
    tracking: ContentTracking | None
    names: tuple[str, ...]
    radius: float
    accuracy: float = float("nan")

    def __len__(self) -> int:
        return len(self.basis)

    def coordinates(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Slider coordinates (n, k) of content codes (n, d), in standard deviations."""
        return (np.atleast_2d(np.asarray(codes, dtype=np.float64)) - self.centre) @ self.whiten.T

    def code(self, base: ArrayLike, coordinates: ArrayLike) -> NDArray[np.float64]:
        """A content code (d,) with the given slider coordinates (k,), otherwise as ``base`` (d,).

        Coordinates longer than ``radius`` are shortened, unless ``base`` is as far out itself.
        """
        start = np.asarray(base, dtype=np.float64)
        here, there = self.coordinates(start)[0], np.asarray(coordinates, dtype=np.float64)
        limit = max(self.radius, float(np.linalg.norm(here)) * (1 + 1e-9))
        length = float(np.linalg.norm(there))
        wanted = there * (limit / length) if length > limit else there
        return start + (wanted - here) @ self.basis

    def renamed(self, k: int, name: str) -> Navigation:
        """The same with another name for direction ``k``."""
        return replace(self, names=(*self.names[:k], name, *self.names[k + 1 :]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        arrays = {name: getattr(self, name).tolist() for name in _SHAPES}
        told = None if self.tracking is None else asdict(self.tracking)
        accuracy = self.accuracy if np.isfinite(self.accuracy) else None
        more = {"names": list(self.names), "radius": self.radius, "accuracy": accuracy, "tracking": told}
        return {"format_version": _FORMAT, **arrays, **more}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Navigation:
        """Take back what ``to_dict`` gave.

        Raises
        ------
        InputError : a value is absent, or of another shape, or not finite
        """
        if not isinstance(values, Mapping) or values.get("format_version") != _FORMAT:
            raise InputError(f"These are no directions of format {_FORMAT}; find the directions again.")
        try:
            arrays = {name: np.asarray(values[name], dtype=np.float64) for name in _SHAPES}
            names = tuple(str(name) for name in values["names"])
            radius = float(values["radius"])
            accuracy = float("nan") if values["accuracy"] is None else float(values["accuracy"])
            tracking = _tracking(values["tracking"])
        except KeyError as error:
            raise InputError(f"The directions lack '{error.args[0]}'; find the directions again.") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"The directions cannot be read ({error}); find the directions again.") from None
        k, d = len(names), arrays["centre"].size
        for name, shape in _SHAPES.items():
            wanted = tuple(d if axis == "d" else k for axis in shape)
            if arrays[name].shape != wanted or not np.isfinite(arrays[name]).all():
                raise InputError(
                    f"'{name}' of the directions has shape {arrays[name].shape} or values that are not finite, "
                    f"{wanted} is wanted; find the directions again."
                )
        if not radius > 0 or (tracking is not None and len(tracking.directions) != k):
            raise InputError("'radius' or 'tracking' of the directions do not match; find the directions again.")
        return cls(**arrays, tracking=tracking, names=names, radius=radius, accuracy=accuracy)

    def save(self, path: Path | str) -> Path:
        """Write the directions as JSON, beside and renamed."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            beside.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(beside, path)
        except OSError as error:
            raise InputError(f"{path}: the directions cannot be written ({error.strerror}).") from error
        finally:
            beside.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: Path | str) -> Navigation:
        """Read what ``save`` wrote.

        Raises
        ------
        InputError : the file is absent or holds something else
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; find the directions first.") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: these are no saved directions ({error}); find them again.") from None
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


_SHAPES = {"centre": "d", "basis": "kd", "whiten": "kd", "spread": "k", "activity": "k"}


def _tracking(values: Mapping[str, Any] | None) -> ContentTracking | None:
    if values is None:
        return None
    return ContentTracking(tuple(Direction(**way) for way in values["directions"]), float(values["score"]))


@dataclass(frozen=True)
class Whitening:
    """Content codes (n, d) to whitened ones (n, r) and back: ``(code - centre) @ forward.T``, ``centre + w @ back``."""

    centre: NDArray[np.float64]
    forward: NDArray[np.float64]
    back: NDArray[np.float64]

    @classmethod
    def of(cls, codes: NDArray[np.float64]) -> Whitening:
        """From codes (n, d), of which n >= 2 differ."""
        centre = codes.mean(axis=0)
        variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(codes.T)))
        kept = variance > _RANK**2 * variance.max()
        sd, axes = np.sqrt(variance[kept])[::-1, None], axes[:, kept].T[::-1]
        return cls(centre, axes / sd, axes * sd)


def navigate(
    decode: Callable[[torch.Tensor], torch.Tensor],
    content: NDArray[np.floating],
    *,
    directions: int | None = None,
    noise: float = 1.0,
    steps: int = 800,
    batch: int = 48,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Generator[float, None, Navigation]:
    """Find directions in content codes.

    Parameters
    ----------
    decode : content codes (n, d) to pictures (n, b, b) or volumes (n, b, b, b) without noise; gradients pass through
    content : (n, d) codes of the particles, finite; in any order
    directions : how many, None for as many as are active, at most 8
    noise : standard deviation of the noise in the data, per pixel, in the units of the pictures
    steps, batch : how many pairs of pictures are learned from
    seed : of everything random; the same seed gives the same directions
    device : where to compute

    Yields
    ------
    the fraction done, in [0, 1], once per batch

    Returns
    -------
    The directions, the most active first. Each points to where the particles' coordinates have their longer tail.

    Raises
    ------
    ValueError : codes that are not finite or never vary, or a number of directions below 1 or above that of the codes
    """
    import torch

    from napari_harmony.analysis.navigation_training import learn_directions, sensitivity

    codes = _checked(content)
    white = Whitening.of(codes)
    if directions is not None and not 1 <= directions <= len(white.forward):
        raise ValueError(f"directions is {directions}: the codes have between 1 and {len(white.forward)}")
    flat = (codes - white.centre) @ white.forward.T
    order = np.random.default_rng(seed).permutation(len(flat))  # what is looked at first is drawn
    where = torch.device(device)
    back, centre = (torch.as_tensor(a, dtype=torch.float32, device=where) for a in (white.back, white.centre))
    whitened = torch.as_tensor(flat[order], dtype=torch.float32, device=where)

    def draw(points: torch.Tensor) -> torch.Tensor:
        pictures: torch.Tensor = decode(centre + points @ back)
        return pictures / noise

    start, free = _start(sensitivity(draw, whitened), directions)
    radius = float(np.quantile(np.linalg.norm(flat, axis=1), _WITHIN))
    learned = yield from learn_directions(
        draw, whitened, start.to(whitened), radius=radius, steps=steps, batch=batch, seed=seed, free=free
    )
    turned = _signed(_orthonormal(learned.directions.double().cpu().numpy()), flat)
    with torch.no_grad():
        frames = frames_along(whitened[:_ANCHORS].cpu().numpy(), turned, lambda w: _drawn(draw, w, where))
    return _ordered(white, turned, flat, content_tracking(frames), learned.accuracy)


def _checked(content: NDArray[np.floating]) -> NDArray[np.float64]:
    """Codes in an order of their own, so that their order in the file makes no difference."""
    codes = np.asarray(content, dtype=np.float64)
    if codes.ndim != 2 or len(codes) < 2 or not np.isfinite(codes).all():
        raise ValueError(f"content codes (n >= 2, d) that are finite are needed, not an array of shape {codes.shape}")
    if not (np.ptp(codes, axis=0) > 0).any():
        raise ValueError("the content codes never vary")
    return codes[np.lexsort(codes.T[::-1])]


def _start(sensitive: Sensitivity, directions: int | None) -> tuple[torch.Tensor, int]:
    """Orthonormal directions (k, r) of which the decoder draws most, in whitened space, and how many are of content.

    Those that move the particle as a change of pose does are set apart, behind the others. They change all of the
    picture, and must not be mixed into directions that are to change different parts of it.
    """
    import torch

    squares, axes = _principal(sensitive)
    informed = int((0.5 * torch.log1p(squares) >= LEAST_INFORMATION).sum())
    active = axes[: directions if directions is not None else min(max(informed, 1), MOST)]
    inside = sensitive.within(active)
    poses = inside.poses(LEAK)
    if len(poses) == 0:
        return active, len(active)
    # what is at right angles to the poses
    rest = torch.linalg.svd(poses)[2][len(poses) :]
    groups = [rows @ active for rows in (rest, poses)]
    turned = [_principal(sensitive.within(rows))[1] @ rows for rows in groups if len(rows)]
    return torch.cat(turned), len(rest)


def _principal(sensitive: Sensitivity) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared changes (r,) and the orthonormal directions (r, r) along which they are, the largest first."""
    import torch

    squares, axes = torch.linalg.eigh(sensitive.change)
    squares, axes = squares.flip(0).clamp_min(0), axes.flip(1).T
    # an eigenvector's sign is arbitrary
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return squares, axes * torch.where(largest < 0, -1.0, 1.0)


def _orthonormal(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal rows that are nearest: takes off the rounding of single precision."""
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    return left @ right


def _signed(directions: NDArray[np.float64], flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions (k, r) turned to where the coordinates of whitened codes (n, r) are skewed to."""
    coordinates = flat @ directions.T
    skew = ((coordinates - coordinates.mean(axis=0)) ** 3).mean(axis=0)
    return directions * np.where(skew < 0, -1.0, 1.0)[:, None]


def _drawn(draw: Callable[[torch.Tensor], torch.Tensor], points: NDArray, device: torch.device) -> NDArray:
    import torch

    parts = torch.as_tensor(points, dtype=torch.float32, device=device).split(256)
    return torch.cat([draw(part).cpu() for part in parts]).numpy()


def _ordered(
    white: Whitening,
    directions: NDArray[np.float64],
    flat: NDArray[np.float64],
    tracking: ContentTracking,
    accuracy: float,
) -> Navigation:
    """Everything about directions (k, r) of whitened codes (n, r), the most active first."""
    per_step = np.array([way.activity for way in tracking.directions])
    order = np.argsort(-per_step, kind="stable")
    rows = directions[order]
    coordinates = flat @ rows.T
    ways = tuple(tracking.directions[place] for place in order)
    return Navigation(
        centre=white.centre,
        basis=rows @ white.back,
        whiten=rows @ white.forward,
        spread=coordinates.std(axis=0),
        activity=per_step[order] * (STEPS - 1) / 2,
        tracking=replace(tracking, directions=ways),
        names=tuple(f"direction {number + 1}" for number in range(len(rows))),
        radius=float(np.quantile(np.linalg.norm(coordinates, axis=1), _WITHIN)),
        accuracy=accuracy,
    )
