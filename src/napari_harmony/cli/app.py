"""The commands and their options. Each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_harmony.cli import models as model_library
from napari_harmony.cli import options
from napari_harmony.cli.run_options import OF_TRAINING, Asked, takes_run_options
from napari_harmony.cli.streams import answer

app = typer.Typer(
    help="Align and classify cryo-EM particles: content disentangled from transformations, without labels.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(model_library.app, name="models")

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Folder that 'train' wrote, or the name of a model in the library.", show_default=False
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        import napari_harmony

        answer(f"napari-harmony {napari_harmony.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Options of the program itself; ``--debug`` is taken out by ``main`` and stands here to be documented."""


@app.command()
@takes_run_options()
def align(
    source: options.Input,
    out: options.Out,
    run: Asked,
    model: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME|bundled|train",
            help="A trained model, one of the library, 'bundled' to start from one pretrained for any particles, or "
            "'train' to fit one on the data alone.",
        ),
    ] = "train",
    output_format: options.Format = "star",
) -> None:
    """Align particles, sort them into classes, and write tables, class averages, model and report into OUT."""
    from napari_harmony.cli.jobs import Job, run_align

    options.check_format(output_format)
    run_align(Job(source, out, run, model, output_format == "relion"))


@app.command()
@takes_run_options()
def train(
    source: options.Input,
    out: Annotated[
        Path, typer.Option("-o", "--output", metavar="MODEL", help="Folder for the model.", show_default=False)
    ],
    run: Asked,
    model: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME",
            help="Go on with the training of this model: its classes stay.",
            show_default="a new one",
        ),
    ] = "train",
) -> None:
    """Fit a model to particles and save it (model.safetensors and model.json)."""
    from napari_harmony.cli.jobs import Job, run_train

    run_train(Job(source, out, run, model))


@app.command()
@takes_run_options(without=OF_TRAINING)
def apply(
    model: Model,
    source: options.Input,
    out: options.Out,
    run: Asked,
    output_format: options.Format = "star",
) -> None:
    """Align and classify new particles with a trained MODEL, without training."""
    from napari_harmony.cli.jobs import Job, run_align

    options.check_format(output_format)
    run_align(Job(source, out, run, model, output_format == "relion"))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
def relion(context: typer.Context) -> None:
    """Run 'align' as an External job of RELION: the executable to give there is 'napari-harmony relion'."""
    from napari_harmony.cli.external import run_external

    raise typer.Exit(run_external(context.args))


@app.command()
def extract(
    tomogram: Annotated[
        Path, typer.Argument(metavar="TOMOGRAM", help="A volume: .mrc, .rec, .map or .tif.", show_default=False)
    ],
    coordinates: Annotated[
        Path,
        typer.Argument(
            metavar="COORDINATES", help="RELION .star, Dynamo .tbl, or .csv with x, y, z in voxels.", show_default=False
        ),
    ],
    out: options.Out,
    box: Annotated[int, typer.Option(metavar="N", help="Edge of the subtomograms in voxels, after binning.")],
    binning: Annotated[int, typer.Option("--bin", metavar="N", help="Voxels that become one along each axis.")] = 1,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="A",
            help="COORDINATES trace filaments: particles every A angstrom along them.",
            show_default="each is a particle",
        ),
    ] = None,
    tilt_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="First and last tilt about y in degrees: the missing wedge."),
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Exchange dark and bright: particles become white.")] = False,
    edge: Annotated[
        str, typer.Option(metavar="pad|drop", help="What to do with boxes that reach beyond the tomogram.")
    ] = "pad",
    normalise: Annotated[
        bool, typer.Option("--normalise/--no-normalise", help="Bring each box to mean 0 and standard deviation 1.")
    ] = True,
    tomo_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The tomogram's name in COORDINATES.", show_default="told by the file name"),
    ] = None,
    tomograms: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="RELION 5's tomograms.star.", show_default="looked for beside COORDINATES"),
    ] = None,
    pixel_size: options.PixelSize = None,
    json_progress: options.JsonProgress = False,
) -> None:
    """Cut subtomograms out of a TOMOGRAM and write them, with a particles.star, into OUT."""
    from napari_harmony.cli.extract import ExtractJob, make_extract_settings, run_extract

    settings = make_extract_settings(
        box=box, binning=binning, tilt_range=tilt_range, edge=edge, invert=invert, normalise=normalise
    )
    run_extract(
        ExtractJob(tomogram, coordinates, out, tomo_name, tomograms, pixel_size, every, json_progress), settings
    )


