"""The methods of the 3D benchmark: the package's own, through its command line, and what it is compared with."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation

import network_3d
from cases import Run
from cases_3d import Case3D, in_frame
from methods import NAIVE_NOTE, OURS, Options, Unavailable, naive_classes, run_ours, run_timed
from napari_harmony.analysis.metrics_3d import ANGLES, ORIGINS

#: How the oracle searches: cycles per box and degrees over all rotations, then around what is left.
_COARSE, _FINE, _LAST = (6.0, 12.0), (10.0, 4.0, 9.0), 14.0
_ITERATIONS = 25


def ours(name: str, case: Case3D, seed: int, options: Options) -> Run:
    """The package itself, run in one of the ways of ``OURS``."""
    from napari_harmony.outputs import load_output

    out, figures = run_ours(name, case.folder, case.classes, seed, options)
    result = load_output(out)
    return Run(name, seed, result.table, result.averages).with_timing(figures)


def unsearched(together: bool, case: Case3D, seed: int, options: Options) -> Run:
    """One pass of the model that comes with the package, which has seen none of the contents."""
    from napari_harmony.models.bundled import bundled_model

    return network_3d.zero_shot(case, seed, bundled_model(3), together)


def network(case: Case3D, seed: int, options: Options) -> Run:
    """One pass of the network that ``harmony`` trained."""
    return network_3d.seen(case, seed, _trained(case, seed, options))


def network_held_out(case: Case3D, seed: int, options: Options) -> Run:
    """The same network on a data set of the next seed, which it was not trained on."""
    other = replace(case, seed=case.seed + 1)
    other.prepare()
    return network_3d.held_out(case, other, seed, _trained(case, seed, options))


def _trained(case: Case3D, seed: int, options: Options) -> Path:
    """The folder of a model that ``harmony`` left; it is run first where there is none."""
    folder = case.folder / f"harmony_s{seed}"
    if not (folder / "model.safetensors").is_file():
        ours("harmony", case, seed, options)
    return folder


def oracle(case: Case3D, seed: int, options: Options) -> Run:
    """The true templates behind the true wedge, at all poses: no method without labels can do better, up to chance."""
    from napari_harmony.engine.settings import Settings
    from napari_harmony.engine.volumes.prepare import prepare
    from napari_harmony.engine.volumes.refine import refine
    from napari_harmony.engine.volumes.search import Templates, expect_everywhere, expect_near, shift_ball
    from napari_harmony.engine.work import finish
    from napari_harmony.transforms import so3

    prepared = finish(prepare(case.particles, Settings(mask_diameter=case.diameter), torch.device("cpu")))
    if prepared.geometry.box != case.particles.box:
        raise Unavailable("its templates are on the grid of the volumes, and these are larger than the working grid")
    sigma, classes = case.protocol.shift_sigma, case.classes
    templates = Templates(torch.as_tensor(case.clean), torch.full((classes,), -float(np.log(classes))))
    data, start = prepared.data, torch.zeros(len(prepared), 3)
    everywhere = shift_ball(3 * sigma, 1.0, sigma)
    near = shift_ball(0.75, 0.5, sigma)
    found = finish(
        expect_everywhere(data.within(_COARSE[0]), templates, so3.rotation_grid(_COARSE[1]), everywhere, start)
    )
    turns = so3.local_grid(so3.identity(), *_FINE[1:])
    best = finish(expect_near(data.within(_FINE[0]), templates, found, turns, near)).best()
    last = data.within(_LAST)
    energy = 2 * prepared.energy[:, : int(last.band.shell.max()) + 1].sum(1)
    refined = finish(refine(last, templates, best.label, best.rotation, best.shift, energy, sigma, free=torch.ones(6)))
    table = _table(best.label.numpy() + 1, so3.to_zyz(refined.rotation).numpy(), refined.shift.numpy())
    return Run("oracle", seed, table, note="true templates, true wedge, exhaustive, poses refined")


def _table(classes: np.ndarray, angles: np.ndarray, origins: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"class_number": np.asarray(classes, dtype=int)})
    table[ANGLES], table[ORIGINS] = np.asarray(angles, dtype=float), np.asarray(origins, dtype=float)
    return table


def chance(case: Case3D, seed: int, options: Options) -> Run:
    """Classes and poses drawn at random."""
    generator = np.random.default_rng(seed)
    count = len(case.truth)
    angles = Rotation.random(count, generator).as_euler("ZYZ", degrees=True)
    origins = generator.permutation(case.truth[ORIGINS].to_numpy())
    return Run("chance", seed, _table(generator.integers(1, case.classes + 1, count), angles, origins))


def relion_command(case: Case3D, seed: int, options: Options, root: Path, reference: Path) -> list[str]:
    """RELION 3.1's Class3D with the defaults of its GUI for subtomograms and the true particle diameter.

    All but one: 15 degrees between rotations. At its default of 7.5 the first iteration on T4 alone takes a quarter of
    an hour of two cores.
    """
    return (
        f"relion_refine --o {root} --i particles.star --ref {reference} --firstiter_cc --ini_high 60 "
        f"--dont_combine_weights_via_disc --pool 3 --pad 2 --ctf --iter {_ITERATIONS} --tau2_fudge 4 "
        f"--particle_diameter {case.diameter:.0f} --K {case.classes} --flatten_solvent --zero_mask --oversampling 1 "
        "--healpix_order 1 --offset_range 5 --offset_step 2 --sym C1 --norm --scale "
        f"--random_seed {seed} --j {options.threads}"
    ).split()


def relion(case: Case3D, seed: int, options: Options) -> Run:
    """RELION's 3D classification from the average of all subtomograms turned at random, or a run that is finished."""
    if options.relion_dir is not None:
        return read_relion(case, seed, options.relion_dir)
    if shutil.which("relion_refine") is None:
        raise Unavailable("relion_refine is not installed (Debian: apt install relion)")
    folder = case.folder / f"relion_s{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = write_start(case, folder / "start.mrc")
    run_timed(relion_command(case, seed, options, folder / "run", start), case.folder, folder / "run")
    return read_relion(case, seed, folder)


