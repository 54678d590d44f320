"""What a run will need, told before it begins: memory and time. Loads no torch, for forms ask at every change."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from napari_harmony.engine import counts
from napari_harmony.engine.costs import Task, expected
from napari_harmony.engine.geometry import working_geometry
from napari_harmony.engine.pace import pace_of
from napari_harmony.engine.plans import MODEL_BAND, PLANS, REFINE_BAND, over_cluster
from napari_harmony.engine.portions import COPIES, MEBIBYTE, bytes_each, portions_of
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes import counts as volume_counts
from napari_harmony.engine.volumes.plans import NEARBY, Stage
from napari_harmony.engine.volumes.plans import PLANS as VOLUME_PLANS
from napari_harmony.engine.volumes.plans import over_cluster as over_cluster_volumes
from napari_harmony.particles.dataset import Particles

#: The program with torch and scikit-learn, and a network in training, of images and of volumes, with its gradients.
PROGRAM, TRAINING, VOLUME_TRAINING = 450 * MEBIBYTE, 200 * MEBIBYTE, 600 * MEBIBYTE
#: A context on a graphics card.
CONTEXT = 500 * MEBIBYTE
#: Scores that are held at a time: on the CPU, on a card, and of volumes.
MOST_SCORES, MOST_SCORES_CARD, VOLUME_SCORES = 48_000_000, 2**30, 12_000_000
#: Images and volumes that are read at a time, posterior entries that are averaged at a time, images that are moved at a
#: time, and cells of an image that are kept beside the best ones.
READ, READ_VOLUMES, AVERAGED, MOVED, KEPT = 512, 32, 4096, 768, 10


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes
    ----------
    memory : bytes of main memory, the program itself included
    device_memory : bytes on a graphics card, 0 where none is used
    seconds : None where nothing is known of the speed of the device
    disk : bytes of the cache of particles that do not fit in memory, 0 where none is needed
    """

    memory: int
    device_memory: int
    seconds: float | None
    disk: int = 0


def estimate(particles: Particles, settings: Settings, device: str = "cpu", task: Task = "fit") -> Estimate:
    """What a run on particles will need.

    Parameters
    ----------
    device : "cpu", "cuda", "cuda:1", "mps"; or "auto", which is the CPU until torch is loaded and has found a card
    task : what is done with the particles

    Raises
    ------
    InputError : box, mask or shift do not fit each other
    """
    kind = _kind_of(device)
    pace = pace_of(kind)
    known = pace.known or kind == "cpu"
    seconds = sum(expected(particles, settings, task, None, pace.slowness).values())
    portions, model = portions_of(particles, settings), task == "apply"
    held = len(particles) if portions is None else min(len(particles), portions.sample)
    data, work = (
        _of_volumes(particles, settings, model)
        if particles.dimensions == 3
        else _of_images(particles, held, settings, model, kind)
    )
    read = _read_at_once(particles)
    on_card = kind != "cpu"
    memory = PROGRAM + read + (data // COPIES if on_card else data + work)
    card = int(CONTEXT + data + work) if on_card else 0
    return Estimate(int(memory), card, seconds if known else None, 0 if portions is None else portions.disk)


def available_memory() -> int | None:
    """Bytes of main memory that a program can still take, those that a container allows at most; None if unknown."""
    try:
        import psutil
    except ImportError:
        return None
    free = int(psutil.virtual_memory().available)
    limit, used = (_number_in(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _number_in(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _kind_of(device: str) -> str:
    """ "cpu", "cuda" or "mps"."""
    if device != "auto":
        return device.partition(":")[0]
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def _read_at_once(particles: Particles) -> int:
    """Bytes of what is read at a time, with its transform and what is in between."""
    at_once = READ_VOLUMES if particles.dimensions == 3 else READ
    return 6 * 4 * min(at_once, len(particles)) * particles.box**particles.dimensions


def _of_images(particles: Particles, held: int, settings: Settings, model: bool, kind: str) -> tuple[int, int]:
    """Bytes of the particles, of which so many are ``held`` at a time, and of the work on them."""
    problem = counts.Problem(held, working_geometry(particles, settings), settings)
    n, whole = problem.count, problem.samples(math.inf)
    data, observed = (n * each for each in bytes_each(problem.geometry))
    averaged = 4 * 8 * min(AVERAGED, n * counts.ENTRIES) * whole
    basis = 40 * whole * problem.size(math.inf)
    scores = min(settings.batch_memory // 8, MOST_SCORES if kind == "cpu" else MOST_SCORES_CARD)
    looks = max(_look(problem, look, scores) for look in _looks(problem, model))
    return int(data), int(max(observed + max(averaged, looks), basis, TRAINING if not model else 0))


@dataclass(frozen=True)
class _Look:
    """An expectation step on images."""

    count: float
    classes: float
    limit: float
    local: bool


def _looks(problem: counts.Problem, model: bool) -> list[_Look]:
    """Those that take most."""
    n, settings, plan = problem.count, problem.settings, PLANS[problem.settings.preset]
    if model:
        return [_Look(n, settings.classes or counts.EXPECTED_CLASSES, MODEL_BAND, settings.preset == "fast")]
    many = over_cluster(settings.classes, max(2, n // 2))
    kept = min(settings.classes or counts.EXPECTED_CLASSES, many)
    return [
        *(_Look(n / 2, many, stage.limit, False) for stage in plan.explore),
        *(_Look(n, 2 * many, limit, True) for limit in plan.settle),
        *(_Look(n, kept, stage.limit, stage.local) for stage in plan.refine),
        _Look(n, kept, REFINE_BAND[settings.preset], True),
    ]


def _look(problem: counts.Problem, look: _Look, most: int) -> float:
    """Bytes of an expectation step: templates at all rotations, and of some images at all shifts coefficients, scores
    and, block by block, samples."""
    shifts, rotations = problem.shifts(look.limit, look.local), problem.rotations(look.limit)
    size, samples = problem.size(look.limit), problem.samples(look.limit)
    each = shifts * (4 * size + 16 * look.classes) + 8 * (KEPT + look.classes) * rotations
    rows = min(most / (shifts * look.classes * rotations), problem.settings.batch_memory / each, look.count)
    return max(1.0, rows) * each + 30 * MOVED * samples + 8 * look.classes * rotations * size


def _of_volumes(particles: Particles, settings: Settings, model: bool) -> tuple[int, int]:
    """Bytes of the particles, and of the work on them."""
    problem = volume_counts.Problem(len(particles), working_geometry(particles, settings), settings)
    n, plan = problem.count, VOLUME_PLANS[settings.preset]
    data = COPIES * 8 * n * problem.samples(math.inf)
    kept = settings.classes or volume_counts.EXPECTED_CLASSES
    many = kept if model else 2 * over_cluster_volumes(settings.classes, max(2, n // 2))
    looked = [(stage, float(kept)) for stage in plan.settle] + [(plan.weigh, float(many))]
    looked += [] if model else [(stage, many / 2) for stage in plan.explore]
    looks = max(_look_at_volumes(problem, stage, k) for stage, k in looked if stage.where != NEARBY)
    grids = 6 * 4 * many * problem.cells
    return int(data), int(max(looks + grids, 0 if model else VOLUME_TRAINING))


def _look_at_volumes(problem: volume_counts.Problem, stage: Stage, classes: float) -> float:
    """Bytes of an expectation step: turned templates of a block of rotations, and scores."""
    turned = problem.rotations(stage.step) * classes * problem.samples(stage.limit)
    return 3.5 * 8 * min(volume_counts.BLOCK, turned) + 3 * 4 * VOLUME_SCORES
