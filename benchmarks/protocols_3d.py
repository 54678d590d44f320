"""The subtomogram benchmark data sets, made by the package's own simulator.

``python benchmarks/protocols_3d.py make T4 OUTDIR --seed 0`` writes a RELION-readable data set with its truth:

``subtomograms/000001.mrc`` ...
    one volume per particle, noise of mean 0 and standard deviation 1
``wedge.mrc``
    the missing wedge that all of them share, centred, as rlnCtfImage
``particles.star``
    RELION 3.1 metadata, without orientations
``truth.csv``
    one row per particle: content, rot, tilt, psi, origin_x, origin_y, origin_z, gain
``clean.mrcs``
    the noise-free contents without wedge, a stack of volumes (ISPG 401)
``protocol.json``
    what was made
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import mrcfile
import numpy as np

from napari_harmony.particles.simulate_volumes import SimulatedVolumes, simulate_subtomograms
from protocols import DATA, star_block

#: Ones without symmetry, so that a flip is an error.
DENSITIES = ("5mrc", "4v4r_30S", "1u6g", "70S")
PIXEL_SIZE = 10.0
#: angstrom, of files that do not say it
_UNSAID = {"70S_65px_5A.mrc": 5.0}


@dataclasses.dataclass(frozen=True)
class Protocol3D:
    """A benchmark data set of subtomograms behind a wedge of ``tilt_range`` (degree)."""

    name: str
    count: int
    snr: float
    box: int = 32
    shift_sigma: float = 1.5
    tilt_range: tuple[float, float] = (-60.0, 60.0)
    densities: tuple[str, ...] = DENSITIES


PROTOCOLS_3D = {"T4": Protocol3D("T4", 240, 0.1), "T4-low": Protocol3D("T4-low", 400, 0.03)}


def load_density_3d(name: str, folder: Path = DATA / "densities") -> tuple[np.ndarray, float]:
    """A density map and its voxel size in angstrom, by file or by short name (``5mrc``: ``5mrc_10A.mrc``)."""
    path = Path(name)
    if not path.is_file():
        found = [*sorted(folder.glob(f"{name}_*10A.mrc")), *sorted(folder.glob(f"{name}_*5A.mrc"))]
        if not found:
            raise SystemExit(f"No density '{name}': neither a file nor {folder / name}_10A.mrc exists.")
        path = found[0]
    with mrcfile.open(path, permissive=True) as mrc:
        voxel_size = float(mrc.voxel_size.x) or _UNSAID.get(path.name, 0.0)
        if not voxel_size > 0:
            raise SystemExit(f"{path} does not say its voxel size.")
        return np.array(mrc.data, dtype=np.float32), voxel_size


def make(
    name: str, seed: int = 0, densities: tuple[str, ...] | None = None, count: int | None = None
) -> SimulatedVolumes:
    """One of the protocols T4 and T4-low as a data set in memory."""
    protocol = PROTOCOLS_3D[name]
    volumes, sizes = zip(*(load_density_3d(density) for density in densities or protocol.densities), strict=True)
    return simulate_subtomograms(
        volumes,
        count or protocol.count,
        protocol.box,
        pixel_size=PIXEL_SIZE,
        voxel_sizes=sizes,
        snr=protocol.snr,
        shift_sigma=protocol.shift_sigma,
        tilt_range=protocol.tilt_range,
        seed=seed,
    )


def star_text(simulated: SimulatedVolumes) -> str:
    """RELION 3.1 metadata of the subtomograms: optics and particles, no orientations."""
    particles = simulated.particles
    optics = {
        "rlnOpticsGroup": "1",
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnVoltage": "300.000000",
        "rlnSphericalAberration": "2.700000",
        "rlnAmplitudeContrast": "0.100000",
        "rlnImagePixelSize": f"{particles.pixel_size:.6f}",
        "rlnImageSize": str(particles.box),
        "rlnImageDimensionality": "3",
    }
    labels = ["rlnMicrographName", "rlnImageName", "rlnCtfImage", "rlnOpticsGroup"]
    rows = [
        [f"simulated_{i // 60 + 1:03d}.mrc", f"subtomograms/{i + 1:06d}.mrc", "wedge.mrc", "1"]
        for i in range(len(particles))
    ]
    blocks = [("data_optics", list(optics), [list(optics.values())]), ("data_particles", labels, rows)]
    return "".join(star_block(*block) for block in blocks)


def centred(coverage: np.ndarray) -> np.ndarray:
    """A coverage (b, b, b // 2 + 1) on the grid of ``rfftn`` as the centred cube that RELION reads."""
    box = coverage.shape[0]
    negative = (-np.arange(box)) % box
    # F(-k) = F(k): the missing half is the other one turned round
    other = coverage[np.ix_(negative, negative, (-np.arange(box // 2 + 1, box)) % box)]
    return np.fft.fftshift(np.concatenate([coverage, other], axis=2)).astype(np.float32)


def write_volume(path: Path, volume: np.ndarray, pixel_size: float) -> None:
    """Write a volume (z, y, x), or a stack of volumes (n, z, y, x), as MRC."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        mrc.voxel_size = pixel_size


def write(simulated: SimulatedVolumes, folder: Path, description: dict[str, object]) -> None:
    """Write a data set as the module's description says."""
    particles = simulated.particles
    (folder / "subtomograms").mkdir(parents=True, exist_ok=True)
    for i in range(len(particles)):
        write_volume(folder / "subtomograms" / f"{i + 1:06d}.mrc", particles.read([i])[0], particles.pixel_size)
    write_volume(folder / "clean.mrcs", simulated.clean, particles.pixel_size)
    if particles.wedge is not None:
        coverage = particles.wedge.coverage([0], particles.box)[0]
        write_volume(folder / "wedge.mrc", centred(coverage), particles.pixel_size)
    (folder / "particles.star").write_text(star_text(simulated))
    simulated.truth.to_csv(folder / "truth.csv", index=False)
    (folder / "protocol.json").write_text(json.dumps(description, indent=2))


def main() -> None:
    """Command line: make one data set."""
    parser = argparse.ArgumentParser(description="Make a benchmark data set of subtomograms.")
    parser.add_argument("command", choices=["make"])
    parser.add_argument("protocol", choices=sorted(PROTOCOLS_3D))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--densities", help="comma-separated names or map files (default: the protocol's)")
    parser.add_argument("--count", type=int, help="number of particles (default: the protocol's)")
    arguments = parser.parse_args()
    densities = tuple(arguments.densities.split(",")) if arguments.densities else None
    start = time.perf_counter()
    simulated = make(arguments.protocol, arguments.seed, densities, arguments.count)
    protocol = PROTOCOLS_3D[arguments.protocol]
    description = dataclasses.asdict(protocol) | {
        "seed": arguments.seed,
        "densities": densities or protocol.densities,
        "count": len(simulated.particles),
        "pixel_size": PIXEL_SIZE,
    }
    write(simulated, arguments.folder, description)
    print(f"{arguments.protocol}: {len(simulated.particles)} subtomograms in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
