"""A ``Result`` from what the engine found: one row per input particle, averages, curves and warnings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from napari_harmony.engine.defocus import PRIOR_SPREAD, Defocus
from napari_harmony.engine.discovery import render_averages
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.halves import Agreement
from napari_harmony.engine.refine import Refined
from napari_harmony.engine.search import Posterior, Templates
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.steerable import SteerableBasis
from napari_harmony.particle_ids import to_record
from napari_harmony.results import COLUMNS, JUNK_FRAMES, NO_STRUCTURE, Result

#: An average this like itself after a turn of more than ``SYMMETRY_ANGLE`` degrees does not define its psi.
SYMMETRY = 0.92
SYMMETRY_ANGLE = 40.0
#: Standard deviation, in degrees, of an angle of which nothing is known.
UNKNOWN_ANGLE = 103.9


class Roster(Protocol):
    """All particles of the input, as far as a result tells of them: the attributes are those of ``Prepared``."""

    @property
    def usable(self) -> NDArray[np.bool_]: ...

    @property
    def flags(self) -> NDArray[np.object_]: ...

    @property
    def keys(self) -> NDArray[np.uint64]: ...

    @property
    def geometry(self) -> Geometry: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Placement:
    """In which class each of m particles is, and how sure that and its pose are; what is left of a posterior.

    Attributes
    ----------
    label : (m,) class, from 0
    probability : (m,) posterior of the most likely class
    flip_odds : (m,) posterior odds of the best pose more than 90 degrees away
    """

    label: NDArray[np.int64]
    probability: NDArray[np.float32]
    flip_odds: NDArray[np.float32]

    @classmethod
    def of(cls, posterior: Posterior, classes: int) -> Placement:
        """What a posterior over ``classes`` classes says."""
        best = posterior.best()
        return cls(
            best.label.cpu().numpy(),
            posterior.class_weights(classes).amax(1).cpu().numpy(),
            flip_odds(posterior, best).cpu().numpy(),
        )


@dataclass(frozen=True)
class Findings:
    """What a run found, for the particles in ``rows`` of the input (those that could be used).

    Attributes
    ----------
    rows : (m,) input rows; placed, refined, content, scale and junk have one entry each
    placed, refined : classes and poses
    templates, basis : class averages on the full band
    content : (m, d) content posterior means
    scale : (m,) magnification
    junk : (m,) fits no class
    agreement : of independent halves, or None where the run had none
    numbered : the classes are those of a saved model and keep their numbers
    defocus : offsets from what the CTF parameters say, where they were asked for
    """

    rows: NDArray[np.int64]
    placed: Placement
    refined: Refined
    templates: Templates
    basis: SteerableBasis
    content: NDArray[np.float32]
    scale: NDArray[np.float32]
    junk: NDArray[np.bool_]
    agreement: Agreement | None
    numbered: bool = False
    defocus: Defocus | None = None

    @property
    def structure(self) -> bool:
        """Whether any class is more than noise, as far as anybody looked."""
        return self.agreement is None or bool(self.agreement.significant.any())

    @property
    def member(self) -> NDArray[np.bool_]:
        """(m,) which particles count for their class.

        Where nothing is significant everything is junk; the classes stay, so that the user can see for himself.
        """
        return ~self.junk if self.structure else np.ones(len(self.junk), dtype=bool)

    def order(self) -> NDArray[np.int64]:
        """(k,) the classes in the order of their numbers: from the largest, unless they have numbers already."""
        classes = len(self.templates)
        if self.numbered:
            return np.arange(classes)
        return np.argsort(-np.bincount(self.placed.label[self.member], minlength=classes), kind="stable")


def assemble(
    prepared: Roster, findings: Findings, settings: Settings, pixel_size: float, provenance: dict[str, Any]
) -> Result:
    """The result of a run."""
    geometry, classes = prepared.geometry, len(findings.templates)
    label, order = findings.placed.label, findings.order()
    number = np.empty(classes, dtype=np.int64)
    number[order] = np.arange(1, classes + 1)
    symmetric = _symmetric_classes(findings.basis, findings.templates)
    rows = _rows(findings, geometry, np.where(findings.member, number[label], 0), symmetric[label])
    table = _complete(rows, prepared, findings)
    curves = findings.agreement or no_agreement(classes, geometry)
    shells = np.arange(1, curves.frc.shape[1] + 1) / (geometry.box * geometry.pixel_size)
    averages = render_averages(findings.basis, findings.templates.coefficients, geometry.box).cpu().numpy()
    return Result(
        table=table,
        averages=averages[order].astype(np.float32),
        average_pixel_size=geometry.pixel_size,
        frc=curves.frc[order],
        frc_floor=curves.floor[order],
        frc_frequency=shells.astype(np.float32),
        resolution=(geometry.box * geometry.pixel_size / curves.resolution[order]).astype(np.float32),
        pixel_size=pixel_size,
        summary={
            "parameters": asdict(settings),
            "seed": settings.seed,
            "warnings": warnings_of(prepared.usable, prepared.flags, findings.structure, findings.junk),
            JUNK_FRAMES: junk_frames(prepared.keys, findings.rows, number[label], findings.member),
            **provenance,
        },
    )


def _rows(
    findings: Findings, geometry: Geometry, number: NDArray[np.int64], symmetric: NDArray[np.bool_]
) -> pd.DataFrame:
    """Table columns of the particles that could be used, lengths in source pixels."""
    refined = findings.refined
    shift = refined.shift.cpu().numpy()
    bound = np.hypot(*shift.T) > 0.97 * geometry.max_shift
    flags = [
        ",".join(word for word, on in (("junk", j), ("symmetric", s), ("shift-bound", b)) if on)
        for j, s, b in zip(findings.junk, symmetric, bound & (geometry.max_shift > 0), strict=True)
    ]
    psi = np.rad2deg(refined.psi.double().cpu().numpy())
    columns = {
        "class_number": number,
        "class_probability": findings.placed.probability,
        "psi": (psi + 180) % 360 - 180,
        "origin_x": shift[:, 0] * geometry.scale,
        "origin_y": shift[:, 1] * geometry.scale,
        "psi_spread": np.rad2deg(refined.psi_spread.cpu().numpy()),
        "shift_spread": refined.shift_spread.cpu().numpy() * geometry.scale,
        "flip_odds": findings.placed.flip_odds,
        "scale": findings.scale,
        "contrast": refined.contrast.cpu().numpy(),
        "offset": 0.0,
        "score": refined.score.cpu().numpy(),
        "flags": flags,
    }
    if findings.defocus is not None:
        columns["defocus_offset"] = findings.defocus.offset.cpu().numpy()
        columns["defocus_spread"] = findings.defocus.spread.cpu().numpy()
    content = {f"content_{j}": findings.content[:, j] for j in range(findings.content.shape[1])}
    return pd.DataFrame({**columns, **content}, index=findings.rows)


def flip_odds(posterior: Posterior, best: Posterior) -> torch.Tensor:
    """Posterior probability (n,) that psi is more than 90 degrees from its best value, the class given."""
    turn = torch.cos(posterior.psi - best.psi[posterior.particle])
    same = posterior.label == best.label[posterior.particle]
    zeros = torch.zeros_like(best.weight)
    all_of = zeros.clone().index_add_(0, posterior.particle, posterior.weight * same)
    away = zeros.clone().index_add_(0, posterior.particle, posterior.weight * (same & (turn < 0)))
    return away / all_of.clamp_min(1e-12)


def _complete(rows: pd.DataFrame, prepared: Roster, findings: Findings) -> pd.DataFrame:
    """A row for every input particle; those that could not be used have no class and say why.

    Exact copies of an earlier image were left out too, but have what was found for it.
    """
    blank = dict.fromkeys(rows.columns, 0.0) | {"class_number": 0, "psi_spread": UNKNOWN_ANGLE, "flags": ""}
    blank |= {"scale": 1.0, "contrast": 1.0, "shift_spread": prepared.geometry.max_shift * prepared.geometry.scale}
    blank |= {"defocus_spread": PRIOR_SPREAD} if "defocus_spread" in rows else {}
    table = pd.DataFrame(blank, index=pd.RangeIndex(len(prepared)))
    source = originals(prepared.keys)
    for name in table.columns:
        values = table[name].to_numpy().copy()
        values[findings.rows] = rows[name].to_numpy()
        table[name] = values[source]
    both = [",".join(filter(None, words)) for words in zip(prepared.flags, table["flags"], strict=True)]
    table["flags"] = both
    table["class_number"] = table["class_number"].astype(np.int64)
    codes = [c for c in table.columns if c not in COLUMNS]
    return table[[*COLUMNS, *codes]]


def originals(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The row (n,) of the first of exact copies, for each image."""
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    return np.asarray(first[same], dtype=np.int64)


