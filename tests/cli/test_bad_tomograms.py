"""Damaged or unsuitable tomograms, coordinates and subtomograms: exit 2, one sentence, and nothing left behind."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_harmony.cli import main
from napari_harmony.particles.mrc import write_volume

SHAPE = (20, 30, 40)
BOX = 16
COUNT = 10
XYZ = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
SIZES = ("rlnTomoName", "rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ", "rlnTomoTiltSeriesPixelSize")
OPTICS = {"rlnOpticsGroup": 1, "rlnImagePixelSize": 10.0, "rlnImageDimensionality": 3}

Files = Callable[[Path], None]


def write_star(
    path: Path,
    labels: Sequence[str],
    rows: Sequence[Sequence[object]],
    optics: Mapping[str, object] | None = None,
    before: str = "",
) -> None:
    """A STAR file of particles."""

    def loop(name: str, labels: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        lines = [" ".join(map(str, row)) for row in rows]
        return "\n".join([f"data_{name}\n\nloop_", *(f"_{label}" for label in labels), *lines]) + "\n\n"

    text = before + (loop("optics", list(optics), [list(optics.values())]) if optics else "")
    path.write_text(text + loop("particles", labels, rows))


def fails(capsys: pytest.CaptureFixture[str], folder: Path, arguments: Sequence[object]) -> str:
    """Run a command that must end with 2 and leave the folder as it is; gives the one sentence it says."""
    before = set(folder.rglob("*"))
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err and not said.out
    (sentence,) = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    assert sentence.endswith(".") and set(folder.rglob("*")) == before
    return sentence


# -- extract ---------------------------------------------------------------------------------------------------------


def tomogram(folder: Path, name: str = "TS_1.mrc") -> np.ndarray:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    write_volume(folder / name, values, 10.0)
    return values


def csv(text: str) -> Files:
    return lambda folder: (folder / "picks.csv").write_text(text) and None


def star(labels: Sequence[str], *rows: Sequence[object], tomograms: Sequence[object] = ()) -> Files:
    def write(folder: Path) -> None:
        write_star(folder / "picks.star", labels, rows)
        if tomograms:
            write_star(folder / "tomograms.star", SIZES, [tomograms])

    return write


def table(**values: object) -> Files:
    """A Dynamo table with one row of zeros and some other values, by column."""
    row = ["0"] * 36
    for column, value in values.items():
        row[int(column.removeprefix("c")) - 1] = str(value)
    return lambda folder: (folder / "picks.tbl").write_text(" ".join(row) + "\n") and None


BAD_COORDINATES: dict[str, tuple[Files, Sequence[str]]] = {
    "outside": (
        csv("x,y,z\n20,12,9\n20,12,99\n"),
        ["picks.csv: 1 of 2", "outside", "TS_1.mrc", "particle 2 at 20, 12, 99", "check binning"],
    ),
    "negative": (csv("x,y,z\n20,12,-9\n"), ["outside", "particle 1 at 20, 12, -9"]),
    "zyx": (csv("x,y,z\n9,12,35\n"), ["read as z, y, x", "exchange the columns x and z"]),
    "yxz": (csv("x,y,z\n12,35,9\n5,39,19\n"), ["read as y, x, z", "exchange the columns x and y"]),
    "xzy": (csv("x,y,z\n35,9,25\n39,5,29\n"), ["read as x, z, y", "exchange the columns y and z"]),
    "pixel size": (
        star([*XYZ, "rlnMicrographPixelSize"], (1, 2, 3, 10.2)),
        ["picks.star", "10.2 A", "TS_1.mrc", "10 A", "differ by more than 1 %", "--pixel-size"],
    ),
    "binning not whole": (star([*XYZ, "rlnTomoTiltSeriesPixelSize"], (1, 2, 3, 4)), ["4 A", "more than 1 %"]),
    "pixel size 0": (star([*XYZ, "rlnTomoTiltSeriesPixelSize"], (1, 2, 3, 0)), ["pixel size of 0 A", "correct it"]),
    "pixel sizes mixed": (
        star([*XYZ, "rlnTomoTiltSeriesPixelSize"], (1, 2, 3, 5), (1, 2, 3, 10)),
        ["mixes pixel sizes from 5 to 10 A", "split"],
    ),
    "other tomogram": (
        star([*CENTRED, "rlnTomoName"], (1, 2, 3, "TS_1"), tomograms=("TS_1", 400, 300, 250, 1)),
        ["400 x 300 x 250 A", "400 x 300 x 200 A", "more than 1 %"],
    ),
    "tomogram not listed": (
        star([*CENTRED, "rlnTomoName"], (1, 2, 3, "TS_9"), tomograms=("TS_1", 400, 300, 200, 1)),
        ["picks.star, line", "TS_9 is not in", "tomograms.star"],
    ),
    "tomogram of no size": (
        star([*CENTRED, "rlnTomoName"], (1, 2, 3, "TS_1"), tomograms=("TS_1", 0, 300, 200, 1)),
        ["tomograms.star, line", "rlnTomoSizeX/Y/Z", "positive"],
    ),
    "no tomograms.star": (star([*CENTRED, "rlnTomoName"], (1, 2, 3, "TS_1")), ["tomograms.star with --tomograms"]),
    "no tomogram's name": (
        star(CENTRED, (1, 2, 3), tomograms=("TS_1", 400, 300, 200, 1)),
        ["add the column rlnTomoName"],
    ),
    "several tomograms": (
        csv("x,y,z,tomogram\n1,2,3,A\n1,2,3,B\n"),
        ["2 tomograms (A, B)", "TS_1.mrc", "--tomo-name"],
    ),
    "half a column set": (star(["rlnCoordinateX", "rlnCoordinateZ"], (1, 2)), ["rlnCoordinateY is missing"]),
    "of images": (star(XYZ[:2], (1, 2)), ["no rlnCoordinateZ"]),
    "no coordinates": (star(["rlnImageName"], ("1@a.mrcs",)), ["picks.star has no coordinates"]),
    "no number": (star(XYZ, (1, 2, "abc")), ["line 7", "rlnCoordinateZ is 'abc'"]),
    "nan": (star(XYZ, (1, 2, "nan")), ["particle 1 has no position"]),
    "nan angle": (star([*XYZ, "rlnAngleTilt"], (20, 12, 9, "nan")), ["line 8", "rlnAngleTilt is nan"]),
    "nan box angle": (star([*XYZ, "rlnTomoSubtomogramRot"], (20, 12, 9, "inf")), ["rlnTomoSubtomogramRot is inf"]),
    "nan origin": (star([*XYZ, "rlnOriginX"], (20, 12, 9, "nan")), ["particle 1 has no position"]),
    "origin of unknown size": (star([*XYZ, "rlnOriginXAngst"], (20, 12, 9, 3)), ["says no pixel size"]),
    "csv without columns": (csv("a,b,c\n1,2,3\n"), ["picks.csv has no column x and y and z"]),
    "csv without a header": (csv("1,2,3\n4,5,6\n"), ["picks.csv has no column x"]),
    "csv with words": (csv("x,y,z\n1,b,3\n"), ["picks.csv, row 1: y is 'b'"]),
    "csv with gaps": (csv("x,y,z\n1,2,3\n1,,3\n"), ["picks.csv, row 2: y is 'nan'"]),
    "csv with nan angles": (csv("x,y,z,rot,tilt,psi\n20,12,9,,1,1\n"), ["row 1: rot is 'nan'"]),
    "csv with longer rows": (csv("x,y,z\n20,12,9\n1,2,3,4,5\n"), ["no readable CSV", "line 3"]),
    "csv without rows": (csv("x,y,z\n"), ["picks.csv has no rows"]),
    "short table": (lambda folder: (folder / "picks.tbl").write_text("1 2 3\n") and None, ["line 1 has 3 values"]),
    "table with words": (table(c24="a"), ["picks.tbl, line 1", "'a' is no number"]),
    "table with nan": (table(c24="nan"), ["particle 1 has no position"]),
    "table with nan angles": (table(c7="nan", c24=9, c25=9, c26=9), ["picks.tbl", "angles of particle 1"]),
    "unknown kind": (lambda folder: (folder / "picks.xyz").write_text("1 2 3") and None, [".star, .tbl, .csv"]),
    "missing": (lambda folder: None, ["picks.star does not exist"]),
}


@pytest.mark.parametrize("case", BAD_COORDINATES)
def test_coordinates_that_cannot_be_used(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, words = BAD_COORDINATES[case]
    tomogram(tmp_path)
    write(tmp_path)
    picks = next(iter(tmp_path.glob("picks.*")), tmp_path / "picks.star")
    said = fails(capsys, tmp_path, ["extract", tmp_path / "TS_1.mrc", picks, "-o", tmp_path / "out", "--box", "8"])
    assert all(word in said for word in words), said


@pytest.mark.parametrize("difference", [0.995, 1.005])
def test_pixel_sizes_that_agree_within_one_percent_are_one(difference: float, tmp_path: Path) -> None:
    tomogram(tmp_path)
    write_star(tmp_path / "picks.star", [*XYZ, "rlnMicrographPixelSize"], [(20, 12, 9, 10 * difference)])
    command = ["extract", tmp_path / "TS_1.mrc", tmp_path / "picks.star", "-o", tmp_path / "out", "--box", "8"]
    assert main([str(word) for word in command]) == 0


def shortened(size: int) -> Files:
    def write(folder: Path) -> None:
        tomogram(folder, "bad.mrc")
        (folder / "bad.mrc").write_bytes((folder / "bad.mrc").read_bytes()[:size])

    return write


def of_mode(mode: int) -> Files:
    def write(folder: Path) -> None:
        tomogram(folder, "bad.mrc")
        raw = (folder / "bad.mrc").read_bytes()
        (folder / "bad.mrc").write_bytes(raw[:12] + np.int32(mode).tobytes() + raw[16:])

    return write


def nan_at(*voxels: tuple[int, int, int]) -> Files:
    def write(folder: Path) -> None:
        values = tomogram(folder, "bad.mrc")
        for voxel in voxels or [np.s_[:]]:  # all of them
            values[voxel] = np.nan
        write_volume(folder / "bad.mrc", values, 10.0)

    return write


def tiff(values: np.ndarray, **more: object) -> Files:
    return lambda folder: tifffile.imwrite(folder / "bad.tif", values, **more) and None  # type: ignore[arg-type]


def packed(folder: Path) -> None:
    tomogram(folder)
    (folder / "bad.mrc.gz").write_bytes(gzip.compress((folder / "TS_1.mrc").read_bytes())[:30000])


BAD_TOMOGRAMS: dict[str, tuple[Files, Sequence[str]]] = {
    "nan": (
        nan_at((9, 12, 20), (9, 12, 21)),
        ["bad.mrc has 2 voxels that are not numbers", "1 of 2 particles", "particle 2 at 20, 12, 9", "repair"],
    ),
    "nan everywhere": (nan_at(), ["bad.mrc has 1024 voxels", "2 of 2 particles", "delete these coordinates"]),
    "truncated": (shortened(50_000), ["bad.mrc is incomplete", "20", "10", "copy it again"]),
    "header alone": (shortened(1024), ["bad.mrc is incomplete", "copy it again"]),
    "part of a header": (shortened(500), ["bad.mrc is no MRC file"]),
    "empty": (shortened(0), ["bad.mrc is empty"]),
    "complex": (of_mode(4), ["bad.mrc holds complex numbers", "convert it"]),
    "garbage": (of_mode(1937006958), ["bad.mrc is no readable MRC file", "1937006958"]),
    "packed and cut": (packed, ["bad.mrc.gz is a damaged compressed file"]),
    "an image": (lambda folder: write_volume(folder / "bad.mrc", np.zeros((1, 9, 9)), 10.0), ["single image of 9 x 9"]),
    "coloured": (tiff(np.zeros((5, 8, 8, 3), np.uint8), photometric="rgb"), ["bad.tif has 4 axes"]),
    "several volumes": (tiff(np.zeros((2, 5, 8, 8), np.float32), photometric="minisblack"), ["bad.tif has 4 axes"]),
    "complex tiff": (tiff(np.zeros((5, 8, 8), np.complex64), photometric="minisblack"), ["bad.tif holds complex64"]),
    "a folder": (lambda folder: (folder / "bad.mrc").mkdir(), ["bad.mrc is a folder; give one volume"]),
    "missing": (lambda folder: None, ["bad.mrc does not exist"]),
}


@pytest.mark.parametrize("case", BAD_TOMOGRAMS)
def test_tomograms_that_cannot_be_used(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, words = BAD_TOMOGRAMS[case]
    write(tmp_path)
    (tmp_path / "picks.csv").write_text("x,y,z\n8,8,8\n20,12,9\n")
    bad = next(iter(tmp_path.glob("bad.*")), tmp_path / "bad.mrc")
    said = fails(capsys, tmp_path, ["extract", bad, tmp_path / "picks.csv", "-o", tmp_path / "out", "--box", "8"])
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "41"], ["the box of 41 voxels is larger than", "TS_1.mrc", "smaller box"]),
        (["--box", "8", "--bin", "6"], ["the box of 48 voxels (8 voxels binned by 6)", "smaller box or binning"]),
        (["--box", "1000000"], ["the box of 1000000 voxels"]),
        (["--box", "32", "--edge", "drop"], ["all 1 boxes of 32 voxels reach beyond", "smaller box"]),
        (["--box", "8", "--pixel-size", "nan"], ["--pixel-size is nan", "positive number"]),
        (["--box", "8", "--tilt-range", "nan", "60"], ["tilt range nan to 60"]),
        (["--box", "8", "--tilt-range", "-60", "100"], ["tilt range -60 to 100"]),
    ],
)
def test_boxes_that_do_not_fit(
    options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tomogram(tmp_path)
    (tmp_path / "picks.csv").write_text("x,y,z\n20,12,9\n")
    command = ["extract", tmp_path / "TS_1.mrc", tmp_path / "picks.csv", "-o", tmp_path / "out", *options]
    said = fails(capsys, tmp_path, command)
    assert all(word in said for word in words), said


# -- subtomograms ----------------------------------------------------------------------------------------------------


def volumes(folder: Path, count: int = COUNT, box: int = BOX, nan: Sequence[int] = ()) -> list[str]:
    """Files of noise, some of them with a voxel that is no number; their names."""
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    names = [f"sub/{number + 1:03d}.mrc" for number in range(count)]
    for number, name in enumerate(names):
        volume = rng.normal(size=(box, box, box)).astype(np.float32)
        if number in nan:
            volume[1, 2, 3] = np.nan
        write_volume(folder / name, volume, 10.0)
    return names


def particles(
    *columns: tuple[str, object], optics: Mapping[str, object] | None = OPTICS, before: str = "", **changed: object
) -> Files:
    """Ten subtomograms with further columns, of one value or of one for each."""

    def write(folder: Path) -> None:
        names = volumes(folder)
        every: dict[str, list[object]] = {"rlnImageName": list(names), "rlnOpticsGroup": [1] * COUNT}
        for label, value in (*columns, *changed.items()):
            every[label] = value if isinstance(value, list) else [value] * COUNT
        write_star(folder / "bad.star", list(every), list(zip(*every.values(), strict=True)), optics, before)

    return write


def with_file(name: str, volume: np.ndarray, then: Files, cut: int | None = None) -> Files:
    def write(folder: Path) -> None:
        write_volume(folder / name, volume, 10.0)
        if cut is not None:
            (folder / name).write_bytes((folder / name).read_bytes()[:cut])
        then(folder)

    return write


FLAT = ["extracted as 2D tilt stacks", "extract them again", "napari-harmony extract"]
CUBE = np.ones((BOX,) * 3, np.float32)
#: What is found out by opening the file, so that ``info`` says it as well
BAD_SUBTOMOGRAMS: dict[str, tuple[Files, Sequence[str]]] = {
    "tilt stacks by @": (
        particles(rlnImageName=[f"{i + 1}@stack.mrcs" for i in range(COUNT)]),
        ["bad.star, line", "'1@stack.mrcs'", *FLAT],
    ),
    "tilt stacks by name": (
        particles(rlnImageName="1_stack2d.mrcs", rlnTomoName="T", optics=None),
        ["bad.star, line", "'1_stack2d.mrcs'", *FLAT],
    ),
    "tilt stacks as stated": (
        particles(before="data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n"),
        ["bad.star lists", *FLAT],
    ),
    "no wedge file": (
        particles(rlnCtfImage="ctf.mrc"),
        ["ctf.mrc, named in", "bad.star", "was not found", "rlnCtfImage", "give a tilt range"],
    ),
    "no volume": (particles(rlnImageName="sub/gone.mrc"), ["sub/gone.mrc, named in", "bad.star", "was not found"]),
    "no cube": (
        with_file("flat.mrc", np.zeros((4, BOX, BOX)), particles(rlnImageName="flat.mrc")),
        ["flat.mrc has 16 x 16 x 4 voxels; a subtomogram is a cube"],
    ),
    "mixed boxes": (
        with_file("big.mrc", np.zeros((18,) * 3), particles(rlnImageName=["sub/001.mrc"] * 9 + ["big.mrc"])),
        ["bad.star mixes box sizes", "001.mrc", "big.mrc"],
    ),
    "truncated": (
        with_file("cut.mrc", CUBE, particles(rlnImageName="cut.mrc"), cut=5000),
        ["cut.mrc is incomplete", "copy it again"],
    ),
    "pixel size 0": (particles(optics={**OPTICS, "rlnImagePixelSize": 0}), ["bad.star, line", "comes to 0 A"]),
    "pixel size nan": (particles(optics={**OPTICS, "rlnImagePixelSize": "nan"}), ["bad.star, line", "comes to nan A"]),
    "mixed pixel sizes": (
        particles(rlnPixelSize=[10.0] * 9 + [10.2], optics={"rlnOpticsGroup": 1, "rlnImageDimensionality": 3}),
        ["bad.star mixes pixel sizes: 10 A", "10.2 A", "rescale"],
    ),
    "no optics group": (particles(rlnOpticsGroup=2), ["optics group 2 is not in table data_optics"]),
    "tilt ranges differ": (
        particles(hrmTiltLow=[-60] * 9 + [-50], hrmTiltHigh=60),
        ["bad.star mixes tilt ranges", "-50 to 60", "rlnCtfImage"],
    ),
    "tilt range backwards": (
        particles(hrmTiltLow=60, hrmTiltHigh=-60),
        ["bad.star: the tilt range in line", "60 to -60"],
    ),
    "tilt range nan": (particles(hrmTiltLow="nan", hrmTiltHigh=60), ["bad.star: the tilt range in line", "nan to 60"]),
}


@pytest.mark.parametrize("case", BAD_SUBTOMOGRAMS)
def test_subtomograms_that_cannot_be_opened(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, words = BAD_SUBTOMOGRAMS[case]
    write(tmp_path)
    for command in (["info", tmp_path / "bad.star"], ["align", tmp_path / "bad.star", "-o", tmp_path / "out"]):
        said = fails(capsys, tmp_path, command)
        assert all(word in said for word in words), said


def named_nan(count: int) -> Files:
    return lambda folder: volumes(folder, nan=range(count)) and None


HOLED = np.where(np.indices(CUBE.shape)[0] == 0, np.nan, CUBE)
BAD_WHEN_READ: dict[str, tuple[Files, Sequence[str]]] = {
    "every volume with nan": (named_nan(COUNT), ["sub: no volume holds a finite signal"]),
    "too few without nan": (named_nan(4), ["sub: only 6 subtomograms hold a finite signal", "at least 8"]),
    "too few": (lambda folder: volumes(folder, 4) and None, ["sub: 4 subtomograms are too few", "at least 8"]),
    "too small": (lambda folder: volumes(folder, box=12) and None, ["12 voxels wide", "at least 16"]),
    "wedge of another shape": (
        with_file("ctf.mrc", np.ones((5, 6, 7)), particles(rlnCtfImage="ctf.mrc")),
        ["ctf.mrc has 7 x 6 x 5 voxels", "n/2 + 1"],
    ),
    "wedge with nan": (
        with_file("ctf.mrc", HOLED, particles(rlnCtfImage="ctf.mrc")),
        ["ctf.mrc holds 144 values that are not numbers", "write this wedge"],
    ),
    "wedge of zeros": (
        with_file("ctf.mrc", 0 * CUBE, particles(rlnCtfImage="ctf.mrc")),
        ["ctf.mrc is zero everywhere", "write it again"],
    ),
    "wedge truncated": (
        with_file("ctf.mrc", CUBE, particles(rlnCtfImage="ctf.mrc"), cut=2000),
        ["ctf.mrc is incomplete", "copy it again"],
    ),
}


@pytest.mark.parametrize("case", BAD_WHEN_READ)
def test_subtomograms_that_cannot_be_used(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, words = BAD_WHEN_READ[case]
    write(tmp_path)
    source = tmp_path / "bad.star" if (tmp_path / "bad.star").exists() else tmp_path / "sub"
    said = fails(capsys, tmp_path, ["align", source, "-o", tmp_path / "out", "--device", "cpu"])
    assert all(word in said for word in words), said


def test_a_header_of_another_voxel_size_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    particles(optics={**OPTICS, "rlnImagePixelSize": 10.2})(tmp_path)
    assert main(["info", str(tmp_path / "bad.star")]) == 0
    said = capsys.readouterr().out
    assert "bad.star gives 10.2 A per voxel and its volumes 10; the STAR file was followed" in said
    particles_of_one = {**OPTICS, "rlnImagePixelSize": 10.05}
    names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "sub").iterdir())
    write_star(tmp_path / "good.star", ["rlnImageName", "rlnOpticsGroup"], [(n, 1) for n in names], particles_of_one)
    assert main(["info", str(tmp_path / "good.star")]) == 0
    assert "warning" not in capsys.readouterr().out
