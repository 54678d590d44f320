"""The parameterised transformations of images and volumes, their exact group laws, and the renderers. Loads torch."""

from napari_harmony.transforms.elementary import (
    Contrast,
    Rotation,
    Scale,
    Transformation,
    Translation,
    built_in,
    choose,
    map_of,
    pose_of,
)
from napari_harmony.transforms.filters import apply_ctf, rfft_weights, soft_circle, soft_sphere
from napari_harmony.transforms.maps import ImageMap
from napari_harmony.transforms.pose import Pose2D, rotate, wrap
from napari_harmony.transforms.pose3d import Pose3D
from napari_harmony.transforms.render import fourier_resize, render
from napari_harmony.transforms.render3d import apply_coverage, render_volumes

__all__ = [
    "Contrast",
    "ImageMap",
    "Pose2D",
    "Pose3D",
    "Rotation",
    "Scale",
    "Transformation",
    "Translation",
    "apply_coverage",
    "apply_ctf",
    "built_in",
    "choose",
    "fourier_resize",
    "map_of",
    "pose_of",
    "render",
    "render_volumes",
    "rfft_weights",
    "rotate",
    "soft_circle",
    "soft_sphere",
    "wrap",
]
