"""A ``Result`` from what the engine found in subtomograms: one row per input particle, averages, curves, warnings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from napari_harmony.analysis.fsc import of_classes, worse_of
from napari_harmony.engine.assembly import UNKNOWN_ANGLE, junk_frames, no_agreement, originals, warnings_of
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.volumes.discovery import Discovery
from napari_harmony.engine.volumes.prepare import Prepared
from napari_harmony.engine.volumes.refine import Refined
from napari_harmony.engine.volumes.search import Posterior
from napari_harmony.engine.volumes.symmetry import Symmetry
from napari_harmony.results import COLUMNS_3D, JUNK_FRAMES, Result
from napari_harmony.transforms import so3


@dataclass(frozen=True)
class Findings:
    """What a run found, for the particles in ``rows`` of the input (those that could be used).

    Attributes
    ----------
    rows : (m,) input rows
    found : classes, and what the halves say of them
    refined : poses
    averages : (k, b, b, b) of all members; half_averages : (2, k, b, b, b), or None where there are no halves
    symmetry : of the classes
    origin : (m, 3) working voxels by which the particles were shifted before, as the input said
    content : (m, d) content posterior means
    numbered : the classes are those of a saved model and keep their numbers
    """

    rows: NDArray[np.int64]
    found: Discovery
    refined: Refined
    averages: NDArray[np.float32]
    half_averages: NDArray[np.float32] | None
    symmetry: Symmetry
    origin: NDArray[np.float32] | None = None
    content: NDArray[np.float32] | None = None
    numbered: bool = False

    @property
    def structure(self) -> bool:
        """Whether any class is more than noise, as far as anybody looked."""
        return self.found.agreement is None or bool(self.found.agreement.significant.any())

    @property
    def member(self) -> NDArray[np.bool_]:
        """(m,) which particles count for their class; all, where nothing is significant."""
        junk = self.found.junk.cpu().numpy()
        return ~junk if self.structure else np.ones(len(junk), dtype=bool)

    def order(self) -> NDArray[np.int64]:
        """(k,) the classes in the order of their numbers: from the largest, unless they have numbers already."""
        if self.numbered:
            return np.arange(len(self.averages))
        label = self.found.posterior.best().label.cpu().numpy()
        return np.argsort(-np.bincount(label[self.member], minlength=len(self.averages)), kind="stable")


def assemble(
    prepared: Prepared, findings: Findings, settings: Settings, pixel_size: float, provenance: dict[str, Any]
) -> Result:
    """The result of a run."""
    geometry, order, halves = prepared.geometry, findings.order(), findings.half_averages
    curves = findings.found.agreement or no_agreement(len(order), geometry)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(1, len(order) + 1)
    label = findings.found.posterior.best().label.cpu().numpy()
    rows = _rows(findings, geometry, np.where(findings.member, number[label], 0))
    length = geometry.box * geometry.pixel_size
    junk = findings.found.junk.cpu().numpy()
    halves = None if halves is None else halves[:, order]
    stated = length / curves.resolution[order]
    if halves is not None:
        stated = worse_of(stated, of_classes(findings.averages[order], halves), geometry.pixel_size)
    return Result(
        table=_complete(rows, prepared),
        averages=findings.averages[order],
        average_pixel_size=geometry.pixel_size,
        frc=curves.frc[order],
        frc_floor=curves.floor[order],
        frc_frequency=(np.arange(1, curves.frc.shape[1] + 1) / length).astype(np.float32),
        resolution=stated.astype(np.float32),
        pixel_size=pixel_size,
        summary={
            "parameters": asdict(settings),
            "seed": settings.seed,
            "warnings": warnings_of(prepared.usable, prepared.flags, findings.structure, junk),
            JUNK_FRAMES: junk_frames(prepared.keys, findings.rows, number[label], findings.member),
            **provenance,
        },
        half_averages=halves,
    )


def _rows(findings: Findings, geometry: Geometry, number: NDArray[np.int64]) -> pd.DataFrame:
    """Table columns of the particles that could be used, lengths in source voxels."""
    refined, posterior = findings.refined, findings.found.posterior
    shift = refined.shift.cpu().numpy()
    origin = shift if findings.origin is None else shift + findings.origin
    bound = (np.linalg.norm(shift, axis=1) > 0.97 * geometry.max_shift) & (geometry.max_shift > 0)
    junk = findings.found.junk.cpu().numpy()
    angles = so3.to_zyz(refined.rotation.double()).cpu().numpy()
    columns = {
        "class_number": number,
        "class_probability": class_weight(posterior).cpu().numpy(),
        **{name: angles[:, i] for i, name in enumerate(("rot", "tilt", "psi"))},
        **{f"origin_{axis}": origin[:, i] * geometry.scale for i, axis in enumerate("xyz")},
        "angle_spread": np.rad2deg(refined.angle_spread.cpu().numpy()),
        "shift_spread": refined.shift_spread.cpu().numpy() * geometry.scale,
        "flip_odds": flip_odds(posterior, findings.symmetry).cpu().numpy(),
        "scale": refined.scale.cpu().numpy(),
        "contrast": refined.contrast.cpu().numpy(),
        "offset": 0.0,
        "score": refined.score.cpu().numpy(),
        "flags": [
            ",".join(word for word, on in (("junk", j), ("shift-bound", b)) if on)
            for j, b in zip(junk, bound, strict=True)
        ],
    }
    codes = np.zeros((len(junk), 0)) if findings.content is None else findings.content
    content = {f"content_{j}": codes[:, j] for j in range(codes.shape[1])}
    return pd.DataFrame({**columns, **content}, index=findings.rows)


def class_weight(posterior: Posterior) -> torch.Tensor:
    """Posterior probability (n,) of each particle's class."""
    best = posterior.best()
    same = posterior.label == best.label[posterior.particle]
    return torch.zeros_like(best.weight).index_add_(0, posterior.particle, posterior.weight * same)


def flip_odds(posterior: Posterior, symmetry: Symmetry) -> torch.Tensor:
    """Posterior probability (n,) that the rotation is more than 90 degrees from its best, the class given.

    Of all equivalents of a pose the nearest counts.
    """
    best = posterior.best()
    same = posterior.label == best.label[posterior.particle]
    turn = symmetry.angle_between(posterior.rotation, best.rotation[posterior.particle])
    away = posterior.weight * (same & (turn > torch.pi / 2))
    total = torch.zeros_like(best.weight).index_add_(0, posterior.particle, away)
    return total / class_weight(posterior).clamp_min(1e-12)


def _complete(rows: pd.DataFrame, prepared: Prepared) -> pd.DataFrame:
    """A row for every input particle; those that could not be used have no class and say why.

    Exact copies of an earlier volume were left out too, but have what was found for it.
    """
    geometry = prepared.geometry
    blank = dict.fromkeys(rows.columns, 0.0) | {"class_number": 0, "angle_spread": UNKNOWN_ANGLE, "flags": ""}
    blank |= {"scale": 1.0, "contrast": 1.0, "shift_spread": geometry.max_shift * geometry.scale}
    table, source = pd.DataFrame(blank, index=pd.RangeIndex(len(prepared))), originals(prepared.keys)
    for name in table.columns:
        values = table[name].to_numpy().copy()
        values[rows.index.to_numpy()] = rows[name].to_numpy()
        table[name] = values[source]
    table["flags"] = [",".join(filter(None, words)) for words in zip(prepared.flags, table["flags"], strict=True)]
    table["class_number"] = table["class_number"].astype(np.int64)
    return table[[*COLUMNS_3D, *(name for name in table.columns if name not in COLUMNS_3D)]]
