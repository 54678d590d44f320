"""Posteriors over class and pose: what a search keeps of one, and those that are sure of one class and pose each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Posterior:
    """The weights that matter of each particle's posterior over class and pose, one row per entry.

    Attributes
    ----------
    particle, label : (e,) indices
    psi : (e,) radian, turns the particle onto its class; shift : (e, 2) pixels, centres the particle
    weight : (e,) sums to one over each particle
    log_evidence : (n,) log likelihood of each particle against pure noise, poses and classes summed out
    class_score : (n, classes) log likelihood at the best pose of each class, without the classes' shares
    """

    particle: torch.Tensor
    label: torch.Tensor
    psi: torch.Tensor
    shift: torch.Tensor
    weight: torch.Tensor
    log_evidence: torch.Tensor
    class_score: torch.Tensor

    def subset(self, rows: torch.Tensor) -> Posterior:
        """The posterior of some particles, numbered anew in the order of ``rows``."""
        place = torch.full((len(self.log_evidence),), -1, dtype=torch.long, device=rows.device)
        place[rows] = torch.arange(len(rows), device=rows.device)
        chosen = place[self.particle] >= 0
        return Posterior(
            place[self.particle[chosen]],
            self.label[chosen],
            self.psi[chosen],
            self.shift[chosen],
            self.weight[chosen],
            self.log_evidence[rows],
            self.class_score[rows],
        )

    def only(self, particles: torch.Tensor) -> Posterior:
        """Without the entries of particles where ``particles`` (n,) is False."""
        kept = particles[self.particle]
        return replace(
            self,
            particle=self.particle[kept],
            label=self.label[kept],
            psi=self.psi[kept],
            shift=self.shift[kept],
            weight=self.weight[kept],
        )

    def best(self) -> Posterior:
        """The best entry of each particle alone, in particle order; every particle must have one."""
        order = torch.argsort(self.weight, stable=True)
        order = order[torch.argsort(self.particle[order], stable=True)]
        # Not by assignment through repeated indices: which of them lands last is left open by torch.
        last = order[torch.bincount(self.particle, minlength=len(self.log_evidence)).cumsum(0) - 1]
        return Posterior(
            self.particle[last],
            self.label[last],
            self.psi[last],
            self.shift[last],
            self.weight[last],
            self.log_evidence,
            self.class_score,
        )

    def class_weights(self, classes: int) -> torch.Tensor:
        """(n, classes) posterior of the class of each particle."""
        table = torch.zeros(len(self.log_evidence), classes, device=self.weight.device)
        table.index_put_((self.particle, self.label), self.weight, accumulate=True)
        return table


def certain(psi: torch.Tensor, shift: torch.Tensor, label: torch.Tensor) -> Posterior:
    """Sure of angles (n,) in radian, shifts (n, 2) in working pixels, and classes (n,)."""
    n, device = len(psi), psi.device
    ones, particle = torch.ones(n, device=device), torch.arange(n, device=device)
    return Posterior(particle, label.long(), psi, shift, ones, torch.zeros_like(ones), torch.zeros(n, 0, device=device))


def known_poses(table: pd.DataFrame, label: NDArray[np.int64], scale: float, device: torch.device) -> Posterior:
    """The poses in the rows of a result's table, in classes ``label`` (n,); ``scale``: source per working pixels."""
    psi = torch.as_tensor(np.deg2rad(table["psi"].to_numpy(float)), dtype=torch.float32, device=device)
    origin = table[["origin_x", "origin_y"]].to_numpy(float) / scale
    shift = torch.as_tensor(origin, dtype=torch.float32, device=device)
    return certain(psi, shift, torch.as_tensor(label, device=device))
