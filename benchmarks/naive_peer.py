"""PCA and k-means of the pixels: what anybody would try first, without any idea of pose.

``python naive_peer.py PARTICLES.star OUT.npz CLASSES SEED`` writes ``labels`` (n,). Images or subtomograms are masked
to a disc or ball, brought to mean 0 and variance 1, projected on 50 principal components and grouped by k-means, all
with scikit-learn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

COMPONENTS, RESTARTS = 50, 10


def naive_labels(images: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Groups (n,), from 0, of images (n, b, b) or volumes (n, b, b, b)."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    axis = np.arange(images.shape[-1]) - images.shape[-1] // 2
    square = sum(np.meshgrid(*[axis**2] * (images.ndim - 1), indexing="ij"))
    pixels = images[:, square <= (0.45 * images.shape[-1]) ** 2]
    pixels = (pixels - pixels.mean(1, keepdims=True)) / pixels.std(1, keepdims=True)
    components = min(COMPONENTS, *pixels.shape)
    codes = PCA(components, svd_solver="randomized", random_state=seed).fit_transform(pixels)
    return KMeans(classes, n_init=RESTARTS, random_state=seed).fit_predict(codes)


def main() -> None:
    """Group and write the labels."""
    from napari_harmony.particles import open_particles

    star, out, classes, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    particles = open_particles(star)
    np.savez(out, labels=naive_labels(np.asarray(particles.read(slice(0, len(particles)))), classes, seed))


if __name__ == "__main__":
    main()