@app.command()
def edit(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a finished run.", show_default=False)],
    edits: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Edits to replay: an edits.json, or a folder with one.", show_default=False),
    ],
    target: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT2", help="Folder for the edited result.", show_default=False)
    ],
    device: options.Device = "auto",
    output_format: Annotated[str, typer.Option("--format", metavar="star|relion", help=options.FORMAT_HELP)] = "star",
    json_progress: options.JsonProgress = False,
) -> None:
    """Replay on OUT what was merged, split, junked or moved by hand in napari, and write the result into OUT2."""
    from napari_harmony.cli.edit import EditJob, run_edit

    options.check_format(output_format)
    run_edit(EditJob(out, edits, target, device, json_progress, output_format == "relion"))


@app.command()
def navigate(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of a finished run, with its model.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Option("-o", "--output", metavar="NAV", help="Folder for the directions.", show_default=False)
    ],
    directions: Annotated[
        int | None, typer.Option(metavar="K", help="How many.", show_default="all that change the picture, up to 8")
    ] = None,
    frames: Annotated[int, typer.Option(metavar="N", help="Pictures along each, from -2 to 2 deviations.")] = 11,
    sharp: Annotated[
        bool, typer.Option("--sharp", help="Draw with the diffusion decoder, if the model has one.")
    ] = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    json_progress: options.JsonProgress = False,
) -> None:
    """Find directions in the content of a finished run: what moves, comes and goes; with scores and frames."""
    from napari_harmony.cli.navigate import NavigateJob, run_navigate

    run_navigate(NavigateJob(out, target, directions, frames, sharp, device, seed, json_progress))


@app.command()
def info(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Particles, an OUT folder, or a model.", show_default=False)
    ],
) -> None:
    """Say what is in a particle file, an OUT folder or a model."""
    from napari_harmony.cli.describe import describe

    for line in describe(path):
        answer(line)


@app.command()
def evaluate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a finished run.", show_default=False)],
    truth: Annotated[
        Path, typer.Option(metavar="FILE", help="The truth, row by row: .csv, .npz or .star.", show_default=False)
    ],
    symmetry: Annotated[
        str, typer.Option(metavar="GROUP", help="Symmetry of the subtomograms: C1, C2 .., D2 .., T, O or I.")
    ] = "C1",
    disentanglement: Annotated[
        bool, typer.Option(help="How well content and transformations are told apart; takes some seconds.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a finished run with a known truth."""
    from napari_harmony.cli import scoring

    result, known = scoring.read_both(out, truth, symmetry)
    scores = scoring.class_and_pose_scores(result, known, symmetry)
    apart = scoring.disentanglement_scores(result, known, symmetry) if disentanglement else None
    tracking = scoring.tracking_scores(out, result) if disentanglement else None
    if as_json:
        more = {"disentanglement": apart, "content_tracking": tracking}
        lines = scoring.score_lines(scores | {name: part for name, part in more.items() if part}, as_json)
    else:
        lines = scoring.score_lines(scores, as_json)
        lines += scoring.disentanglement_lines(apart) if apart else []
        lines += scoring.tracking_lines(tracking) if tracking else []
    for line in lines:
        answer(line)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Folder for the results.")] = Path(
        "napari-harmony-demo"
    ),
    gui: Annotated[
        bool, typer.Option("--gui/--no-gui", help="Show the result in napari where there is a display.")
    ] = True,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    json_progress: options.JsonProgress = False,
) -> None:
    """Simulate particles with known poses, run the main job on them, and show how right it was."""
    from napari_harmony.cli.demo import run_demo

    run_demo(out, gui=gui, device=device, seed=seed, json_progress=json_progress)
