"""Scores of a run on a case: those of ``napari_harmony.analysis.metrics``, and averages against the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd

import matching
from cases import Case, Run
from napari_harmony.analysis import frc, metrics

#: Neighbours whose agreement is the neighbour purity; 49 beside the particle itself, as ASPIRE's classes of 50 have.
NEIGHBOURS = 49


def score(case: Case, run: Run) -> dict[str, float]:
    """All scores that the run and the case allow."""
    scores: dict[str, float] = dict(run.extra)
    if run.table is None:
        return scores
    evaluated = metrics.evaluate(run.table, case.truth)
    if case.protocol.views is None and case.densities:  # every particle its own view: contents are densities
        for name in ("accuracy", "merged_accuracy", "ari", "homogeneity", "completeness", "contents"):
            evaluated.pop(name)
    scores |= evaluated
    if run.averages is not None and case.densities:
        scores |= average_scores(case, run.table, run.averages)
    return scores


def average_scores(case: Case, table: pd.DataFrame, averages: np.ndarray) -> dict[str, float]:
    """Resolution in angstrom at which averages and truth correlate by one half, every class counted by its members.

    The truth of a class is its majority content or, where every particle has its own view, the projection along the
    mean axis of its members, from either side. It is aligned to the average exhaustively.
    """
    classes = table["class_number"].to_numpy()
    numbers, counts = np.unique(classes[classes > 0], return_counts=True)
    if len(numbers) == 0:
        return {}
    if case.protocol.views is None:
        templates, allowed = _mean_views(case, classes, numbers)
    else:
        templates, allowed = case.content_templates(), _majority(case, classes, numbers)
    images = np.stack([to_box(a, case.box) for a in averages[numbers - 1]])
    mask = frc.soft_mask(case.box, case.diameter / case.pixel_size)
    found = matching.match(images * mask, templates, normalised=True, allowed=allowed)
    curves = frc.ring_correlation(images, matching.render(templates, found), mask)
    found_resolution = [frc.resolution(c, frc.TRUTH, case.pixel_size, case.box) for c in curves]
    angstrom = np.nan_to_num(found_resolution, nan=case.box * case.pixel_size)
    order = np.argsort(angstrom)
    middle = np.searchsorted(np.cumsum(counts[order]), counts.sum() / 2)
    return {"frc_half": float(angstrom[order][middle]), "frc_half_worst": float(angstrom.max())}


def to_box(image: np.ndarray, box: int) -> np.ndarray:
    """An average that was Fourier-cropped, on the grid of the input again, (box, box); its new frequencies are zero."""
    small = image.shape[-1]
    if small == box:
        return image
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image)))
    full = np.zeros((box, box), dtype=complex)
    start = box // 2 - small // 2
    full[start : start + small, start : start + small] = spectrum
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(full))).real * (box / small) ** 2


def _majority(case: Case, classes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(classes, contents) bool: the majority content of every class."""
    contents = np.unique(case.truth["content"])
    counts = np.array([[np.sum((classes == k) & (case.truth["content"] == c)) for c in contents] for k in numbers])
    return counts == counts.max(axis=1, keepdims=True)


def _mean_views(case: Case, classes: np.ndarray, numbers: np.ndarray) -> tuple[matching.Templates, np.ndarray]:
    """The projections along the mean axes from both sides, and which class each belongs to."""
    spread = metrics.view_spread(classes, case.truth["rot"], case.truth["tilt"])
    views = []
    for k in numbers:
        for axis in (spread.axis[int(k)], -spread.axis[int(k)]):
            rot, tilt = np.degrees(np.arctan2(axis[1], axis[0])), np.degrees(np.arccos(np.clip(axis[2], -1, 1)))
            views.append((case.densities[0], float(rot), float(tilt), 1.0))
    allowed = np.repeat(np.eye(len(numbers), dtype=bool), 2, axis=1)
    return matching.make_templates(views, case.box), allowed


def neighbour_purity(neighbours: np.ndarray, contents: np.ndarray) -> float:
    """Share of neighbours (n, m), given as indices, that have the content of the particle itself."""
    return float((contents[neighbours] == contents[:, None]).mean())


def nearest(codes: np.ndarray) -> np.ndarray:
    """Indices (n, NEIGHBOURS) of the nearest other particles in a content code (n, d)."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(codes) - 1)
    return NearestNeighbors(n_neighbors=count).fit(codes).kneighbors(return_distance=False)


def neighbourhood_spread(neighbours: np.ndarray, truth: pd.DataFrame) -> float:
    """Median angle in degrees of viewing axes to the mean axis of their neighbourhood, as ``metrics.view_spread``."""
    axes = metrics.viewing_axes(truth["rot"], truth["tilt"])[neighbours]  # (n, m, 3)
    mean = np.linalg.eigh(np.einsum("nma,nmb->nab", axes, axes))[1][:, :, -1]
    cosine = np.abs(np.einsum("nma,na->nm", axes, mean))
    return float(np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))))
