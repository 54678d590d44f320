"""The methods of the 2D benchmark: the package's own, through its command line, and what it is compared with.

Every program runs as a process of its own, and its wall time is that of the whole process, from reading to report.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd

import matching
import scoring
from cases import WORK, Case, Run
from napari_harmony.analysis import metrics

HERE = Path(__file__).resolve().parent
ASPIRE = "aspire==0.14.3"
NAIVE_NOTE = "50 principal components of the pixels, k-means of scikit-learn; it gives no poses"


@dataclass(frozen=True)
class Options:
    """How peers are run: ``relion_dir`` is a finished run to read instead; threads of RELION; command of ours."""

    relion_dir: Path | None = None
    threads: int = 2
    aspire_venv: Path = WORK.parent / "aspire"
    extra_arguments: tuple[str, ...] = ()


class Unavailable(Exception):
    """A method that cannot run here, or not on this case; the message says why in one sentence."""


def run_timed(command: list[str], cwd: Path, stem: Path) -> Path:
    """Run a command with its output in ``stem.log``; returns the file of its figures.

    Raises
    ------
    Unavailable : the command failed
    """
    figures = stem.with_suffix(".timing.json")
    with stem.with_suffix(".log").open("wb") as log:
        status = subprocess.run(
            [sys.executable, str(HERE / "timed.py"), str(figures), *command],
            cwd=cwd,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        ).returncode
    if status:
        lines = stem.with_suffix(".log").read_text(errors="replace").strip().splitlines()
        raise Unavailable(f"it failed: {lines[-1] if lines else 'no message'} (see {stem.with_suffix('.log')})")
    return figures


#: Ways to run the package: what ``napari-harmony align`` is told, by the name of the method.
OURS: dict[str, tuple[str, ...]] = {
    "harmony": (),
    "harmony-2022": ("--objective", "harmony-2022"),
    "bundled": ("--model", "bundled"),
    "bundled-fast": ("--model", "bundled", "--preset", "fast"),
}


def run_ours(name: str, folder: Path, classes: int, seed: int, options: Options) -> tuple[Path, Path]:
    """Run the package on a folder's particles, by its command line with the number of classes given.

    Returns
    -------
    the folder of its output, and the file of its figures
    """
    out = folder / f"{name}_s{seed}"
    shutil.rmtree(out, ignore_errors=True)
    executable = Path(sys.executable).with_name("napari-harmony")
    command = [str(executable), "align", "particles.star", "-o", str(out)]
    command += ["--classes", str(classes), "--seed", str(seed), *OURS[name], *options.extra_arguments]
    return out, run_timed(command, folder, folder / f"{name}_s{seed}_run")


def ours(name: str, case: Case, seed: int, options: Options) -> Run:
    """The package itself, run in one of the ways of ``OURS``."""
    from napari_harmony.outputs import load_output

    out, figures = run_ours(name, case.folder, case.protocol.classes, seed, options)
    result = load_output(out)
    codes = np.nan_to_num(result.content)
    extra = {}
    if codes.shape[1]:
        extra = neighbour_scores(case, scoring.nearest(codes))
    return Run(name, seed, result.table, result.averages, extra=extra).with_timing(figures)


def neighbour_scores(case: Case, neighbours: np.ndarray) -> dict[str, float]:
    """What can be said of a table of neighbours (n, m), the particles themselves left out."""
    if case.protocol.views is None and case.densities:
        return {"neighbour_spread": scoring.neighbourhood_spread(neighbours, case.truth)}
    return {"neighbour_purity": scoring.neighbour_purity(neighbours, case.truth["content"].to_numpy())}


def relion_command(case: Case, seed: int, threads: int, root: Path) -> list[str]:
    """RELION 3.1's Class2D with the defaults of its GUI and the true particle diameter."""
    return (
        f"relion_refine --o {root} --i particles.star --dont_combine_weights_via_disc --pool 30 --pad 2 --ctf "
        f"--iter 25 --tau2_fudge 2 --particle_diameter {case.diameter:.0f} --K {case.protocol.classes} "
        "--flatten_solvent --zero_mask --oversampling 1 --psi_step 12 --offset_range 5 --offset_step 2 --norm --scale "
        f"--random_seed {seed} --j {threads}"
    ).split()


