"""All scores of codes against factors at once, with words for what had to be left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.analysis.disentanglement.dependence import explained, information
from napari_harmony.analysis.disentanglement.scores import dci, factorvae, mig, sap
from napari_harmony.analysis.disentanglement.variables import canonical_order, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_harmony.analysis.disentanglement.variables import Variable

#: Below so many particles no score means anything, and above so many more of them do not change it.
FEWEST, MOST = 40, 4000


@dataclass(frozen=True)
class Study:
    """Codes and factors of the same particles.

    Attributes
    ----------
    units : single codes, that can be compared one by one
    blocks : the same codes, those that belong together as one variable: the content, the rotation, the shift ...
    factors : what is known of the particles
    owners : the name of the block that each factor belongs to, by the factor's name; without one where none should
    left_out : sentences on what is not in here and why
    """

    units: tuple[Variable, ...]
    blocks: tuple[Variable, ...]
    factors: tuple[Variable, ...]
    owners: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Disentanglement:
    """Scores of codes against factors, each in [0, 1] with 1 the best if not said otherwise; NaN where undefined.

    Attributes
    ----------
    particles : that were used
    scores : ``dci_disentanglement``, ``dci_completeness``, ``dci_informativeness``, ``mig``, ``sap``, ``factorvae``,
        and ``block_gap``
    of_factors : completeness, informativeness, MIG and SAP of every factor, by its name
    cross_talk : the share of a factor that a block explains, by the names of block and factor
    information : the same in nats, at least 0
    left_out : sentences on what is not in here and why
    """

    particles: int
    scores: dict[str, float]
    of_factors: dict[str, dict[str, float]]
    cross_talk: dict[str, dict[str, float]]
    information: dict[str, dict[str, float]]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def assess(study: Study, seed: int = 0, most: int = MOST) -> Disentanglement:
    """All scores of a study; the order of the particles does not matter, and at most ``most`` of them are used.

    Constant units, blocks and factors, and everything where particles are too few, are left out, with a sentence each.
    """
    said = list(study.left_out)
    units, blocks = (_varying(group, "code", said) for group in (study.units, study.blocks))
    factors = _varying(study.factors, "factor", said)
    particles = len(factors[0]) if factors else 0
    if particles < FEWEST:
        said.append(f"All scores: {particles} particles with codes and factors are fewer than {FEWEST}.")
        return Disentanglement(particles, {}, {}, {}, {}, tuple(said))
    order = canonical_order((*units, *blocks, *factors))[:: -(-particles // most)]
    if len(order) < particles:
        said.append(f"Of {particles} particles {len(order)} were used.")
    units, blocks, factors = (in_order(group, order) for group in (units, blocks, factors))
    scores, of_factors = _unit_scores(units, factors, seed) if units else ({}, {})
    cross_talk = block_table(blocks, factors, seed)
    if len(blocks) > 1:
        scores = scores | {"block_gap": block_gap(cross_talk, study.owners)}
    if units and len(factors) == 1:
        said.append(f"DCI disentanglement and FactorVAE score: '{factors[0].name}' is the only factor.")
    if len(units) == 1:
        said.append(f"DCI completeness: '{units[0].name}' is the only code.")
    known = {block.name: {factor.name: information(block, factor) for factor in factors} for block in blocks}
    return Disentanglement(len(order), scores, of_factors, cross_talk, known, tuple(said))


def _varying(group: tuple[Variable, ...], role: str, said: list[str]) -> tuple[Variable, ...]:
    for variable in group:
        sentence = f"{variable.name} as a {role}: it is the same for all particles."
        if variable.constant and sentence not in said:
            said.append(sentence)
    return tuple(variable for variable in group if not variable.constant)


def _unit_scores(
    units: tuple[Variable, ...], factors: tuple[Variable, ...], seed: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    trees, information_gap, separation = dci(units, factors, seed), mig(units, factors), sap(units, factors)
    scores = {
        "dci_disentanglement": trees.disentanglement,
        "dci_completeness": trees.completeness,
        "dci_informativeness": trees.informativeness,
        "mig": float(information_gap.mean()),
        "sap": float(separation.mean()),
        "factorvae": factorvae(units, factors, seed) if len(factors) > 1 else float("nan"),
    }
    rows = zip(factors, trees.of_factors, information_gap, separation, strict=True)
    of_factors = {
        factor.name: {
            "completeness": float(complete),
            "informativeness": float(informed),
            "mig": float(gap),
            "sap": float(separate),
        }
        for factor, (complete, informed), gap, separate in rows
    }
    return scores, of_factors


def block_table(
    blocks: tuple[Variable, ...], factors: tuple[Variable, ...], seed: int = 0
) -> dict[str, dict[str, float]]:
    """The share of every factor that every block explains, by the names of block and factor."""
    return {block.name: {factor.name: explained(block, factor, seed) for factor in factors} for block in blocks}


def block_gap(table: Mapping[str, Mapping[str, float]], owners: Mapping[str, str]) -> float:
    """What a factor's own block explains of it less what the best other block does, mean over factors, in [-1, 1].

    1: every factor is in its own block and in no other. Negative: others know more of it. A factor without a block of
    its own counts as 0 less the best. NaN without factors.
    """
    factors = next(iter(table.values()), {})
    differences = []
    for factor in factors:
        owner = owners.get(factor, "")
        own = table[owner][factor] if owner in table else 0.0
        differences.append(own - max((row[factor] for name, row in table.items() if name != owner), default=0.0))
    return float(np.mean(differences)) if differences else float("nan")


def cross_talk(
    before: Mapping[str, NDArray], after: Mapping[str, Mapping[str, NDArray]], again: Mapping[str, NDArray]
) -> dict[str, dict[str, float]]:
    """How far each code moves when one factor of the particles is changed and nothing else.

    Parameters
    ----------
    before : codes (n, f) of n particles, by the name of the block; angles and rotations as features
    after : the same of the same particles with one factor changed, by the name of the factor
    again : the same of the same particles with nothing but the noise drawn anew

    Returns
    -------
    by block and factor, the mean squared change of the code over its variance between particles, less what the noise
    alone does; 0 for none, 2 for as much as to another particle

    A block that does not vary between particles gives NaN.
    """
    return {
        block: {name: _change(codes, moved[block]) - _change(codes, again[block]) for name, moved in after.items()}
        for block, codes in before.items()
    }


def _change(codes: NDArray, moved: NDArray) -> float:
    one, two = (np.asarray(x, dtype=np.float64).reshape(len(codes), -1) for x in (codes, moved))
    variance = one.var(axis=0).sum()
    return float(((two - one) ** 2).sum(axis=1).mean() / variance) if variance > 0 else float("nan")
