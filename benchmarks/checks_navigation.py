"""Navigation and the content-tracking score on the particle with moving parts, against what is true."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from checks import Medians, Part, Record, Rule, run_part
from napari_harmony.analysis.disentanglement import content_tracking, frames_along
from napari_harmony.analysis.navigation import Navigation, Whitening, navigate
from napari_harmony.analysis.navigation_training import learn_directions
from napari_harmony.engine.events import Done
from napari_harmony.engine.navigate import codes_of, navigation_of
from napari_harmony.engine.work import finish
from napari_harmony.particles.conformations import simulate_conformations
from navigation_models import (
    alignment,
    drawn,
    factors_of,
    posed,
    run_product,
)

ANGLES = (0, 10, 20, 30)
POSES = ("rotation", "shift x", "contrast")
SPREAD = 3**-0.5  # standard deviation of a factor


def measure(seed: int) -> Iterator[Record]:
    """All records of one seed."""
    yield from product(seed)
    yield random_start(seed)
    yield mixed(seed)
    yield injected(seed)


# -- a run of the product ---------------------------------------------------------------------------------------------


def product(seed: int) -> Iterator[Record]:
    """Default settings at SNR 0.5, then navigation; and the same decoder with a pose injected."""
    made = simulate_conformations(seed=seed, snr=0.5)
    run = run_product(made, seed)
    wall, cpu = time.perf_counter(), time.process_time()
    *_, done = navigation_of(run.model, run.result, device="cpu", seed=seed)
    assert isinstance(done, Done)
    navigation: Navigation = done.value
    codes = codes_of(run.model, run.result).astype(np.float64)
    kept = run.result.table["class_number"].to_numpy() != 0
    found = alignment(navigation, codes, factors_of(made)[kept])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert navigation.tracking is not None
    yield {
        "mode": "run with default settings",
        "cosine": float(found.cosine.mean()),
        "least_cosine": float(found.cosine.min()),
        "explained": float(found.explained.min()),
        "directions": len(navigation),
        "accuracy": navigation.accuracy,
        "score": navigation.tracking.score,
        "leak": max(way.leak for way in navigation.tracking.directions),
        "wall": run.wall + wall,
        "cpu": run.cpu + cpu,
        "navigation_cpu": cpu,
    }
    for name in POSES:
        yield with_pose(name, run.model.network.decode, codes, seed)


def with_pose(name: str, decode: Callable[[Tensor], Tensor], codes: NDArray, seed: int) -> Record:
    """The trained decoder with one more number in the code, which moves the picture as a whole."""
    change, size = posed(name), codes.shape[1]
    more = np.random.default_rng(seed).normal(size=(len(codes), 1))

    def draw(z: Tensor) -> Tensor:
        return change(decode(z[:, :size]), z[:, size])

    # mixed with the others, so that it is no axis of the code
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(size + 1, size + 1)))[0]
    back = torch.as_tensor(turn, dtype=torch.float32)
    navigation = finish(navigate(lambda z: draw(z @ back), np.c_[codes, more] @ turn.T, steps=300, seed=seed))
    assert navigation.tracking is not None
    share = np.abs(navigation.basis @ turn[:, size])  # of one standard deviation along each direction
    which = int(share.argmax())
    way = navigation.tracking.directions[which]
    others = [w.verdict for k, w in enumerate(navigation.tracking.directions) if k != which]
    return {
        "mode": f"injected into the run: {name}",
        "found": float(share[which]),
        "leak": way.leak,
        "flagged": float(way.verdict == "pose leakage" and way.leaks_as == name),
        "false_flags": float(others.count("pose leakage")),
        "directions": len(navigation),
    }


# -- the true decoder -------------------------------------------------------------------------------------------------


def random_start(seed: int) -> Record:
    """Directions learned from a random orthogonal start, with the true decoder behind a hidden mixture."""
    generator = np.random.default_rng(seed)
    factors = generator.uniform(-1, 1, (4000, 3))
    hidden = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    codes = factors @ hidden.T
    white = Whitening.of(codes)
    flat = torch.as_tensor((codes - white.centre) @ white.forward.T, dtype=torch.float32)
    back, centre, mixing = (torch.as_tensor(a, dtype=torch.float32) for a in (white.back, white.centre, hidden))
    ways = white.forward @ hidden * SPREAD
    ways /= np.linalg.norm(ways, axis=0)
    start = _apart(ways, generator)
    before = time.process_time()
    work = learn_directions(
        lambda w: drawn((centre + w @ back) @ mixing),
        flat,
        torch.as_tensor(start, dtype=torch.float32),
        radius=2.6,
        steps=800,
        batch=48,
        seed=seed,
    )
    learned = finish(work)
    return {
        "mode": "random start, true decoder",
        "before": float(np.abs(start @ ways).max(axis=1).mean()),
        "cosine": float(np.abs(learned.directions.numpy() @ ways).max(axis=1).mean()),
        "least_cosine": float(np.abs(learned.directions.numpy() @ ways).max(axis=1).min()),
        "accuracy": learned.accuracy,
        "cpu": time.process_time() - before,
    }


def _apart(ways: NDArray, generator: np.random.Generator) -> NDArray:
    """Orthonormal rows (3, 3) of which the mean largest cosine with the columns of ``ways`` is at most 0.85."""
    while True:
        rows = np.linalg.qr(generator.normal(size=(3, 3)))[0]
        if np.abs(rows @ ways).max(axis=1).mean() <= 0.85:
            return rows


def mixed(seed: int) -> Record:
    """The score of the true axes, and of axes turned away from them, each about the diagonal."""
    anchors = np.random.default_rng(seed).uniform(-0.9, 0.9, (24, 3))
    about = np.ones(3) / math.sqrt(3)

    def score(degrees: float) -> float:
        ways = SPREAD * _turn(about, math.radians(degrees))
        frames = frames_along(anchors, ways, lambda z: drawn(torch.from_numpy(z)).numpy())
        return content_tracking(frames).score

    return {"mode": "axes mixed, true decoder", **{f"score_{angle}": score(angle) for angle in ANGLES}}


def _turn(about: NDArray, angle: float) -> NDArray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(angle * about).as_matrix()


def injected(seed: int) -> Record:
    """Leaks of the true factors, and of changes of pose of several sizes."""
    anchors = np.random.default_rng(seed).uniform(-0.9, 0.9, (24, 3))

    def leaks(kind: int) -> Iterator[tuple[str, float, str]]:
        def decode(z: NDArray[np.float32]) -> NDArray:
            amounts, pictures = torch.from_numpy(z), drawn(torch.from_numpy(z[:, :3]), kind)
            for column, name in enumerate(POSES):
                pictures = posed(name)(pictures, amounts[:, 3 + column])
            return pictures.numpy()

        codes = np.c_[anchors, np.zeros((len(anchors), len(POSES)))]
        ways = np.diag([SPREAD] * 3 + [1.0] * len(POSES))
        found = content_tracking(frames_along(codes, ways, decode))
        for name, way in zip(("hinge", "occupancy", "slide", *POSES), found.directions, strict=True):
            yield name, way.leak, way.leaks_as

    every = [leak for kind in range(3) for leak in leaks(kind)]
    poses = [leak for name, leak, _ in every if name in POSES]
    return {
        "mode": "pose injected, true decoder",
        "pose_leak": min(poses),
        "content_leak": max(leak for name, leak, _ in every if name not in POSES),
        "named": float(all(name == said for name, _, said in every if name in POSES)),
    }


# -- rules ------------------------------------------------------------------------------------------------------------

RUN, START, MIXED, INJECTED = (
    "run with default settings",
    "random start, true decoder",
    "axes mixed, true decoder",
    "pose injected, true decoder",
)
RUN_POSES = tuple(f"injected into the run: {name}" for name in POSES)


def _every(m: Medians, modes: tuple[str, ...], value: str) -> list[float]:
    return [number for mode in modes for number in m.all(mode, value)]


def _texts(numbers: list[float], digits: int = 3) -> str:
    return ", ".join(f"{number:.{digits}f}" for number in numbers)


def _falls(m: Medians) -> bool:
    series = [m.all(MIXED, f"score_{angle}") for angle in ANGLES]
    return bool(series[0]) and all(np.all(np.diff(scores) < 0) for scores in zip(*series, strict=True))


def _all(numbers: list[float], test: Callable[[float], bool]) -> bool:
    return bool(numbers) and all(test(number) for number in numbers)


PART = Part(
    name="navigation",
    title="Navigation and content tracking on the particle with moving parts",
    about="5000 pictures of 32 px, one kind, hinge, occupancy and slide uniform, any rotation, SNR 0.5. *cosine* is "
    "the mean over the factors between a factor's direction (its regression on the whitened content codes) and the "
    "navigated direction that belongs to it; *explained* the least share of a factor that the codes explain. Poses "
    "injected: 4.6 degrees, 0.5 pixel and 15 % of contrast per standard deviation. Times on one thread.",
    columns=(
        ("cosine", "cosine"),
        ("least_cosine", "worst factor"),
        ("explained", "explained"),
        ("directions", "directions"),
        ("accuracy", "predictor"),
        ("leak", "leak"),
        ("score", "score"),
        ("cpu", "processor, s"),
        ("wall", "wall, s"),
    ),
    rules=(
        Rule(
            "i",
            "run with default settings: mean cosine with the true factors at least 0.9",
            lambda m: _texts(m.all(RUN, "cosine")),
            lambda m: m(RUN, "cosine") >= 0.9,
        ),
        Rule(
            "i, time",
            "run and navigation within 300 s of one processor",
            lambda m: _texts(m.all(RUN, "cpu"), 0),
            lambda m: m(RUN, "cpu") <= 300,
        ),
        Rule(
            "ii",
            "an injected rotation, shift or contrast is flagged and named in every run, and nothing else is flagged",
            lambda m: (
                f"flagged {_texts(_every(m, RUN_POSES, 'flagged'), 0)}; leak at least "
                f"{min(_every(m, RUN_POSES, 'leak'), default=math.nan):.3f}"
            ),
            lambda m: (
                _all(_every(m, RUN_POSES, "flagged"), lambda x: x == 1)
                and _all(_every(m, RUN_POSES, "false_flags"), lambda x: x == 0)
            ),
        ),
        Rule(
            "iii",
            "the score falls as axes are turned by 0, 10, 20, 30 degrees, for every seed",
            lambda m: " > ".join(f"{m(MIXED, f'score_{angle}'):.3f}" for angle in ANGLES),
            _falls,
        ),
        Rule(
            "iv",
            "from a random start of at most 0.85 to at least 0.95, predictor at least 0.95, for every seed",
            lambda m: (
                f"{_texts(m.all(START, 'before'))} to {_texts(m.all(START, 'cosine'))}; predictor "
                f"{_texts(m.all(START, 'accuracy'))}"
            ),
            lambda m: (
                _all(m.all(START, "before"), lambda x: x <= 0.85)
                and _all(m.all(START, "cosine"), lambda x: x >= 0.95)
                and _all(m.all(START, "accuracy"), lambda x: x >= 0.95)
            ),
        ),
        Rule(
            "v",
            "leak of an injected pose over 0.95 and named, of a conformation under 0.8, for every seed and kind",
            lambda m: (
                f"pose at least {_texts(m.all(INJECTED, 'pose_leak'))}; conformation at most "
                f"{_texts(m.all(INJECTED, 'content_leak'))}"
            ),
            lambda m: (
                _all(m.all(INJECTED, "pose_leak"), lambda x: x > 0.95)
                and _all(m.all(INJECTED, "content_leak"), lambda x: x < 0.8)
                and _all(m.all(INJECTED, "named"), lambda x: x == 1)
            ),
        ),
    ),
)


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    run_part(PART, measure)


if __name__ == "__main__":
    main()
