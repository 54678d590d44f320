"""The benchmark data sets, made by the package's own simulator.

``python benchmarks/protocols.py make V12 OUTDIR --seed 0`` writes a RELION-readable stack with its truth:

``particles.mrcs``, ``particles.star``
    the stack (background mean 0, standard deviation 1) and RELION 3.1 metadata with the CTF columns
``truth.csv``
    one row per particle: content, psi, origin_x, origin_y, scale, contrast, rot, tilt
``clean.mrcs``
    the noise-free contents at psi 0
``raw.npz``
    images, CTF columns, truth columns and clean contents in one file, for experiments
``protocol.json``
    what was made
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from napari_harmony.particles.ctf import CtfParameters
from napari_harmony.particles.simulate import Simulated, simulate_particles

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
#: The densities of the protocols where none are chosen.
DENSITIES = ("1bxn", "1qvr", "3cf3", "3j9i")
CTF_LABELS = {
    "rlnDefocusU": "defocus_u",
    "rlnDefocusV": "defocus_v",
    "rlnDefocusAngle": "defocus_angle",
    "rlnCtfBfactor": "b_factor",
    "rlnPhaseShift": "phase_shift",
}
CTF_COLUMNS = tuple(f.name for f in dataclasses.fields(CtfParameters) if f.name != "phase_flipped")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A benchmark data set: ``views`` None means a view of its own for every particle; ``classes`` is the K asked."""

    name: str
    count: int
    snr: float
    views: int | None
    classes: int
    densities: tuple[str, ...] = DENSITIES


PROTOCOLS = {
    "V12": Protocol("V12", 2000, 0.1, 3, 12),
    "V12-low": Protocol("V12-low", 4000, 0.03, 3, 12),
    "S1": Protocol("S1", 5000, 0.1, None, 50, ("1qvr",)),
    "Digits": Protocol("Digits", 2500, float("inf"), None, 10, ()),
}


def load_density(name: str, folder: Path = DATA / "densities") -> np.ndarray:
    """A density map by file (``path/to/map.mrc``) or by short name (``1bxn``: ``1bxn_5A.mrc`` of ``folder``)."""
    import mrcfile

    path = Path(name)
    if not path.is_file():
        found = sorted(folder.glob(f"{name}_*5A.mrc"))
        if not found:
            raise SystemExit(f"No density '{name}': neither a file nor {folder / name}_5A.mrc exists.")
        path = found[0]
    with mrcfile.open(path, permissive=True) as mrc:
        return np.array(mrc.data, dtype=np.float32)


def make(name: str, seed: int = 0, densities: tuple[str, ...] | None = None, count: int | None = None) -> Simulated:
    """One of the protocols V12, V12-low and S1 as a data set in memory; ``Digits`` as ``digits`` gives it."""
    protocol = PROTOCOLS[name]
    if name == "Digits":
        return digits(seed, count or protocol.count)
    volumes = [load_density(d) for d in densities or protocol.densities]
    return simulate_particles(volumes, views=protocol.views, count=count or protocol.count, snr=protocol.snr, seed=seed)


def digits(seed: int = 0, count: int = 2500, canvas: int = 40, shift: float = 4.0) -> Simulated:
    """MNIST digits under uniform rotation and shifts of up to ``shift`` pixels per axis; content is the label.

    Rotation and shift are one cubic-spline resampling of the digit padded to the canvas; grey values are 0..1.
    """
    from scipy.ndimage import affine_transform

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.images import ArrayImages

    with np.load(DATA / "digits" / "mnist_2500.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    images = next(a for a in arrays.values() if a.ndim == 3)
    labels = next(a for a in arrays.values() if a.ndim == 1).astype(int)
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(images))[:count]
    psi = generator.uniform(0, 360, count)
    origin = generator.uniform(-shift, shift, (count, 2))
    centre = canvas // 2
    start = centre - images.shape[-1] // 2
    result = np.empty((count, canvas, canvas), dtype=np.float32)
    for i, number in enumerate(chosen):
        padded = np.zeros((canvas, canvas))
        padded[start : start + images.shape[-2], start : start + images.shape[-1]] = images[number] / 255
        c, s = np.cos(np.radians(psi[i])), np.sin(np.radians(psi[i]))
        matrix = np.array([[c, s], [-s, c]])  # R(psi) on (row, column)
        # x_ref = R(psi) (x_img - centre + origin) + centre
        offset = matrix @ (origin[i, ::-1] - centre) + centre
        result[i] = affine_transform(padded, matrix, offset, order=3)
    truth = pd.DataFrame(
        {
            "content": labels[chosen],
            "psi": psi,
            "origin_x": origin[:, 0],
            "origin_y": origin[:, 1],
            "scale": 1.0,
            "contrast": 1.0,
            "rot": 0.0,
            "tilt": 0.0,
            "digit": chosen,
        }
    )
    padded = np.zeros((10, canvas, canvas), dtype=np.float32)
    for label in range(10):
        inner = slice(start, start + images.shape[-1])
        padded[label, inner, inner] = images[labels == label].mean(axis=0) / 255
    particles = Particles(ArrayImages(result), pd.DataFrame(index=pd.RangeIndex(count)), 1.0, pixel_size_known=False)
    return Simulated(particles, truth, padded)


