"""How much the content code tells of the transformations, without a truth: leakage.

A critic learns on some particles to tell the content of a particle with its own transformation from the content with
the transformation of another one. How well it does so on the other particles is a lower bound of the Jensen-Shannon
divergence between the joint distribution and the product of the two. It says little of how narrow a dependence is, but
has a scale: 0 for independent ones, 1 where every pair gives itself away. The mean of what the critic says of true
pairs is the information in nats, as long as there is not more of it than the particles can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.analysis.disentanglement.variables import Variable, canonical_order, numbers
from napari_harmony.engine.work import Work, finish, portion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_harmony.engine.team import Team
    from napari_harmony.objectives.critics import Critic

#: Fewer particles show nothing, and more of them would only take longer.
FEWEST, MOST = 100, 2000
#: How the critics learn.
WIDTH, STEPS, BATCH, CHECK, PATIENCE = 64, 300, 256, 15, 45
RATE, DECAY = 3e-3, 0.1
#: One in so many of the particles to learn from decides when to stop.
HELD = 5


@dataclass(frozen=True)
class Leak:
    """What the content tells of something.

    Attributes
    ----------
    share : Jensen-Shannon divergence of joint and product distribution over its largest value, log 2; 0 to 1
    nats : mutual information, at least 0
    """

    share: float
    nats: float


@dataclass(frozen=True)
class Leakage:
    """What the content tells of the transformations.

    Attributes
    ----------
    particles : that were used
    overall : of all transformations together
    factors : of each alone, by its name
    """

    particles: int
    overall: Leak
    factors: dict[str, Leak]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def leakage_of(content: NDArray, factors: Sequence[Variable], *, most: int = MOST, seed: int = 0) -> Leakage | None:
    """What content codes tell of transformations, on particles that the critics did not learn from.

    Parameters
    ----------
    content : (n, d) codes
    factors : transformations of the same particles; each may have several numbers; none may be missing
    most : particles that are used, evenly
    seed : of critics and folds; the order of the particles does not matter

    Returns
    -------
    None where there are fewer than ``FEWEST`` particles, or nothing varies.
    """
    return finish(measure_leakage(content, factors, most=most, seed=seed))


def measure_leakage(
    content: NDArray, factors: Sequence[Variable], *, most: int = MOST, seed: int = 0, team: Team | None = None
) -> Work[Leakage | None]:
    """The same as a computation that says how far it is; arguments and value are those of :func:`leakage_of`.

    Of the processes of a ``team``, which all make this call, each measures some of the transformations.
    """
    code = numbers("content", content)
    varying = tuple(factor for factor in factors if not factor.constant)
    if len(code) < FEWEST or not varying or code.constant:
        return None
    order = canonical_order((code, *varying))[:: -(-len(code) // most)]
    known = {factor.name: factor.rows(order).features() for factor in varying}
    codes = code.rows(order).features()
    asked = [*known.values(), *([np.concatenate(list(known.values()), axis=1)] if len(known) > 1 else [])]
    read: list[Leak] = []
    mine = asked if team is None else asked[team.share(len(asked))]
    for number, features in enumerate(mine):
        read.append((yield from portion(_reading(codes, features, seed), number / len(mine), (number + 1) / len(mine))))
    if team is not None:
        read = _of_all(team, read)
    found = dict(zip(known, read, strict=False))
    # all together tell at least what one of them does, however hard it is to see among many numbers
    overall = Leak(max(leak.share for leak in read), max(leak.nats for leak in read))
    return Leakage(len(order), overall, found)


def _of_all(team: Team, read: list[Leak]) -> list[Leak]:
    """What all processes have measured."""
    import torch

    numbers = torch.tensor([[leak.share, leak.nats] for leak in read], dtype=torch.float64).reshape(-1, 2)
    return [Leak(share, nats) for share, nats in team.gather(numbers).tolist()]


def leak_between(one: NDArray, two: NDArray, seed: int = 0) -> Leak:
    """What values (n, a) tell of values (n, b): critics learn from either half and are read on the other."""
    return finish(_reading(one, two, seed))


def _reading(one: NDArray, two: NDArray, seed: int) -> Work[Leak]:
    import torch

    from napari_harmony.objectives.critics import dependence_share

    order = np.random.default_rng(seed).permutation(len(one))
    halves = order[::2], order[1::2]
    joint, product = [], []
    for number, (fitted, read) in enumerate((halves, halves[::-1])):
        a, b = (_scaled(values, fitted) for values in (one, two))
        critic = yield from portion(_fitting(a[fitted], b[fitted], seed), number / 2, (number + 1) / 2)
        with torch.no_grad():
            table = critic.table(a[read], b[read])
        joint.append(table.diagonal())
        product.append(_others(table))
    pairs = torch.cat(joint)
    return Leak(dependence_share(pairs, torch.cat(product)), max(0.0, float(pairs.mean())))


def fit_critic(
    a: Tensor, b: Tensor, seed: int = 0, steps: int = STEPS, width: int = WIDTH, patience: int = PATIENCE
) -> Critic:
    """A critic that has learned from pairs a (n, p), b (n, q), as it was when held-out ones liked it best.

    It learns for ``steps`` batches, or until those have not liked it better for ``patience`` of them.
    """
    return finish(_fitting(a, b, seed, steps, width, patience))


def _fitting(
    a: Tensor, b: Tensor, seed: int, steps: int = STEPS, width: int = WIDTH, patience: int = PATIENCE
) -> Work[Critic]:
    import torch

    from napari_harmony.objectives.adam import Adam
    from napari_harmony.objectives.critics import Critic, critic_loss

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic(a.shape[1], b.shape[1], width)
    held = torch.arange(len(a)) % HELD == 0
    optimiser = Adam(critic.parameters(), RATE, decay=DECAY)
    best, least, at, taught = _weights(critic), float("inf"), 0, (~held).nonzero()[:, 0]
    for step in range(CHECK - 1, steps, CHECK):
        yield (step + 1 - CHECK) / steps
        with _one_thread():
            for _ in range(CHECK):
                rows = taught[torch.randperm(len(taught), generator=generator)[:BATCH]]
                table = critic.table(a[rows], b[rows])
                optimiser.forget()
                critic_loss(table.diagonal(), _others(table)).backward()
                optimiser.step()
            with torch.no_grad():
                table = critic.table(a[held], b[held])
                loss = float(critic_loss(table.diagonal(), _others(table)))
        if loss < least:
            best, least, at = _weights(critic), loss, step
        elif step - at >= patience:
            break
    critic.load_state_dict(best)
    return critic


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is as small as a critic takes no longer on one core, and many times longer on several that are busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _weights(critic: Critic) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in critic.state_dict().items()}


def _others(table: Tensor) -> Tensor:
    """Entries of a square table that are not on its diagonal, flat."""
    n = len(table)
    return table.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten()


def _scaled(values: NDArray, fitted: NDArray[np.int64]) -> Tensor:
    """Columns with mean 0 and variance 1 on the particles ``fitted``."""
    import torch

    spread = values[fitted].std(axis=0)
    scaled = (values - values[fitted].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return torch.as_tensor(scaled, dtype=torch.float32)
