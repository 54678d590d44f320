"""Pages and pictures of the documentation belong together, and every dock and command is written about."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.png)\)")

if not DOCS.is_dir():
    pytest.skip("the documentation is not beside the tests", allow_module_level=True)


def shown() -> dict[Path, Path]:
    """Pictures that pages show, and a page of each."""
    return {(page.parent / name).resolve(): page for page in PAGES for name in PICTURE.findall(page.read_text("utf-8"))}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"documentation_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_show_pictures_that_are_there_and_all_of_them() -> None:
    dark = {path.resolve() for path in (DOCS / "images").glob("*.png") if not path.stem.endswith("-light")}
    assert set(shown()) - dark == set()
    assert dark - set(shown()) == set()


def test_every_picture_of_the_window_is_there_in_both_themes() -> None:
    drawn_by_matplotlib = {"microtubule-average"}
    alone = {
        path.stem
        for path in (DOCS / "images").glob("*.png")
        if not path.stem.endswith("-light") and not path.with_stem(f"{path.stem}-light").is_file()
    }
    assert alone == drawn_by_matplotlib


def test_every_subject_can_be_drawn() -> None:
    subjects = load(DOCS / "pictures" / "__main__.py").SUBJECTS
    for subject in subjects:
        tree = ast.parse((DOCS / "pictures" / f"{subject}.py").read_text("utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert len(functions["draw"].args.args) == 2, subject


def test_every_dock_is_on_the_first_page_and_in_the_documentation() -> None:
    manifest = yaml.safe_load((ROOT / "src" / "napari_harmony" / "napari.yaml").read_text("utf-8"))
    pages = "\n".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    readme = (ROOT / "README.md").read_text("utf-8")
    for widget in manifest["contributions"]["widgets"]:
        name = widget["display_name"]
        assert f"*{name}*" in readme or f"> {name}*" in readme, name
        assert f"> Harmony > {name}*" in pages, name


def test_every_command_has_its_place_in_the_reference() -> None:
    from typer.main import get_command

    from napari_harmony.cli.app import app

    reference = (DOCS / "reference" / "cli.md").read_text("utf-8")
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"napari-harmony {name} " in reference, name


def test_readers_see_pictures_in_their_theme() -> None:
    hook = load(DOCS / "both_themes.py")
    files = SimpleNamespace(get_file_from_path=lambda path: path == "images/both-light.png" or None)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="how-to/page.md"))
    text = hook.on_page_markdown(
        "![Words](../images/both.png) ![One](../images/one.png)", page=page, config=None, files=files
    )
    assert "[![Words](../images/both-light.png#only-light)](../images/both-light.png)" in text
    assert "[![Words](../images/both.png#only-dark)](../images/both.png)" in text
    assert text.endswith("[![One](../images/one.png)](../images/one.png)")
