"""``napari-harmony evaluate``: a finished run against a known truth."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from napari_harmony.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_harmony.results import Result

#: What RELION calls the columns of a truth. Origins are in pixels, so that angstroms are converted.
_RELION = {
    "rlnClassNumber": "content",
    "rlnAngleRot": "rot",
    "rlnAngleTilt": "tilt",
    "rlnAnglePsi": "psi",
    **{f"rlnOrigin{axis.upper()}": f"origin_{axis}" for axis in "xyz"},
}
_RELION_FACTORS = {"rlnDefocusU": "defocus"}
_RELION_ANGSTROM = {f"rlnOrigin{axis.upper()}Angst": f"origin_{axis}" for axis in "xyz"}
#: Other words that people use for the true class.
_CONTENT = ("content", "class_number", "class", "label", "labels", "kind", "y")


def read_truth(path: Path, pixel_size: float) -> pd.DataFrame:
    """The true contents and poses, one row per particle in input order.

    Parameters
    ----------
    path : ``.csv`` or ``.npz`` with ``content`` and, if known, ``psi`` (degree), ``origin_x``, ``origin_y`` (pixel),
        and of subtomograms ``rot``, ``tilt`` and ``origin_z``; further columns of numbers are factors of the content;
        or ``.star`` with RELION's labels
    pixel_size : angstrom per pixel, for origins in angstrom

    Raises
    ------
    InputError : for other files, and where there is no column of contents
    """
    readers = {".csv": _read_csv, ".npz": _read_npz, ".star": _read_star}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: a truth is read from {', '.join(readers)}; convert it to one of these.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the name.")
    truth = readers[path.suffix.lower()](path).rename(columns=_RELION | _RELION_FACTORS)
    for label, name in _RELION_ANGSTROM.items():
        if label in truth and name not in truth:
            truth[name] = truth[label].astype(float) / pixel_size
    content = next((name for name in _CONTENT if name in truth), None)
    if content is None:
        raise InputError(f"{path}: there is no column of the true contents; name it 'content'.")
    return truth.rename(columns={content: "content"})


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: this is no CSV table ({error}).") from error


def _read_npz(path: Path) -> pd.DataFrame:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: this is no .npz file of plain arrays ({error}).") from error
    rows = {name: values for name, values in arrays.items() if values.ndim == 1}
    if len({len(values) for values in rows.values()}) > 1:
        raise InputError(f"{path}: its arrays differ in length; give one value per particle in each.")
    return pd.DataFrame(rows)


def _read_star(path: Path) -> pd.DataFrame:
    from napari_harmony.particles.star import read_star

    document = read_star(path)
    table = document.table("particles")
    table = table if table is not None else document.table_with(*_RELION)
    if table is None:
        raise InputError(f"{path}: there is no table with {', '.join(_RELION)} in this file.")
    return pd.DataFrame({label: table.column(label) for label in table.labels})


def evaluate_output(folder: Path, truth: Path, symmetry: str = "C1") -> dict[str, Any]:
    """Scores of a finished run against a truth, by name.

    Parameters
    ----------
    folder : OUT
    truth : as ``read_truth``
    symmetry : of the true contents of subtomograms, C1, C2 ..., D2 ..., T, O or I

    Raises
    ------
    InputError : if either cannot be read, they differ in the number of particles, or there is no such symmetry
    """
    return class_and_pose_scores(*read_both(folder, truth, symmetry), symmetry)


def read_both(folder: Path, truth: Path, symmetry: str = "C1") -> tuple[Result, pd.DataFrame]:
    """A finished run and its truth that belong together; parameters and errors as of ``evaluate_output``."""
    from napari_harmony.analysis.metrics_3d import symmetry_group
    from napari_harmony.outputs import load_output

    result = load_output(folder)
    known = read_truth(truth, result.pixel_size)
    if len(known) != len(result):
        raise InputError(f"{truth}: it has {len(known)} rows, but the run had {len(result)} particles.")
    if result.dimensions == 2 and symmetry.upper() != "C1":
        raise InputError(f"{folder}: this run was on images, to which no point group applies; leave --symmetry out.")
    try:
        symmetry_group(symmetry)
    except ValueError as error:
        raise InputError(f"--symmetry: {error}.") from error
    return result, known


def class_and_pose_scores(result: Result, known: pd.DataFrame, symmetry: str = "C1") -> dict[str, Any]:
    """How right classes and poses of a run are, by name."""
    from napari_harmony.analysis import metrics, metrics_3d

    if result.dimensions == 2:
        return dict(metrics.evaluate(result.table, known))
    return dict(metrics_3d.evaluate(result.table, known, symmetry))


def disentanglement_scores(result: Result, known: pd.DataFrame, symmetry: str = "C1") -> dict[str, Any]:
    """How well a run tells content and transformations apart: ``Disentanglement`` as plain values."""
    from napari_harmony.analysis.disentanglement import assess, study_of_tables

    return assess(study_of_tables(result.table, known, result.dimensions, symmetry)).to_dict()


def tracking_scores(folder: Path, result: Result) -> dict[str, Any] | None:
    """Content-tracking scores of the principal axes of a run's content code, as plain values.

    None where OUT has no model that draws pictures of these codes, or the codes never vary.

    Raises
    ------
    InputError : the files of the model are damaged
    """
    from napari_harmony.outputs import names

    codes = result.content[np.isfinite(result.content).all(axis=1)]
    if not all((folder / name).is_file() for name in names.MODEL) or not (codes.std(axis=0) > 0).any():
        return None
    import torch

    from napari_harmony.analysis.disentanglement import content_tracking, frames_along_axes
    from napari_harmony.models import HarmonyModel

    model = HarmonyModel.load(folder)
    if model.card.content != codes.shape[1]:
        return None
    with torch.inference_mode():
        frames = frames_along_axes(codes, lambda z: model.network.decode(torch.from_numpy(z)).numpy())
    return asdict(content_tracking(frames))


def score_lines(scores: Mapping[str, Any], as_json: bool) -> list[str]:
    """The scores as lines to print, or as one JSON object."""
    from napari_harmony.outputs.summary import to_json

    if as_json:
        return [json.dumps(to_json(scores), allow_nan=False)]
    width = max((len(name) for name in scores), default=0) + 2
    return [f"{name.replace('_', ' '):<{width}}{_text(value)}" for name, value in scores.items()]


def disentanglement_lines(scores: Mapping[str, Any]) -> list[str]:
    """``disentanglement_scores`` as lines under headings of their own."""
    headed = ["", f"Disentanglement, of {scores['particles']} particles", *score_lines(scores["scores"], False)]
    of_factors = scores["of_factors"]
    rows = {key: {name: row[key] for name, row in of_factors.items()} for key in next(iter(of_factors.values()), {})}
    headed += _table("of each factor", rows)
    headed += _table("share explained by", scores["cross_talk"])
    headed += _table("information (nats) in", scores["information"])
    if scores["left_out"]:
        headed += ["", "left out", *(f"  {sentence}" for sentence in scores["left_out"])]
    return headed


def tracking_lines(scores: Mapping[str, Any]) -> list[str]:
    """``tracking_scores`` as lines under a heading of their own."""
    numbers = ("consistency", "overlap", "leak", "activity", "score")
    ways = scores["directions"]
    rows = {f"axis {place + 1}": {name: way[name] for name in numbers} for place, way in enumerate(ways)}
    table = _table("axes of the content", rows)
    verdicts = (f"  {way['verdict']}" + (f" ({way['leaks_as']})" if "pose" in way["verdict"] else "") for way in ways)
    head = ["", *score_lines({"content_tracking": scores["score"]}, False)]
    return [*head, *table[:2], *(line + verdict for line, verdict in zip(table[2:], verdicts, strict=True))]


def _table(corner: str, rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Rows of numbers under the names of their columns; nothing without rows."""
    if not rows:
        return []
    columns = list(next(iter(rows.values())))
    first = max(len(name) for name in (corner, *rows)) + 2
    widths = [max(len(name), 5) + 2 for name in columns]

    def line(name: str, cells: Iterable[str]) -> str:
        return f"{name:<{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))

    body = [line(name, (f"{row[column]:.3f}" for column in columns)) for name, row in rows.items()]
    return ["", line(corner, columns), *body]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
