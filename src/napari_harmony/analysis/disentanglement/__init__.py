"""How well content and transformations are told apart.

``assess`` takes codes and factors, made from tables by ``study_of_tables``, and gives all scores at once; the scores
one by one are in ``scores``, information and explained shares in ``dependence``. ``content_tracking`` needs no truth.
"""

from napari_harmony.analysis.disentanglement.assess import (
    Disentanglement,
    Study,
    assess,
    block_gap,
    block_table,
    cross_talk,
)
from napari_harmony.analysis.disentanglement.dependence import explained, information
from napari_harmony.analysis.disentanglement.leakage import Leak, Leakage, leak_between, leakage_of
from napari_harmony.analysis.disentanglement.scores import Dci, dci, factorvae, mig, sap
from napari_harmony.analysis.disentanglement.tables import study_of_estimates, study_of_tables
from napari_harmony.analysis.disentanglement.tracking import (
    ContentTracking,
    Direction,
    content_tracking,
    frames_along,
    frames_along_axes,
)
from napari_harmony.analysis.disentanglement.variables import (
    Variable,
    angles,
    content_units,
    labels,
    numbers,
    rotations,
)

__all__ = [
    "ContentTracking",
    "Dci",
    "Direction",
    "Disentanglement",
    "Leak",
    "Leakage",
    "Study",
    "Variable",
    "angles",
    "assess",
    "block_gap",
    "block_table",
    "content_tracking",
    "content_units",
    "cross_talk",
    "dci",
    "explained",
    "factorvae",
    "frames_along",
    "frames_along_axes",
    "information",
    "labels",
    "leak_between",
    "leakage_of",
    "mig",
    "numbers",
    "rotations",
    "sap",
    "study_of_estimates",
    "study_of_tables",
]
