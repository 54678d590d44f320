"""The options of ``align`` for subtomograms, from words to settings."""

from __future__ import annotations

import pytest

from napari_harmony.cli.main import main
from napari_harmony.cli.options import make_settings
from napari_harmony.errors import InputError


def test_references_are_a_list_of_files() -> None:
    settings = make_settings(classes="auto", transforms=None, reference="one.mrc, two.map,", reference_lowpass=40.0)
    assert settings.references == ("one.mrc", "two.map") and settings.reference_lowpass == 40.0
    assert make_settings(classes="2", transforms=None).references == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--start", "there"], "start: 'there' is unknown"),
        (["--local-search", "5"], "start from 'input'"),
        (["--free-rot"], "start from 'input'"),
        (["--start", "input", "--local-search", "-1"], "above 0"),
        (["--symmetry", "I2"], "symmetry: 'I2' is unknown"),
        (["--reference-lowpass", "0"], "positive number of angstrom"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["align", "particles.star", "-o", "out", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


def test_settings_raise_in_words() -> None:
    with pytest.raises(InputError, match="D1"):
        make_settings(classes="auto", transforms=None, symmetry="D1")
