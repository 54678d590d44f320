"""Some particles of a layer as a layer of their own: those of chosen classes, or a few to try settings on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony._layers import KEY, particles_layer, space_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.particles.dataset import Indices, Particles

#: Particles of a trial: enough for a few classes, few enough for a quick answer.
TRIAL = 200
_PART = "part"  # key of the metadata


def add_some(viewer: Any, particles: Particles, rows: Indices, name: str, like: Any) -> tuple[Particles, Any]:
    """Add a layer of some particles; returns them and the layer. ``like`` is the layer of all, or None."""
    from napari_harmony.particles.subset import subset

    some = subset(particles, rows)
    stack, options, _ = particles_layer(some, name)
    if like is not None:
        options |= {**space_of(like), "contrast_limits": tuple(like.contrast_limits)}
    about = {**options["metadata"][KEY], _PART: True}
    added = viewer.add_image(stack, **{**options, "metadata": {KEY: about}})
    return some, getattr(added, "__wrapped__", added)  # the viewer that plugins are given hands out proxies


def is_part(layer: Any) -> bool:
    """Whether a layer shows some particles of its file only."""
    return bool(layer.metadata.get(KEY, {}).get(_PART, False))


def why_no_trial(particles: Particles) -> str:
    """Why a trial on a few of these makes no sense, or ""."""
    if len(particles) > 2 * TRIAL:
        return ""
    return f"These are only {len(particles):,} particles: run on all of them."


def trial_rows(count: int, seed: int) -> NDArray[np.int64]:
    """Which of ``count`` particles a trial takes, in their order: random, the same for the same seed."""
    chosen = np.random.default_rng(seed).choice(count, TRIAL, replace=False)
    return np.sort(chosen).astype(np.int64)
