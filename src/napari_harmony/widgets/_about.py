"""A data set in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_harmony.particles.wedge import TiltRange

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

_ANGSTROM = "\N{ANGSTROM SIGN}"


def about_particles(particles: Particles) -> str:
    """How many particles, of what size, and what is known of the microscope."""
    if particles.dimensions == 3:
        return _about_subtomograms(particles)
    pixel = f"{particles.pixel_size:.3g} {_ANGSTROM}/px" if particles.pixel_size_known else "pixel size unknown"
    ctf = "with CTF" if particles.ctf is not None else "no CTF"
    return f"{len(particles):,} particles of {particles.box} px, {pixel}, {ctf}"


def _about_subtomograms(particles: Particles) -> str:
    voxel = f"{particles.pixel_size:.3g} {_ANGSTROM}/voxel" if particles.pixel_size_known else "voxel size unknown"
    wedge = particles.wedge
    if wedge is None:
        covered = "missing wedge unknown: give the tilt range"
    elif isinstance(wedge, TiltRange):
        covered = f"tilted {wedge.low:g} to {wedge.high:g}\N{DEGREE SIGN}"
    else:
        covered = "missing wedge from files"
    return f"{len(particles):,} subtomograms of {particles.box} voxels, {voxel}, {covered}"