def write_start(case: Case3D, path: Path) -> Path:
    """The average of all subtomograms, each turned at random: RELION's classification starts from a reference.

    As they lie they share the direction of their wedge, and so would their average: particles then align to the
    wedge of the reference (measured on T4: two thirds of the directions ended within 30 degrees of the beam, where 13 %
    belong).
    """
    volumes = case.particles.read(slice(None))
    turns = Rotation.random(len(volumes), random_state=0)
    average = np.mean(
        [in_frame(volume, turn, np.zeros(3)) for volume, turn in zip(volumes, turns, strict=True)], axis=0
    )
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(average.astype(np.float32))
        file.voxel_size = case.particles.pixel_size
    return path


def read_relion(case: Case3D, seed: int, folder: Path) -> Run:
    """The last iteration in a folder of RELION's, in the order of the particles."""
    import starfile

    iterations = sorted(folder.glob("*_it[0-9][0-9][0-9]_data.star"))
    if not iterations:
        raise Unavailable(f"{folder} holds no iteration of RELION's")
    last = iterations[-1]
    rows = starfile.read(last, always_dict=True)["particles"]
    index = rows["rlnImageName"].map(lambda name: int(Path(name).stem)).to_numpy() - 1
    if len(rows) != len(case.truth) or set(index) != set(range(len(rows))):
        raise Unavailable(f"{last} has {len(rows)} particles, but this set has {len(case.truth)}")
    rows = rows.iloc[np.argsort(index)]
    angles = rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    origins = rows[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]].to_numpy() / case.particles.pixel_size
    stem = str(last).removesuffix("_data.star")
    averages = np.stack([mrcfile.read(f"{stem}_class{k:03d}.mrc") for k in range(1, case.classes + 1)])
    number = int(re.findall(r"_it(\d+)_", last.name)[0])
    note = "" if number == _ITERATIONS else f"stopped after iteration {number} of {_ITERATIONS}"
    run = Run("relion", seed, _table(rows["rlnClassNumber"].to_numpy(), angles, origins), averages, note=note)
    return next((run.with_timing(f) for f in sorted(folder.glob("*tim*.json")) if not note), run)


def naive(case: Case3D, seed: int, options: Options) -> Run:
    """PCA of the voxels and k-means, in a process of its own."""
    table, figures = naive_classes(case.folder, case.classes, seed)
    return Run("pca-kmeans", seed, table, note=NAIVE_NOTE).with_timing(figures)


METHODS: dict[str, Callable[[Case3D, int, Options], Run]] = {
    **{name: partial(ours, name) for name in OURS},
    "bundled-agreed": partial(unsearched, True),
    "bundled-network": partial(unsearched, False),
    "network": network,
    "network-held-out": network_held_out,
    "relion": relion,
    "pca-kmeans": naive,
    "oracle": oracle,
    "chance": chance,
}


def run_method(name: str, case: Case3D, seed: int, options: Options) -> Run:
    """Run a method by its name; what it may not do here comes back as a run with nothing but a note."""
    try:
        return METHODS[name](case, seed, options)
    except Unavailable as reason:
        return replace(Run(name, seed), note=f"not run: {reason}")
