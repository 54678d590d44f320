"""Encoder, decoder and pose heads, and the files of a trained model. Loads torch."""

from napari_harmony.models.card import FORMAT_VERSION, ModelCard
from napari_harmony.models.diffusion import DiffusionDecoder
from napari_harmony.models.encoding import Encoding, Proposals
from napari_harmony.models.model import ContentMixture, HarmonyModel, build_network, model_files
from napari_harmony.models.network import HarmonyNetwork, NetworkShape, PoseNetwork
from napari_harmony.models.network_2022 import Harmony2022Network
from napari_harmony.models.network_2022_volumes import BOX_2022, Harmony2022VolumeNetwork, published_band
from napari_harmony.models.volume_encoding import VolumeEncoding, VolumeProposals
from napari_harmony.models.volume_network import VolumeNetwork, VolumePoseNetwork, volume_band

__all__ = [
    "BOX_2022",
    "FORMAT_VERSION",
    "ContentMixture",
    "DiffusionDecoder",
    "Encoding",
    "Harmony2022Network",
    "Harmony2022VolumeNetwork",
    "HarmonyModel",
    "HarmonyNetwork",
    "ModelCard",
    "NetworkShape",
    "PoseNetwork",
    "Proposals",
    "VolumeEncoding",
    "VolumeNetwork",
    "VolumePoseNetwork",
    "VolumeProposals",
    "build_network",
    "model_files",
    "published_band",
    "volume_band",
]
