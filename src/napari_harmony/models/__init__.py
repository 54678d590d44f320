"""Encoder, decoder and pose heads, and the files of a trained model. Its card is read without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_harmony.models.card import FORMAT_VERSION as FORMAT_VERSION
    from napari_harmony.models.card import ModelCard as ModelCard
    from napari_harmony.models.card import model_files as model_files
    from napari_harmony.models.card import read_card as read_card
    from napari_harmony.models.diffusion import DiffusionDecoder as DiffusionDecoder
    from napari_harmony.models.encoding import Encoding as Encoding
    from napari_harmony.models.encoding import Proposals as Proposals
    from napari_harmony.models.guided_volumes import GuidedVolumeNetwork as GuidedVolumeNetwork
    from napari_harmony.models.model import ContentMixture as ContentMixture
    from napari_harmony.models.model import HarmonyModel as HarmonyModel
    from napari_harmony.models.model import build_network as build_network
    from napari_harmony.models.network import HarmonyNetwork as HarmonyNetwork
    from napari_harmony.models.network import NetworkShape as NetworkShape
    from napari_harmony.models.network import PoseNetwork as PoseNetwork
    from napari_harmony.models.network_2022 import Harmony2022Network as Harmony2022Network
    from napari_harmony.models.network_2022_volumes import BOX_2022 as BOX_2022
    from napari_harmony.models.network_2022_volumes import Harmony2022VolumeNetwork as Harmony2022VolumeNetwork
    from napari_harmony.models.network_2022_volumes import published_band as published_band
    from napari_harmony.models.volume_encoding import VolumeEncoding as VolumeEncoding
    from napari_harmony.models.volume_encoding import VolumeProposals as VolumeProposals
    from napari_harmony.models.volume_network import VolumeNetwork as VolumeNetwork
    from napari_harmony.models.volume_network import VolumePoseNetwork as VolumePoseNetwork
    from napari_harmony.models.volume_network import volume_band as volume_band

#: Where each public name lives: imported at its first use, for all but the card load torch.
_NAMES = {
    "card": ("FORMAT_VERSION", "ModelCard", "model_files", "read_card"),
    "diffusion": ("DiffusionDecoder",),
    "encoding": ("Encoding", "Proposals"),
    "guided_volumes": ("GuidedVolumeNetwork",),
    "model": ("ContentMixture", "HarmonyModel", "build_network"),
    "network": ("HarmonyNetwork", "NetworkShape", "PoseNetwork"),
    "network_2022": ("Harmony2022Network",),
    "network_2022_volumes": ("BOX_2022", "Harmony2022VolumeNetwork", "published_band"),
    "volume_encoding": ("VolumeEncoding", "VolumeProposals"),
    "volume_network": ("VolumeNetwork", "VolumePoseNetwork", "volume_band"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
