"""``make docs-images``: draws all pictures, or those that are named.

The window opens on the display that there is, or under xvfb. Runs that several pictures show are made once; with
``--runs FOLDER`` they are kept there for the next time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"
#: Modules of this package, each with a function ``draw(studio, runs)``; those that run come before those that look.
SUBJECTS = (
    "harmony",
    "bundled",
    "table",
    "latent",
    "gallery",
    "navigator",
    "tomogram",
    "cluster",
    "follow",
    "models",
    "preferences",
    "filament",
)


def main() -> None:
    """Draw the pictures that are asked for."""
    parser = argparse.ArgumentParser(prog="pictures", description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"some of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where the pictures are written")
    parser.add_argument("--runs", type=Path, help="keep finished runs here and use those that it holds")
    parser.add_argument("--microtubule", type=Path, help="the tomogram of the tutorial on filaments")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.subjects if name not in SUBJECTS]:
        parser.error(f"there is no subject {unknown[0]}; choose of {', '.join(SUBJECTS)}")
    with tempfile.TemporaryDirectory(prefix="napari-harmony-pictures-") as place:
        home = Path(place)
        images, kept = chosen.images.absolute(), (chosen.runs or home / "runs").absolute()
        microtubule = chosen.microtubule.absolute() if chosen.microtubule is not None else None
        _as_for_a_new_user(home)
        from pictures.runs import Runs
        from pictures.studio import Studio

        runs = Runs(kept, microtubule)
        for name in chosen.subjects or SUBJECTS:
            started = time.monotonic()
            with Studio(images) as studio:
                importlib.import_module(f"pictures.{name}").draw(studio, runs)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def _as_for_a_new_user(home: Path) -> None:
    """Settings and models of whoever runs this are neither shown nor changed; lengths do not depend on the screen."""
    os.environ["NAPARI_CONFIG"] = str(home / "settings.yaml")
    os.environ["NAPARI_HARMONY_MODELS"] = "models"
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")  # napari writes icons there, as other windows do meanwhile
    os.environ |= {"QT_SCALE_FACTOR": "1", "QT_FONT_DPI": "96"}
    os.chdir(home)  # folders in pictures are short


if __name__ == "__main__":
    main()
