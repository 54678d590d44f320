"""What a network is trained for: terms behind one protocol, summed to an objective. Loads torch."""

from napari_harmony.objectives.adam import Adam
from napari_harmony.objectives.added import added_term
from napari_harmony.objectives.context import Context, make_branches
from napari_harmony.objectives.cross_contrastive import ContentAgreement, ContentPrior, ContrastTarget, PoseTarget
from napari_harmony.objectives.data import Batch, Branch
from napari_harmony.objectives.diffusion import DiffusionFeedback, LoopSettings
from napari_harmony.objectives.forward import Fit
from napari_harmony.objectives.harmony_2022 import Harmony2022, published_copy, published_gamma
from napari_harmony.objectives.harmony_2022_volumes import (
    Harmony2022Volumes,
    published_volume_branches,
    published_volume_copy,
)
from napari_harmony.objectives.independence import AdversarialIndependence, Controls, IndependencePenalty
from napari_harmony.objectives.loocc import LeaveOneOutCycle
from napari_harmony.objectives.reconstruction import Reconstruction
from napari_harmony.objectives.rehearsal import Rehearsal
from napari_harmony.objectives.seeds import SeedPoses, SeedVolumes
from napari_harmony.objectives.share import Share
from napari_harmony.objectives.term import Objective, Term, Weight
from napari_harmony.objectives.views import Views
from napari_harmony.objectives.volume_context import VolumeContext, VolumeFit, make_volume_branches, random_poses

__all__ = [
    "Adam",
    "AdversarialIndependence",
    "Batch",
    "Branch",
    "ContentAgreement",
    "ContentPrior",
    "Context",
    "ContrastTarget",
    "Controls",
    "DiffusionFeedback",
    "Fit",
    "Harmony2022",
    "Harmony2022Volumes",
    "IndependencePenalty",
    "LeaveOneOutCycle",
    "LoopSettings",
    "Objective",
    "PoseTarget",
    "Reconstruction",
    "Rehearsal",
    "SeedPoses",
    "SeedVolumes",
    "Share",
    "Term",
    "Views",
    "VolumeContext",
    "VolumeFit",
    "Weight",
    "added_term",
    "make_branches",
    "make_volume_branches",
    "published_copy",
    "published_gamma",
    "published_volume_branches",
    "published_volume_copy",
    "random_poses",
]
