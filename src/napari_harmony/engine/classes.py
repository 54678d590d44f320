"""How many classes, and which: split what hides two contents, drop what the particles do not miss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_harmony.engine.search import Observations, Posterior, Sums, Templates, signal_variance
from napari_harmony.engine.team import ALONE, Team

#: A class is real, when their number is to be found, if without it its particles lose this much log likelihood each.
WORTH = 8.0
#: Classes of fewer particles than this must be worth as much as if they had as many.
FEW = 8.0
#: Directions in which the particles of a class are looked at for two groups.
DIRECTIONS = 3


def best_pairs(common: torch.Tensor) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a table (k, j) of what classes have in common, each in one pair at most, for the most in all.

    There are as many pairs as there can be, in the order of the rows.
    """
    from scipy.optimize import linear_sum_assignment  # takes a moment to load, and is by then: ``learning.warm_up``

    rows, columns = linear_sum_assignment(common.cpu().numpy(), maximize=True)
    return rows, columns


def own_share(data: Observations, posterior: Posterior, sums: Sums, templates: Templates) -> torch.Tensor:
    """How much of its best class's score each particle owes to its own part in that class's average, (n,).

    Leave-one-out: a particle with the normal matrix ``p`` that leaves an average with the normal matrix ``P`` moves the
    template by ``d = (P - p)^-1 r``, where ``r`` is what the template did not explain of it, and its score falls by
    ``r' d + d' p d / 2``. The normal matrices are taken as diagonal.
    """
    basis, best = data.basis, posterior.best()
    variance = signal_variance(basis, sums)
    share = torch.empty(len(data), device=data.matched.device)
    for rows in torch.arange(len(data), device=share.device).split(4096):
        label = best.label[rows]
        seen, density = _aligned(data, best, rows)
        rest = seen - density * basis.to_complex(templates.coefficients[label])
        others = (sums.power[label] @ (basis.radial**2).T - density).clamp_min(0) + 1.0 / variance
        share[rows] = (rest.abs() ** 2 / others * (1 + 0.5 * density / others)).sum(-1)
    return share


