"""The parameterised transformations of an image, their exact group laws, and the renderer. Loads torch."""

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
from napari_harmony.transforms.filters import apply_ctf, rfft_weights, soft_circle
from napari_harmony.transforms.maps import ImageMap
from napari_harmony.transforms.pose import Pose2D, rotate, wrap
from napari_harmony.transforms.render import fourier_resize, render

__all__ = [
    "Contrast",
    "ImageMap",
    "Pose2D",
    "Rotation",
    "Scale",
    "Transformation",
    "Translation",
    "apply_ctf",
    "built_in",
    "choose",
    "fourier_resize",
    "map_of",
    "pose_of",
    "render",
    "rfft_weights",
    "rotate",
    "soft_circle",
    "wrap",
]
