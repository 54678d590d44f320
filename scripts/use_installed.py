"""Use an installed napari-harmony as a new user does: start napari, open each sample and each dock, align particles.

Run it with a display, with the Python of the environment that is to be checked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

PLUGIN = "napari-harmony"
HEAVY = ("torch", "matplotlib", "sklearn")
PARTICLES, SECONDS = 100, 1200


def loaded() -> list[str]:
    """Heavy libraries that are imported."""
    return [name for name in HEAVY if name in sys.modules]


def start() -> object:
    """Open napari with the plugin's manifest; nothing heavy may come with it."""
    import napari_harmony

    assert not loaded(), f"import napari_harmony loads {loaded()}"
    place = Path(napari_harmony.__file__).resolve()
    assert Path(sys.prefix).resolve() in place.parents, f"{place} is not what was installed"

    import napari
    from npe2 import PluginManager

    viewer = napari.Viewer()
    manifest = PluginManager.instance().get_manifest(PLUGIN)
    assert manifest.contributions.widgets, "the manifest lists no docks"
    assert not loaded(), f"napari's start loads {loaded()}"
    return viewer


def open_everything(viewer: object) -> dict[str, object]:
    """Each sample, then each dock, as the menus do; gives the docks by their names."""
    from npe2 import PluginManager

    parts = PluginManager.instance().get_manifest(PLUGIN).contributions
    for sample in parts.sample_data:
        assert viewer.open_sample(PLUGIN, sample.key), f"{sample.display_name} opens nothing"
        viewer.layers.clear()
    docks = {}
    for widget in parts.widgets:
        docks[widget.display_name] = viewer.window.add_plugin_dock_widget(PLUGIN, widget.display_name)[1]
        wait(lambda: False, 0.2)
    return docks


def align(viewer: object, harmony: object) -> None:
    """A fast run of the real engine in the dock, to its end."""
    from napari_harmony._layers import particles_layer, role_of
    from napari_harmony.engine.settings import Settings
    from napari_harmony.particles.simulate import sample_particles
    from napari_harmony.widgets._work import Action

    data, options, _ = particles_layer(sample_particles(PARTICLES).particles, "particles")
    viewer.add_image(data, **options)
    harmony.form.set_settings(Settings(classes=3, preset="fast", device="cpu"))
    failures: list[Exception] = []
    harmony.runner.failed.connect(failures.append)
    wait(harmony.buttons[Action.ALIGN_AND_CLUSTER].isEnabled, 30)
    harmony.buttons[Action.ALIGN_AND_CLUSTER].click()
    wait(lambda: harmony.session.result is not None or bool(failures), SECONDS)
    assert not failures, failures[0]
    assert harmony.session.result is not None, f"no result after {SECONDS} s"
    assert len(harmony.session.result) == PARTICLES
    assert "averages" in {role_of(layer) for layer in viewer.layers}


def wait(happened: Callable[[], bool], seconds: float) -> None:
    """Let the window work until something has happened, or the time is over."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Say what was found; any exception is a failure."""
    began = time.monotonic()
    viewer = start()
    docks = open_everything(viewer)
    align(viewer, docks["Harmony"])
    wait(lambda: False, 1.0)
    viewer.close()

    import napari
    import qtpy
    import torch

    print(f"napari {napari.__version__}, {qtpy.API_NAME} {qtpy.QT_VERSION}, torch {torch.__version__}:", end=" ")
    print(f"{len(docks)} docks opened and {PARTICLES} particles aligned in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
