"""The model library on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from napari_harmony.cli.streams import answer
from napari_harmony.errors import InputError

app = typer.Typer(help="List the models of the library, add to it, and tidy it up.", add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model in the library.", show_default=False)]

_WIDTH = 16


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """Without a command: list."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """List the models that '--model NAME' takes."""
    from napari_harmony.library import default_library

    library = default_library()
    entries = library.entries()
    if as_json:
        told = [
            {
                "name": entry.name,
                "folder": str(entry.folder),
                "bundled": entry.bundled,
                "problem": entry.problem,
                "card": asdict(entry.card) if entry.card is not None else None,
            }
            for entry in entries
        ]
        answer(json.dumps({"library": str(library.folder), "models": told}, ensure_ascii=False))
        return
    answer(f"{'library':<{_WIDTH}}{library.folder}")
    for entry in entries:
        if entry.problem or entry.card is None:
            answer(f"{entry.name:<{_WIDTH - 1}} broken: {entry.problem}")
            continue
        card = entry.card
        if card.general:
            things = "subtomograms" if card.dimensions == 3 else "images"
            answer(f"{entry.name:<{_WIDTH - 1}} {card.dimensions}D, for any {things}: '--model bundled' starts from it")
            continue
        source = (
            "comes with napari-harmony" if entry.bundled else f"trained on {card.trained_on or 'unknown particles'}"
        )
        answer(
            f"{entry.name:<{_WIDTH - 1}} {card.dimensions}D, {card.classes} classes, {card.original_box} px box "
            f"{card.box * card.pixel_size:.0f} A wide, {source}"
        )
    if not entries:
        answer("no models yet: 'napari-harmony models add FOLDER' takes in what 'train' or 'align' wrote.")


@app.command()
def show(name: Name) -> None:
    """Say what a model was trained on and what it expects."""
    from napari_harmony.library import card_facts, default_library

    entry = default_library().find(name)
    assert entry.card is not None, "find gives whole models only"
    for about, words in {"Name": entry.name, "Folder": str(entry.folder), **card_facts(entry.card)}.items():
        # terminals may know ASCII alone
        answer(f"{about.lower():<{_WIDTH}}{words}".replace("\N{ANGSTROM SIGN}", "A"))


@app.command()
def add(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A model, or the OUT folder of a run.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call it.", show_default="as the folder")
    ] = None,
) -> None:
    """Copy a trained model into the library."""
    from napari_harmony.library import default_library

    folder = source.absolute()
    entry = default_library().add(
        folder, name if name is not None else (folder.parent if folder.suffix else folder).name
    )
    answer(f"Added '{entry.name}': {entry.folder}")


@app.command()
def rename(
    name: Name,
    new: Annotated[str, typer.Argument(metavar="NEW", help="What to call it from now on.", show_default=False)],
) -> None:
    """Give a model another name."""
    from napari_harmony.library import default_library

    entry = default_library().rename(name, new)
    answer(f"'{name}' is called '{entry.name}' now: {entry.folder}")


@app.command()
def delete(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False
) -> None:
    """Delete a model for good."""
    from napari_harmony.library import default_library

    library = default_library()
    if not yes and not typer.confirm(f"Delete the model '{name}' in {library.folder} for good?"):
        raise InputError(f"the model '{name}' was kept.")
    library.delete(name)
    answer(f"Deleted '{name}'.")
