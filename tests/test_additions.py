"""Words for objectives that are added."""

from __future__ import annotations

import pytest

from napari_harmony.additions import ADDITIONS, Addition, addition_of, additions_of
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError


def test_names_and_strengths_are_read():
    assert additions_of("loocc, independence = 0.5") == (Addition("loocc"), Addition("independence", 0.5))
    assert additions_of("") == ()


@pytest.mark.parametrize("name", ADDITIONS)
@pytest.mark.parametrize("strength", [1.0, 0.25, 3.0])
def test_what_is_written_is_read_again(name, strength):
    addition = Addition(name, strength)
    assert addition_of(str(addition)) == addition


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rodi", "'rodi' is unknown"),
        ("loocc=big", "strength of 'loocc' is 'big'"),
        ("loocc=0", "give a number above 0"),
        ("loocc=nan", "give a number above 0"),
        ("loocc,loocc=2", "named twice"),
    ],
)
def test_bad_words_are_refused(words, said):
    with pytest.raises(InputError, match=said):
        additions_of(words)


def test_the_published_objective_stands_alone():
    with pytest.raises(InputError, match="stands alone"):
        Settings(objective="harmony-2022", additions=(Addition("loocc"),))