def star_text(simulated: Simulated, stack: str) -> str:
    """RELION 3.1 metadata of a simulated stack: optics and particles, CTF columns where there is a CTF."""
    particles, ctf = simulated.particles, simulated.particles.ctf
    optics = {"rlnOpticsGroup": "1", "rlnOpticsGroupName": "opticsGroup1"}
    rows = [[f"{i + 1:06d}@{stack}"] for i in range(len(particles))]
    labels = ["rlnImageName"]
    if ctf is not None:
        optics["rlnVoltage"] = f"{ctf.voltage[0]:.6f}"
        optics["rlnSphericalAberration"] = f"{ctf.spherical_aberration[0]:.6f}"
        optics["rlnAmplitudeContrast"] = f"{ctf.amplitude_contrast[0]:.6f}"
        labels += CTF_LABELS
        for column in CTF_LABELS.values():
            for row, value in zip(rows, getattr(ctf, column), strict=True):
                row.append(f"{value:.6f}")
    optics["rlnImagePixelSize"] = f"{particles.pixel_size:.6f}"
    optics["rlnImageSize"] = str(particles.box)
    optics["rlnImageDimensionality"] = "2"
    labels += ["rlnMicrographName", "rlnOpticsGroup"]
    for i, row in enumerate(rows):
        row += [f"simulated_{i // 100 + 1:03d}.mrc", "1"]
    blocks = [("data_optics", list(optics), [list(optics.values())]), ("data_particles", labels, rows)]
    return "".join(star_block(*block) for block in blocks)


def star_block(name: str, labels: list[str], rows: list[list[str]]) -> str:
    """One loop of a STAR file, with the version that RELION looks for."""
    header = "".join(f"_{label} #{i}\n" for i, label in enumerate(labels, 1))
    return f"\n# version 30001\n\n{name}\n\nloop_\n{header}" + "\n".join(" ".join(row) for row in rows) + "\n\n"


def write_stack(path: Path, images: np.ndarray, pixel_size: float) -> None:
    """Write images (n, box, box) as an MRC stack."""
    import mrcfile

    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(images, dtype=np.float32))
        mrc.set_image_stack()
        mrc.voxel_size = pixel_size


def write(simulated: Simulated, folder: Path, description: dict[str, object]) -> None:
    """Write a data set as the module's description says."""
    folder.mkdir(parents=True, exist_ok=True)
    particles = simulated.particles
    images = particles.read(slice(0, len(particles)))
    write_stack(folder / "particles.mrcs", images, particles.pixel_size)
    write_stack(folder / "clean.mrcs", simulated.clean, particles.pixel_size)
    (folder / "particles.star").write_text(star_text(simulated, "particles.mrcs"))
    simulated.truth.to_csv(folder / "truth.csv", index=False)
    ctf = {} if particles.ctf is None else {c: getattr(particles.ctf, c) for c in CTF_COLUMNS}
    truth = {c: simulated.truth[c].to_numpy() for c in simulated.truth}
    np.savez(folder / "raw.npz", images=images, clean=simulated.clean, pixel_size=particles.pixel_size, **ctf, **truth)
    (folder / "protocol.json").write_text(json.dumps(description, indent=2))


def main() -> None:
    """Command line: make one data set."""
    parser = argparse.ArgumentParser(description="Make a benchmark data set.")
    parser.add_argument("command", choices=["make"])
    parser.add_argument("protocol", choices=sorted(PROTOCOLS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--densities", help="comma-separated names or map files (default: the protocol's)")
    parser.add_argument("--count", type=int, help="number of particles (default: the protocol's)")
    arguments = parser.parse_args()
    densities = tuple(arguments.densities.split(",")) if arguments.densities else None
    start = time.perf_counter()
    simulated = make(arguments.protocol, arguments.seed, densities, arguments.count)
    description = dataclasses.asdict(PROTOCOLS[arguments.protocol]) | {
        "seed": arguments.seed,
        "densities": densities or PROTOCOLS[arguments.protocol].densities,
        "count": len(simulated.particles),
    }
    write(simulated, arguments.folder, description)
    print(f"{arguments.protocol}: {len(simulated.particles)} particles in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