def junk_frames(
    keys: NDArray[np.uint64], rows: NDArray[np.int64], number: NDArray[np.int64], member: NDArray[np.bool_]
) -> dict[str, str]:
    """In the frame of which class the poses of junk are, for those who want it back.

    Parameters
    ----------
    keys : (n,) fingerprints of all images; exact copies share what was found for the first
    rows, number, member : (m,) input rows, the class that fits best, and whether the particle counts for it
    """
    frames = np.zeros(len(keys), dtype=np.int64)
    frames[rows] = np.where(member, 0, number)
    return to_record(frames[originals(keys)])


def _symmetric_classes(basis: SteerableBasis, templates: Templates) -> NDArray[np.bool_]:
    """Which averages look like themselves after a turn."""
    c = basis.to_complex(templates.coefficients)
    angles = torch.deg2rad(torch.arange(SYMMETRY_ANGLE, 360 - SYMMETRY_ANGLE, 2.0, device=c.device))
    power = c.abs() ** 2
    likeness = power @ torch.cos(basis.order[:, None] * angles) / power.sum(1, keepdim=True).clamp_min(1e-12)
    return (likeness.amax(dim=1) > SYMMETRY).cpu().numpy()


def no_agreement(classes: int, geometry: Geometry) -> Agreement:
    """What is known of classes whose halves nobody compared: nothing."""
    shells = geometry.box // 2 - 1
    nothing = np.full((classes, shells), np.nan, np.float32)
    return Agreement(nothing, nothing.copy(), np.full(classes, np.nan, np.float32), np.zeros(classes, dtype=bool))


def warnings_of(
    usable: NDArray[np.bool_], flags: NDArray[np.object_], structure: bool, junk: NDArray[np.bool_]
) -> list[str]:
    """What the user should know first."""
    said = []
    if not structure:
        said.append(
            f"{NO_STRUCTURE}: independent halves of the data do not agree on any class average more than noise would"
        )
    unusable = int((~usable & (flags != "duplicate")).sum())
    if unusable:
        said.append(f"{unusable} images hold no finite signal and were left out")
    if structure and junk.mean() > 0.3:
        said.append(f"{junk.mean():.0%} of the particles fit no class better than noise would")
    return said
