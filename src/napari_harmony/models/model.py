"""A trained model as one value, and its files: ``model.safetensors`` and ``model.json``, never a pickle."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from napari_harmony.additions import addition_of
from napari_harmony.errors import InputError
from napari_harmony.models.card import ModelCard, model_files, read_card, read_weights
from napari_harmony.models.diffusion import DiffusionDecoder
from napari_harmony.models.guided_volumes import GuidedVolumeNetwork
from napari_harmony.models.network import HarmonyNetwork, PoseNetwork
from napari_harmony.models.network_2022 import Harmony2022Network
from napari_harmony.models.network_2022_volumes import Harmony2022VolumeNetwork
from napari_harmony.models.volume_network import VolumeNetwork, VolumePoseNetwork


@dataclass(frozen=True)
class ContentMixture:
    """The classes as a Gaussian mixture over the content code.

    Attributes
    ----------
    means : (k, d)
    covariances : (k, d, d)
    weights : (k,), they sum to 1
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor


@dataclass(frozen=True)
class HarmonyModel:
    """A trained network with its card and, where classes were found, their templates.

    Attributes
    ----------
    network : in eval mode, on the CPU after ``load``; of volumes a ``VolumePoseNetwork``
    card : what it is
    templates : (k, box, box) class averages on the network's grid, or (k, template_box, ...) volumes, or None
    mixture : the classes over the content code, or None
    """

    network: PoseNetwork | VolumePoseNetwork
    card: ModelCard
    templates: Tensor | None = None
    mixture: ContentMixture | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write both files and return the path of the tensors.

        ``path`` is a folder (made where absent), which gets ``model.safetensors`` and ``model.json``, or the name of
        one of the two files. Both are written beside and renamed, the card last; the card names the tensors by
        checksum, so that a pair that does not belong together is noticed.
        """
        from safetensors.torch import save

        weights, card = model_files(path)
        weights.parent.mkdir(parents=True, exist_ok=True)
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors().items()})
        _replace(weights, data)
        text = self.card.to_json(tensors=weights.name, sha256=hashlib.sha256(data).hexdigest())
        _replace(card, text.encode("utf-8"))
        return weights

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model by the name it has in the file."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.templates is not None:
            named["templates"] = self.templates
        if self.mixture is not None:
            named |= {f"mixture.{name}": getattr(self.mixture, name) for name in ("means", "covariances", "weights")}
        return named

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HarmonyModel:
        """Read a model from its folder, or from either of its two files.

        Raises InputError naming the file and the field where something is absent, does not match, or is not finite.
        """
        weights, card_path = model_files(path)
        card, more = read_card(card_path)
        tensors = _read_tensors(weights, more.get("sha256"), card_path)
        network = build_network(card)
        network.load_state_dict(_matching(weights, tensors, network.state_dict(), "network."))
        network.eval()
        box, classes, d = card.template_box or card.box, card.classes, card.content
        templates = _optional(weights, tensors, {"templates": (classes, *(box,) * card.dimensions)})
        mixture = _optional(
            weights, tensors, {"means": (classes, d), "covariances": (classes, d, d), "weights": (classes,)}, "mixture."
        )
        if tensors:
            raise InputError(f"{weights}: tensor '{min(tensors)}' is unknown; the file is not of this model.")
        return cls(
            network,
            card,
            None if templates is None else templates["templates"],
            None if mixture is None else ContentMixture(**mixture),
        )


def build_network(card: ModelCard) -> PoseNetwork | VolumePoseNetwork:
    """A fresh network of the sizes and the objective that the card says; its weights come from torch's generator."""
    if card.objective == "harmony-2022":
        return Harmony2022VolumeNetwork(card.shape) if card.dimensions == 3 else Harmony2022Network(card.shape)
    if card.objective == "harmony":
        if card.dimensions == 2:
            return _with_decoder(HarmonyNetwork(card.shape), card)
        return _with_decoder(GuidedVolumeNetwork(card.shape) if card.guided else VolumeNetwork(card.shape), card)
    raise InputError(f"objective: '{card.objective}' is unknown; choose from harmony, harmony-2022.")


def _with_decoder(network: HarmonyNetwork | VolumeNetwork, card: ModelCard) -> HarmonyNetwork | VolumeNetwork:
    """The network, with a diffusion decoder as ``sharp`` where the card has that addition."""
    if any(addition_of(word).name == "diffusion" for word in card.additions):
        network.sharp = DiffusionDecoder(card.shape, card.dimensions, 2 * network.encoder.width)
    return network


def _replace(path: Path, data: bytes) -> None:
    """Write beside, then rename: readers see the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _read_tensors(path: Path, checksum: object, card: Path) -> dict[str, Tensor]:
    """All tensors of a file that must be the one its card names."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = read_weights(path, checksum, card)
    try:
        return load(data)
    except SafetensorError as error:
        raise InputError(f"{path}: this is no safetensors file ({error}); train the model again.") from None


def _matching(path: Path, tensors: dict[str, Tensor], wanted: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the wanted tensors out of ``tensors``, in the shapes wanted."""
    return {
        name: _take(path, tensors, prefix + name, tuple(tensor.shape), tensor.dtype) for name, tensor in wanted.items()
    }


def _optional(
    path: Path, tensors: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> dict[str, Tensor] | None:
    """Take all of a group of tensors, or None where the file has none of the group."""
    if not any(prefix + name in tensors for name in shapes):
        return None
    return {name: _take(path, tensors, prefix + name, shape, torch.float32) for name, shape in shapes.items()}


def _take(path: Path, tensors: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise InputError(f"{path}: tensor '{name}' is missing; the file is not of this model.")
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise InputError(
            f"{path}: tensor '{name}' is {tensor.dtype} of shape {tuple(tensor.shape)}, the model card wants {dtype} "
            f"of shape {shape}; the file is not of this model."
        )
    if not torch.isfinite(tensor).all():
        raise InputError(f"{path}: tensor '{name}' holds values that are not finite; train the model again.")
    return tensor
