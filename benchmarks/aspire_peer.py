"""ASPIRE's 2D classification of a STAR file, run in an environment of its own.

``python aspire_peer.py PARTICLES.star OUT.npz SEED`` writes ``neighbours`` (n, 50), the particle itself first, and
``reflected`` (n, 50). Preprocessing and classifier are those of ASPIRE's experimental abinitio gallery: phase flip,
background normalisation, whitening; FSPCA with 400 components and bispectrum with 300.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Classify and write the neighbour table."""
    from aspire.classification import RIRClass2D
    from aspire.source import RelionSource

    star, out, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    source = RelionSource(str(star), data_folder=str(star.parent), dtype=np.float64)
    source = source.phase_flip().normalize_background().legacy_whiten().cache()
    classifier = RIRClass2D(
        source, fspca_components=400, bispectrum_components=300, n_nbor=50, sample_n=4000, seed=seed
    )
    neighbours, reflected, _ = classifier.classify()
    np.savez(out, neighbours=neighbours, reflected=reflected)


if __name__ == "__main__":
    main()