def relion(case: Case, seed: int, options: Options) -> Run:
    """RELION's 2D classification, or the files of a run that is finished."""
    if case.ctf is None:
        raise Unavailable("the images have no CTF and no noise, which RELION's Class2D is not made for")
    if options.relion_dir is not None:
        return read_relion(case, seed, options.relion_dir)
    if shutil.which("relion_refine") is None:
        raise Unavailable("relion_refine is not installed (Debian: apt install relion)")
    folder = case.folder / f"relion_s{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = relion_command(case, seed, options.threads, folder / "run")
    run_timed(command, case.folder, folder / "run")
    return read_relion(case, seed, folder)


def read_relion(case: Case, seed: int, folder: Path) -> Run:
    """The last iteration in a folder of RELION's, in the order of the particles."""
    import starfile

    iterations = sorted(folder.glob("*_it[0-9][0-9][0-9]_data.star"))
    if not iterations:
        raise Unavailable(f"{folder} holds no iteration of RELION's")
    last = iterations[-1]
    rows = starfile.read(last, always_dict=True)["particles"]
    index = rows["rlnImageName"].str.split("@").str[0].astype(int).to_numpy() - 1
    if len(rows) != case.protocol.count or set(index) != set(range(len(rows))):
        raise Unavailable(f"{last} has {len(rows)} particles, but this set has {case.protocol.count}")
    rows = rows.iloc[np.argsort(index)].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "class_number": rows["rlnClassNumber"].astype(int),
            "psi": rows["rlnAnglePsi"],
            "origin_x": rows["rlnOriginXAngst"] / case.pixel_size,
            "origin_y": rows["rlnOriginYAngst"] / case.pixel_size,
        }
    )
    with mrcfile.open(str(last).replace("_data.star", "_classes.mrcs"), permissive=True) as mrc:
        averages = np.array(mrc.data, dtype=np.float32).reshape(-1, case.box, case.box)
    number = int(re.findall(r"_it(\d+)_", last.name)[0])
    note = "" if number == 25 else f"stopped after iteration {number} of 25"
    run = Run("relion", seed, table, averages, note=note)
    return next((run.with_timing(f) for f in sorted(folder.glob("*tim*.json")) if number == 25), run)


