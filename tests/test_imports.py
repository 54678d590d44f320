"""Imports run one way, and what napari loads at its start is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_harmony

ROOT = Path(napari_harmony.__file__).parent

#: Parts of the package from the ground up. A module may import from its own part and from those before it.
PARTS = (
    ("errors",),
    ("additions", "particle_ids", "sizes"),
    ("particles",),
    ("transforms",),
    ("results",),
    ("models", "objectives", "analysis"),
    ("engine",),
    ("edits",),
    ("report",),
    ("outputs",),
    ("harmony",),
    ("preferences",),
    ("library",),
    (
        "session",
        "command",
        "cluster",
        "following",
        "_viewer_link",
        "_removed_layers",
        "_stacks",
        "_companions",
        "_layers",
        "_tomograms",
        "_volume_averages",
        "_averages",
        "_followed_averages",
        "_map_back",
    ),
    ("_reader", "_writer", "_sample_data", "widgets"),
    ("cli",),
)
#: Modules of a higher part that hold plain values and generators of them only, and may be used below it.
PLAIN = {"engine.events", "engine.settings", "engine.work"}
WINDOWS = {"qtpy", "napari", "superqt", "magicgui", "PyQt5", "PyQt6", "PySide2", "PySide6"}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Absolute names of everything that a file imports, also inside functions, but not for type checking."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute in this package"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def rank(name: str) -> int | None:
    part = name.split(".")[0]
    return next((level for level, parts in enumerate(PARTS) if part in parts), None)


def test_every_module_has_a_place() -> None:
    unknown = [name_of(path) for path in modules() if path != ROOT / "__init__.py" and rank(name_of(path)) is None]
    assert unknown == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    own = rank(name_of(path))
    if own is None:
        return  # the package itself, which imports lazily
    for full in imported(path):
        if not full.startswith("napari_harmony."):
            continue
        name = full.removeprefix("napari_harmony.")
        if any(name == plain or name.startswith(plain + ".") for plain in PLAIN):
            continue
        other = rank(name)
        assert other is not None, f"{name_of(path)} imports {full}, which has no place"
        assert other <= own, f"{name_of(path)} imports {full}, which lies above it"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_widgets_and_the_demo_know_windows(path: Path) -> None:
    name = name_of(path)
    if name.startswith("widgets") or name == "cli.demo":
        return
    assert not {full.split(".")[0] for full in imported(path)} & WINDOWS


HEAVY = ("torch", "matplotlib", "sklearn", "scipy", "napari", "qtpy", "jinja2")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import napari_harmony; napari_harmony.__version__; dir(napari_harmony)", ()),
        ("from napari_harmony import Settings, Result, Harmony", ()),
        ("from napari_harmony import open_particles", ()),
        ("import napari_harmony.outputs", ()),
        ("import napari_harmony.cli.app", ()),
        ("import napari_harmony._reader, napari_harmony._writer, napari_harmony._sample_data", ()),
        ("import napari_harmony.session", ()),
        ("import napari_harmony.library; napari_harmony.library.default_library().entries()", ()),
    ],
)
def test_light_imports_stay_light(statement: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys\n{statement}\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(allowed)


def test_public_names_are_what_they_say() -> None:
    assert napari_harmony.Settings.__name__ == "Settings"
    assert napari_harmony.Result.__module__ == "napari_harmony.results"
    assert callable(napari_harmony.open_particles)
    assert set(napari_harmony.__all__) <= set(dir(napari_harmony))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = napari_harmony.nothing
