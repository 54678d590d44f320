"""What RELION's pipeline is told about a finished External job: its output files and what each of them is.

RELION 3.1 counts the kinds of files (``rlnPipeLineNodeType``). RELION 4 and 5 name them (``rlnPipeLineNodeTypeLabel``),
and RELION 5 renamed some. The pipeline of the project says which of them is asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_harmony.outputs import names

OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
PIPELINE = "default_pipeline.star"


@dataclass(frozen=True)
class Kind:
    """What a file is to RELION: its number in version 3.1, and its names in 4 and 5, "" where a version has none."""

    number: int
    relion_4: str
    relion_5: str


PARTICLES = Kind(3, "ParticlesData.star.relion", "ParticleGroupMetadata.star.relion")
MAP = Kind(6, "DensityMap.mrc", "DensityMap.mrc")
MODEL = Kind(8, "", "")
OPTIMISER_2D = Kind(9, "ProcessData.star.relion.optimiser.class2d", "OptimiserData.star.relion.class2d")
OPTIMISER_3D = Kind(9, "ProcessData.star.relion.optimiser.class3d", "OptimiserData.star.relion.class3d")


def write_output_nodes(folder: Path, job: str, project: Path) -> Path:
    """Write ``RELION_OUTPUT_NODES.star`` for the files of a finished run.

    Parameters
    ----------
    folder : OUT of the run, written with RELION's file names
    job : the folder as RELION calls it, relative to the project and with a slash at its end
    project : RELION's project folder

    Returns
    -------
    the file
    """
    from napari_harmony.particles.files import replacing
    from napari_harmony.particles.star_write import write_loop

    version = relion_version(project)
    found = output_files(folder)
    if version == 3:
        kinds: dict[str, list[str] | list[int]] = {"rlnPipeLineNodeType": [kind.number for _, kind in found]}
    else:
        named = [(name, kind.relion_4 if version == 4 else kind.relion_5, kind) for name, kind in found]
        found = [(name, kind) for name, label, kind in named if label]
        kinds = {"rlnPipeLineNodeTypeLabel": [label for _, label, _ in named if label]}
    with replacing(folder / OUTPUT_NODES) as file:
        for piece in write_loop("output_nodes", {"rlnPipeLineNodeName": [job + name for name, _ in found], **kinds}):
            file.write(piece)
    return folder / OUTPUT_NODES


def output_files(folder: Path) -> list[tuple[str, Kind]]:
    """The files of a finished run that another job of RELION can take."""
    _, model, optimiser, _ = names.RELION_JOB
    maps = [name for name in names.volumes_in(folder) if names.is_class_file(name)]
    files = [(names.PARTICLES, PARTICLES), (optimiser, OPTIMISER_3D if maps else OPTIMISER_2D), (model, MODEL)]
    return [(name, kind) for name, kind in (*files, *((name, MAP) for name in maps)) if (folder / name).is_file()]


def relion_version(project: Path) -> int:
    """3, 4 or 5: the version of RELION that keeps a project, by the words in its pipeline; 3 where it does not say."""
    try:
        pipeline = (project / PIPELINE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 3
    if "TypeLabel" not in pipeline:
        return 3
    older = ("ParticlesData.star", "MicrographsData.star", "MicrographMoviesData.star", "ProcessData.star.relion.opt")
    return 4 if any(word in pipeline for word in older) else 5
