"""The command that is copied does what the dock would do: it is parsed back by the real command line."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gui_fakes import make_particles, make_subtomograms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from napari_harmony.additions import ADDITIONS, Addition
from napari_harmony.cli import jobs
from napari_harmony.cli.app import app
from napari_harmony.command import ALIGN, TRAIN, command_line, source_of, stated_pixel_size, stated_tilt_range
from napari_harmony.engine.settings import PRESETS, TRANSFORMS, Settings
from napari_harmony.errors import InputError
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.wedge import TiltRange

lengths = st.none() | st.floats(0.1, 5000, allow_nan=False)
strengths = st.integers(5, 2000).map(lambda hundredths: hundredths / 100)
words = st.text(st.characters(exclude_characters="\0/,", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
names = words.map(str.strip).filter(lambda word: word not in ("", ".", ".."))


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    start = draw(st.sampled_from(["search", "input"]))
    transforms = draw(st.lists(st.sampled_from(TRANSFORMS), unique=True, min_size=1))
    near = start == "input"
    added = draw(st.dictionaries(st.sampled_from(sorted(ADDITIONS)), strengths))
    return Settings(
        classes=draw(st.none() | st.integers(1, 500)),
        transforms=tuple(transforms),
        mask_diameter=draw(lengths),
        max_shift=draw(lengths),
        preset=draw(st.sampled_from(PRESETS)),  # type: ignore[arg-type]
        seed=draw(st.integers(0, 2**31 - 1)),
        device=draw(st.sampled_from(["auto", "cpu", "cuda:1", "mps"])),
        additions=tuple(Addition(name, strength) for name, strength in added.items()),
        start=start,
        local_search=draw(st.none() | st.floats(0.5, 180)) if near else None,
        free_rot=near and "rotation" in transforms and draw(st.booleans()),
        symmetry=draw(st.sampled_from(["C1", "C4", "D7"])),
        references=tuple(f"/data/{name}.mrc" for name in draw(st.lists(names, max_size=2))),
        reference_lowpass=draw(st.floats(1, 200)),
    )


@pytest.fixture(scope="module")
def asked() -> Any:
    """What the command line asks of its jobs, which do not run."""
    heard: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("run_align", "run_train"):
            patch.setattr(jobs, name, lambda job, name=name: heard.append((name, job)))
        yield heard


def parse(command: str, asked: list[Any]) -> tuple[str, jobs.Job]:
    program, *arguments = shlex.split(command)
    assert program == "napari-harmony"
    asked.clear()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (said,) = asked
    return said  # type: ignore[no-any-return]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=any_settings(), file=names, folder=names, train=st.booleans(), trained=st.booleans())
def test_the_command_is_parsed_to_the_same_settings(
    asked: list[Any], chosen: Settings, file: str, folder: str, train: bool, trained: bool
) -> None:
    source, out = Path("/data") / f"{file}.star", Path("/results") / folder
    model = Path("/models") / folder if trained else None
    action = TRAIN if train else ALIGN
    command = command_line(action, source, chosen, model, out, pixel_size=1.06, tilt_range=(-60, 57.25))
    name, job = parse(command, asked)
    said = job.asked
    assert "\n" not in command and name == ("run_train" if train else "run_align")
    assert said.settings == chosen
    assert (job.source, job.target, said.pixel_size, said.tilt_range) == (source, out, 1.06, (-60, 57.25))
    assert job.model == ("train" if model is None else str(model))
    if trained:
        assert said.transforms == ",".join(chosen.transforms)  # else the model's own would be taken


def test_defaults_are_left_out() -> None:
    assert (
        command_line(ALIGN, Path("a b.star"), Settings(), None, Path("out")) == "napari-harmony align 'a b.star' -o out"
    )


def test_references_that_the_command_line_would_split_are_refused() -> None:
    with pytest.raises(InputError, match="rename it"):
        command_line(ALIGN, Path("a"), Settings(references=("one,two.mrc",)), None, Path("out"))


def test_a_file_is_found_and_its_pixel_size_said_where_no_table_does(tmp_path: Path) -> None:
    write_stack(tmp_path / "stack.mrcs", make_particles().read(slice(None)), 2.0)
    particles = open_particles(tmp_path / "stack.mrcs")
    assert source_of(particles) == tmp_path / "stack.mrcs" and stated_pixel_size(particles) == 2.0
    assert stated_pixel_size(replace(particles, pixel_size_known=False)) is None


def test_what_must_be_saved_first_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in no file: save"):
        source_of(make_particles())
    named = replace(make_particles(), path=tmp_path / "stack.mrcs")
    with pytest.raises(InputError, match=r"some of the particles in stack\.mrcs only: save"):
        source_of(named, part=True)


def test_a_tilt_range_given_by_hand_is_in_the_command() -> None:
    assert stated_tilt_range(make_subtomograms().with_wedge(TiltRange(-50, 60))) == (-50, 60)
    assert stated_tilt_range(make_subtomograms().with_wedge(None)) is None
    assert stated_tilt_range(make_particles()) is None