def _aligned(data: Observations, best: Posterior, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Complex coefficients of particles turned onto their class, and the CTF power at each coefficient."""
    basis = data.basis
    y = basis.rotate(data.coefficients(rows, best.shift[rows]), best.psi[rows])
    return basis.to_complex(y), data.ctf_power[rows] @ (basis.radial**2).T


def fair_scores(
    data: Observations, before: Posterior, after: Posterior, sums: Sums, templates: Templates
) -> torch.Tensor:
    """Scores (n, k) of an expectation step without what particles gain from having shaped their own class."""
    scores, best = after.class_score.clone(), after.best()
    contributed = torch.zeros_like(scores)
    counted = before.weight > 0
    contributed[before.particle[counted], before.label[counted]] = 1
    rows = torch.arange(len(scores), device=scores.device)
    scores[rows, best.label] -= own_share(data, after, sums, templates) * contributed[rows, best.label]
    return scores


def eliminate(scores: torch.Tensor, classes: int | None) -> list[int]:
    """Classes to keep when those that the particles miss least are dropped one by one.

    ``scores`` (n, m) are log likelihoods per particle and class, free of each particle's own share. With ``classes``
    None, as many are kept as are worth it: each, when it would go, costs its particles ``WORTH`` or more.
    """
    kept, dropped, price = list(range(scores.shape[1])), [], []
    while len(kept) > (classes or 1):
        top = scores[:, kept].topk(2, dim=1)
        loss = torch.zeros(len(kept), device=scores.device)
        loss.index_add_(0, top.indices[:, 0], top.values[:, 0] - top.values[:, 1])
        count = torch.bincount(top.indices[:, 0], minlength=len(kept))
        worst = int(loss.argmin())
        price.append(float(loss[worst]) / max(float(count[worst]), FEW))
        dropped.append(kept.pop(worst))
    if classes is None:
        # Bottom up: a class that few particles shaped may look dear, but not once its like have gone.
        while dropped and price[-1] > WORTH:
            kept.append(dropped.pop())
            price.pop()
    return sorted(kept)


def split(data: Observations, posterior: Posterior, templates: Templates, team: Team = ALONE) -> Posterior:
    """Every class in two, along the direction in which its aligned particles vary most beyond noise.

    Class ``k`` becomes ``k`` and ``k + K``. The split is a guess for the next expectation steps to judge. Each process
    of a team looks at some of the classes.
    """
    basis, best, count = data.basis, posterior.best(), len(templates)
    second = torch.zeros(len(data), dtype=torch.int32, device=data.matched.device)
    for k in range(*team.share(count).indices(count)):
        rows = ((best.label == k) & (best.weight > 0)).nonzero()[:, 0]
        if len(rows) < 8:
            continue
        seen, density = _aligned(data, best, rows)
        rest = (seen - density * basis.to_complex(templates.coefficients[k])) / density.clamp_min(1e-6).sqrt()
        second[rows] = two_groups(basis.to_real(rest)).int()
    label = torch.where(team.sum(second)[posterior.particle] > 0, posterior.label + count, posterior.label)
    return replace(posterior, label=label)


def two_groups(rest: torch.Tensor) -> torch.Tensor:
    """(n,) bool: which residuals (n, d) belong to the second of two groups, by 2-means in the leading directions."""
    u, s, _ = torch.linalg.svd(rest - rest.mean(0), full_matrices=False)
    points = (u * s)[:, :DIRECTIONS]
    group = points[:, 0] > points[:, 0].median()
    for _ in range(20):
        if not group.any() or group.all():
            break
        centres = torch.stack([points[~group].mean(0), points[group].mean(0)])
        new = torch.cdist(points, centres).argmin(dim=1).bool()
        if torch.equal(new, group):
            break
        group = new
    return group


def centred(posterior: Posterior, classes: int) -> Posterior:
    """The same posterior with every class moved so that its particles are, on average, picked at their centre.

    Classes that share one centre let a particle keep its shift when it changes class.
    """
    c, s = torch.cos(posterior.psi), torch.sin(posterior.psi)
    x, y = posterior.shift.T
    in_class = torch.stack([c * x - s * y, s * x + c * y, torch.ones_like(x)], dim=1) * posterior.weight[:, None]
    sums = torch.zeros(classes, 3, device=x.device).index_add_(0, posterior.label, in_class)
    dx, dy = (sums[:, :2] / sums[:, 2:].clamp_min(1e-6))[posterior.label].T
    back = torch.stack([c * dx + s * dy, c * dy - s * dx], dim=1)
    return replace(posterior, shift=posterior.shift - back)


def relabel(posterior: Posterior, kept: list[int], classes: int) -> Posterior:
    """The posterior over the kept classes alone, numbered in their order.

    A particle of dropped classes only keeps one entry: its best pose, of weight 0, in the kept class that fits it
    best. It says where to look for the particle next and shapes no class.
    """
    place = torch.full((classes,), -1, dtype=torch.long, device=posterior.label.device)
    place[torch.as_tensor(kept, device=place.device)] = torch.arange(len(kept), device=place.device)
    label, scores, best = place[posterior.label], posterior.class_score[:, kept], posterior.best()
    entries = label >= 0
    without = torch.ones(len(scores), dtype=torch.bool, device=place.device)
    without[posterior.particle[entries]] = False
    return replace(
        posterior,
        particle=torch.cat([posterior.particle[entries], without.nonzero()[:, 0]]),
        label=torch.cat([label[entries], scores[without].argmax(1)]),
        psi=torch.cat([posterior.psi[entries], best.psi[without]]),
        shift=torch.cat([posterior.shift[entries], best.shift[without]]),
        weight=torch.cat([posterior.weight[entries], torch.zeros_like(best.weight[without])]),
        class_score=scores,
    )


def occupied(posterior: Posterior, classes: int, junk: torch.Tensor) -> tuple[Posterior, int]:
    """The posterior over the classes that fit some particle best that is no ``junk`` (n,), and how many those are."""
    best = posterior.best().label[~junk.to(posterior.label.device)]
    kept = torch.bincount(best, minlength=classes).nonzero()[:, 0].tolist()
    return (posterior, classes) if len(kept) in (0, classes) else (relabel(posterior, kept, classes), len(kept))


def pool(first: Posterior, second: Posterior, rows: tuple[torch.Tensor, torch.Tensor], classes: int) -> Posterior:
    """One posterior over all particles from those of two halves; the second half's classes follow the first's."""
    count = len(first.log_evidence) + len(second.log_evidence)
    evidence = torch.zeros(count, device=first.weight.device)
    evidence[rows[0]], evidence[rows[1]] = first.log_evidence, second.log_evidence
    return Posterior(
        torch.cat([rows[0][first.particle], rows[1][second.particle]]),
        torch.cat([first.label, second.label + classes]),
        torch.cat([first.psi, second.psi]),
        torch.cat([first.shift, second.shift]),
        torch.cat([first.weight, second.weight]),
        evidence,
        torch.zeros(count, 2 * classes, device=evidence.device),
    )
