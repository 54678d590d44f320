"""Poses against images that RELION itself projected: the sign of psi, the sign of the origin, and the centre."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from napari_harmony.transforms import Pose2D, render

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder with RELION's projections is absent")


def stack(name: str) -> tuple[torch.Tensor, pd.DataFrame]:
    table = starfile.read(DATA / "poses" / f"{name}.star")
    rows = table["particles"] if isinstance(table, dict) else table
    return torch.from_numpy(mrcfile.read(DATA / "poses" / f"{name}.mrcs").astype(np.float32)), rows


def unrotated_projections(rows: pd.DataFrame, box: int) -> torch.Tensor:
    """Projections of the 70S ribosome at rot and tilt of every row with psi = 0, centred on floor(box / 2).

    The images of 64 pixels show the volume of 65 pixels scaled to their box.
    """
    volume = mrcfile.read(DATA / "densities" / "70S_65px_5A.mrc").astype(np.float32)
    axis = (np.arange(box) - box // 2) * volume.shape[0] / box
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    images = []
    for _, row in rows.iterrows():
        euler = Rotation.from_euler("ZYZ", [row["rlnAngleRot"], row["rlnAngleTilt"], 0.0], degrees=True)
        at = np.stack([x, y, z], -1) @ euler.as_matrix().T + volume.shape[0] // 2
        images.append(map_coordinates(volume, [at[..., 2], at[..., 1], at[..., 0]], order=3).sum(0))
    return torch.from_numpy(np.stack(images)).float()


def poses(rows: pd.DataFrame) -> Pose2D:
    psi = torch.from_numpy(rows["rlnAnglePsi"].to_numpy(dtype=np.float32))
    columns = ["rlnOriginX", "rlnOriginY"]
    origin = rows[columns].to_numpy(dtype=np.float32) if columns[0] in rows else np.zeros((len(rows), 2), np.float32)
    return Pose2D.from_relion(psi, torch.from_numpy(origin))


def one_pixel_of_odd_boxes(box: int, n: int) -> Pose2D:
    """RELION's projector draws an odd box one pixel right and down of floor(box / 2); even boxes are centred."""
    return Pose2D.of(torch.zeros(n), torch.full((n, 2), float(box % 2)))


def correlation(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    return [float(np.corrcoef(x.ravel(), y.ravel())[0, 1]) for x, y in zip(a.numpy(), b.numpy(), strict=True)]


@pytest.mark.parametrize("name", [f"rln_proj_{box}_{kind}" for box in (64, 65) for kind in ("centered", "shifted")])
def test_our_renderer_draws_what_relion_drew(name: str) -> None:
    images, rows = stack(name)
    box = images.shape[-1]
    reference = unrotated_projections(rows, box)
    pose = one_pixel_of_odd_boxes(box, len(rows)).compose(poses(rows))
    assert min(correlation(render(reference, pose), images)) >= 0.98
    mirrored = Pose2D.of(-pose.angle, pose.shift)
    assert max(correlation(render(reference, mirrored), images)) < 0.9
    if name.endswith("shifted"):
        opposite = Pose2D.of(pose.angle, -pose.shift)
        assert max(correlation(render(reference, opposite), images)) < 0.5


@pytest.mark.parametrize("box", [64, 65])
def test_exported_numbers_centre_and_unrotate_relions_images(box: int) -> None:
    images, rows = stack(f"rln_proj_{box}_shifted")
    psi, origin = poses(rows).to_relion()
    np.testing.assert_allclose(np.mod(psi, 360), np.mod(rows["rlnAnglePsi"], 360), atol=1e-3)
    np.testing.assert_allclose(origin, rows[["rlnOriginX", "rlnOriginY"]], atol=1e-6)
    seen = one_pixel_of_odd_boxes(box, len(rows)).compose(Pose2D.from_relion(psi, origin))
    canonical = render(images, seen.inverse())
    assert min(correlation(canonical, unrotated_projections(rows, box))) >= 0.98


@pytest.mark.parametrize("box", [64, 65])
def test_the_origin_carries_the_centred_image_onto_the_shifted_one(box: int) -> None:
    centred, _ = stack(f"rln_proj_{box}_centered")
    shifted, rows = stack(f"rln_proj_{box}_shifted")
    shift_only = Pose2D.of(torch.zeros(len(rows)), poses(rows).shift)
    assert min(correlation(render(centred, shift_only), shifted)) >= 0.98