def aspire(case: Case, seed: int, options: Options) -> Run:
    """ASPIRE's rotationally invariant classification: neighbours, and a partition by spectral clustering of them."""
    if case.ctf is None:
        raise Unavailable("its pipeline whitens with the noise outside the particle, and there is none here")
    python = options.aspire_venv / "bin" / "python"
    if not python.is_file():
        venv.create(options.aspire_venv, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", ASPIRE], check=True)
    out = case.folder / f"aspire_s{seed}.npz"
    command = [str(python), str(HERE / "aspire_peer.py"), "particles.star", str(out), str(seed)]
    figures = run_timed(command, case.folder, case.folder / f"aspire_s{seed}_run")
    with np.load(out, allow_pickle=False) as archive:
        run = read_aspire(case, seed, archive["neighbours"])
    return run.with_timing(figures)


def read_aspire(case: Case, seed: int, neighbours: np.ndarray) -> Run:
    """Scores of ASPIRE's neighbour table (n, m), which lists the particle itself, in most rows first."""
    others = np.stack([row[row != i][: scoring.NEIGHBOURS] for i, row in enumerate(_with_self(neighbours))])
    table = pd.DataFrame({"class_number": spectral_classes(others, case.protocol.classes, seed)})
    note = "partition: spectral clustering of its neighbour graph, by the benchmark; it gives none itself, nor poses"
    return Run("aspire", seed, table, extra=neighbour_scores(case, others), note=note)


def _with_self(neighbours: np.ndarray) -> list[np.ndarray]:
    """Rows of distinct neighbours that hold the particle itself exactly once, so that all are of one length."""
    rows = []
    for i, row in enumerate(neighbours):
        kept = [j for j in dict.fromkeys(row.tolist()) if j != i]
        # A particle and its mirror image may both be neighbours; pad what that leaves short with the last one.
        kept += [kept[-1]] * (neighbours.shape[1] - 1 - len(kept))
        rows.append(np.array([i, *kept]))
    return rows


def spectral_classes(neighbours: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Classes (n,), from 1, by spectral clustering of the symmetrised graph of neighbours (n, m)."""
    from scipy.sparse import csr_matrix
    from sklearn.cluster import SpectralClustering

    count, width = neighbours.shape
    graph = csr_matrix((np.ones(count * width), (np.repeat(np.arange(count), width), neighbours.ravel())), (count,) * 2)
    affinity = graph.maximum(graph.T)
    model = SpectralClustering(classes, affinity="precomputed", assign_labels="kmeans", random_state=seed)
    return model.fit_predict(affinity) + 1


def naive(case: Case, seed: int, options: Options) -> Run:
    """PCA of the pixels and k-means, in a process of its own."""
    table, figures = naive_classes(case.folder, case.protocol.classes, seed)
    return Run("pca-kmeans", seed, table, note=NAIVE_NOTE).with_timing(figures)


def naive_classes(folder: Path, classes: int, seed: int) -> tuple[pd.DataFrame, Path]:
    """The classes of the particles in a folder by PCA and k-means, and the file of its timing."""
    out = folder / f"naive_s{seed}.npz"
    command = [sys.executable, str(HERE / "naive_peer.py"), "particles.star", str(out), str(classes), str(seed)]
    figures = run_timed(command, folder, folder / f"naive_s{seed}_run")
    with np.load(out, allow_pickle=False) as archive:
        return pd.DataFrame({"class_number": archive["labels"] + 1}), figures


def oracle(case: Case, seed: int, options: Options) -> Run:
    """True templates matched with the true CTF; where every particle has its own view, the true views grouped.

    No method without labels can do better on these images, up to chance.
    """
    if not case.densities:
        raise Unavailable("no template is the truth of a handwritten digit")
    if case.protocol.views is None:
        return grouped_views(case, seed)
    found = matching.match(case.arrays["images"], case.content_templates(), ctf=case.ctf, pixel_size=case.pixel_size)
    contents = np.unique(case.truth["content"])
    table = pd.DataFrame(
        {
            "class_number": contents[found.template] + 1,
            "psi": found.psi,
            "origin_x": found.origin[:, 0],
            "origin_y": found.origin[:, 1],
        }
    )
    return Run("oracle", seed, table, note="true templates, true CTF, exhaustive")


def grouped_views(case: Case, seed: int) -> Run:
    """The true viewing axes in K groups by k-means: what no partition of noisy images reaches."""
    from sklearn.cluster import KMeans

    axes = metrics.viewing_axes(case.truth["rot"], case.truth["tilt"])
    lines = np.einsum("na,nb->nab", axes, axes).reshape(len(axes), 9)  # the same for opposite views
    labels = KMeans(case.protocol.classes, n_init=4, random_state=seed).fit_predict(lines)
    return Run("oracle", seed, pd.DataFrame({"class_number": labels + 1}), note="the true views in K groups by k-means")


def chance(case: Case, seed: int, options: Options) -> Run:
    """Classes and poses drawn at random."""
    generator = np.random.default_rng(seed)
    count = len(case.truth)
    origin = generator.permutation(case.truth[["origin_x", "origin_y"]].to_numpy())
    table = pd.DataFrame(
        {
            "class_number": generator.integers(1, case.protocol.classes + 1, count),
            "psi": generator.uniform(0, 360, count),
            "origin_x": origin[:, 0],
            "origin_y": origin[:, 1],
        }
    )
    return Run("chance", seed, table)


METHODS: dict[str, Callable[[Case, int, Options], Run]] = {
    **{name: partial(ours, name) for name in OURS},
    "relion": relion,
    "aspire": aspire,
    "pca-kmeans": naive,
    "oracle": oracle,
    "chance": chance,
}


def run_method(name: str, case: Case, seed: int, options: Options) -> Run:
    """Run a method by its name; what it may not do here comes back as a run with nothing but a note."""
    try:
        return METHODS[name](case, seed, options)
    except Unavailable as reason:
        return replace(Run(name, seed), note=f"not run: {reason}")
