"""Edits as values: what each does to a result, the way to JSON and back, and refusals in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_harmony.edits import (
    Assign,
    Edit,
    Junk,
    Keep,
    Merge,
    Renumber,
    Restore,
    Split,
    Turn,
    apply_edit,
    apply_edits,
    averaged_again,
    complete,
    describe,
    due_averages,
    edits_of,
    edits_to_apply,
    from_json,
    is_complete,
    junked_from,
    read_edits,
    to_json,
    with_averages,
    write_edits,
)
from napari_harmony.errors import InputError
from napari_harmony.particle_ids import from_ranges, to_ranges
from napari_harmony.results import Result

STILL = Turn((0.0,), (0.0, 0.0))
AT_HAND = Merge((2, 3), ((3, STILL),))  # nothing has to be aligned for it


@pytest.fixture
def result() -> Result:
    return make_result()


def numbers(result: Result) -> list[int]:
    return result.table["class_number"].tolist()


def flags(result: Result, rows: Any) -> set[str]:
    return set(result.table["flags"].to_numpy()[rows])


def test_an_edit_leaves_the_result_before_as_it_was(result: Result) -> None:
    table, averages, summary = result.table.copy(), result.averages.copy(), json.dumps(result.summary)
    apply_edits(result, [AT_HAND, Split(1), Junk((2,)), Assign((5, 9), 4, ((1, STILL), (2, STILL))), Restore((2,))])
    assert result.table.equals(table)
    np.testing.assert_array_equal(result.averages, averages)
    assert json.dumps(result.summary) == summary


def test_merging_keeps_all_other_numbers_and_leaves_an_empty_one(result: Result) -> None:
    merged = apply_edit(result, Merge((3, 1), ((1, STILL),)))
    assert merged.counts.tolist() == [0, result.counts[1], result.counts[0] + result.counts[2]]
    assert merged.classes == 3
    np.testing.assert_array_equal(merged.members(2), result.members(2))
    assert not merged.averages[0].any() and np.isnan(merged.resolution[0])
    assert due_averages(merged) == (3,)
    assert np.isnan(merged.frc[2]).all() and np.isfinite(merged.frc[1]).all()
    assert merged.resolution[2] == 8.0  # the better of the two, until the average is there


def test_the_next_free_number_is_a_new_class(result: Result) -> None:
    ids = (*result.members(1)[:4].tolist(), *result.members(2)[:2].tolist())
    made = apply_edit(result, Assign(ids, 4, ((2, STILL),)))
    assert made.classes == 4 and made.counts[3] == 6
    assert made.averages.shape[0] == made.frc.shape[0] == made.frc_floor.shape[0] == len(made.resolution) == 4
    assert due_averages(made) == (1, 2, 4)
    assert (made.table["class_probability"].to_numpy()[list(ids)] == 1).all()
    np.testing.assert_array_equal(made.averages[3], result.averages[0])  # where most of them come from


def test_junk_is_class_0_with_a_flag_and_can_be_restored(result: Result) -> None:
    members = result.members(2)
    junked = apply_edit(result, Junk((2,)))
    assert junked.counts[1] == 0 and due_averages(junked) == ()
    assert all("junk" in entry.split(",") for entry in flags(junked, members[members != 2]))
    np.testing.assert_array_equal(junked.averages, result.averages)  # one can still see what it was
    assert set(np.flatnonzero(junked_from(junked) == 2)) == set(members)
    back = apply_edit(junked, Restore((2,)))
    assert numbers(back) == numbers(result)
    assert back.table["flags"].tolist() == result.table["flags"].tolist()
    assert not junked_from(back).any()


def test_keeping_some_classes_junks_all_others(result: Result) -> None:
    kept = apply_edit(result, Keep((2,)))
    assert (kept.counts > 0).tolist() == [False, True, False]
    assert numbers(apply_edit(kept, Restore((1, 3)))) == numbers(result)


def test_particles_assigned_to_junk_leave_their_class(result: Result) -> None:
    ids = result.members(1)[:3]
    junked = apply_edit(result, Assign(tuple(ids), 0))
    assert (junked.table["class_number"].to_numpy()[ids] == 0).all() and due_averages(junked) == (1,)
    again = apply_edit(junked, Assign(tuple(ids), 1))
    assert numbers(again) == numbers(result) and "junk" not in ",".join(flags(again, ids))


def test_images_that_hold_nothing_never_get_a_class(result: Result) -> None:
    constant = 2  # by its flag
    made = apply_edit(result, Assign((constant, 5, 8), 1, ((3, STILL),)))
    assert numbers(made)[constant] == numbers(result)[constant]
    assert numbers(made)[5] == 1
    with pytest.raises(InputError, match="none of the chosen particles holds an image"):
        apply_edit(result, Assign((constant,), 1))


def test_a_split_follows_the_content_codes_and_is_the_same_each_time(result: Result) -> None:
    members = result.members(1)
    table = result.table.copy()
    second = members[::3]
    table.loc[members, "content_0"] = 0.0
    table.loc[second, "content_0"] = 8.0
    table["content_0"] += np.random.default_rng(1).normal(0, 0.1, len(table))
    clear = replace(result, table=table)
    split = apply_edit(clear, Split(1))
    assert set(split.members(4)) == set(second) and set(split.members(1)) == set(members) - set(second)
    assert due_averages(split) == (1, 4)
    assert numbers(apply_edit(clear, Split(1))) == numbers(split)


def test_a_recorded_split_needs_no_content_codes(result: Result) -> None:
    recorded = complete(result, Split(2))
    bare = replace(result, table=result.table.drop(columns=["content_0", "content_1"]))
    assert numbers(apply_edit(bare, recorded)) == numbers(apply_edit(result, Split(2)))
    with pytest.raises(InputError, match="no content codes"):
        apply_edit(bare, Split(2))


def test_numbers_anew_run_from_the_largest_class_without_gaps(result: Result) -> None:
    merged = apply_edits(result, [AT_HAND, Split(1, 3)])
    tidy = apply_edit(merged, Renumber())
    assert (np.diff(tidy.counts) <= 0).all() and tidy.counts.all()
    assert tidy.counts.sum() == merged.counts.sum() and tidy.classes == 4
    np.testing.assert_array_equal(tidy.averages[0], merged.averages[1])
    assert due_averages(tidy) == (1, 2, 3, 4)


def test_classes_that_wait_to_be_restored_keep_a_number(result: Result) -> None:
    tidy = apply_edits(result, [Junk((1,)), Renumber()])
    assert tidy.counts[2] == 0 and tidy.classes == 3
    assert apply_edit(tidy, Restore((3,))).counts[2] == result.counts[0]


def test_new_averages_are_no_longer_due_and_claim_nothing_that_noise_could(result: Result) -> None:
    edited = apply_edits(result, [AT_HAND, Split(2)])
    ones = np.ones((2, *result.averages.shape[1:]), np.float32)
    curve = np.full((2, result.frc.shape[1]), 0.5, np.float32)
    done = with_averages(edited, (2, 4), ones, curve, curve, np.array([7.0, 7.5], np.float32), None)
    assert due_averages(done) == () and averaged_again(done) == (2, 4)
    assert done.resolution[1] == 7.0 and (done.averages[3] == 1).all()
    noise = apply_edit(replace(result, resolution=np.full(3, np.nan, np.float32)), AT_HAND)
    still = with_averages(noise, (2,), ones[:1], curve[:1], curve[:1], np.array([5.0], np.float32), None)
    assert np.isnan(still.resolution[1])
    assert averaged_again(apply_edit(done, Split(4))) == (2,)  # due again


EDITS: list[Edit] = [
    Assign((4, 5, 6, 9), 2, ((1, Turn((10.123456789,), (0.1, -2))), (3, STILL))),
    Assign((1,), 0),
    Merge((3, 1, 2), ((1, Turn((1, 2, 3), (4, 5, 6))),)),
    Split(2, 3),
    Split(2, parts=((1, 2, 3), (9,))),
    Junk((2, 5)),
    Keep((1,)),
    Restore((4,)),
    Renumber(),
]


@pytest.mark.parametrize("edit", EDITS, ids=describe)
def test_edits_go_to_json_and_back(edit: Edit) -> None:
    assert from_json(json.loads(json.dumps(to_json(edit)))) == edit


def test_edits_go_to_a_file_and_back(tmp_path: Path) -> None:
    path = write_edits(tmp_path / "edits.json", EDITS)
    assert read_edits(path) == tuple(EDITS)
    assert [p.name for p in tmp_path.iterdir()] == ["edits.json"]
    assert read_edits(write_edits(tmp_path / "none.json", [])) == ()


@given(st.lists(st.integers(0, 300)))
def test_ranges_of_ids_go_to_text_and_back(ids: list[int]) -> None:
    assert from_ranges(to_ranges(ids)).tolist() == sorted(set(ids))


def test_replaying_what_was_recorded_gives_the_same_table(result: Result) -> None:
    """Also after JSON, and though the content codes and averages that it was computed from have changed."""
    done = apply_edits(result, [Split(1, 3), Merge((2, 4)), Junk((3,)), Assign((7, 10, 13), 1), Renumber()])
    recorded = json.loads(json.dumps(done.summary["edits"]))
    other = replace(result, averages=result.averages[:, ::-1].copy())
    again = apply_edits(other, [from_json(entry) for entry in recorded])
    assert again.table.equals(done.table)
    assert edits_of(again) == edits_of(done)
    assert all(is_complete(result, edit) for edit in edits_of(done)[:1])


def test_edits_behind_a_result_are_not_done_twice() -> None:
    one, two, three = Junk((1,)), Junk((2,)), Junk((3,))
    assert edits_to_apply([], [one, two]) == (one, two)
    assert edits_to_apply([one], [one, two]) == (two,)
    assert edits_to_apply([one, two], [one, two]) == ()
    assert edits_to_apply([one], [three]) == (three,)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Merge((1, 7)), "class 7 does not exist: give 1 to 3"),
        (Junk((9,)), "class 9 does not exist"),
        (Assign((1,), 6), "class 6 does not exist: give 1 to 4"),
        (Assign((10_000,), 1), "particle 10000 does not exist: the result has 60"),
        (Split(1, 40), "too few to be split in 40"),
        (Split(1, parts=((4,),)), "names particles of other classes"),
        (Restore((1,)), "nothing was junked"),
        (Merge((1, 2), ((2, Turn((1, 2, 3), (1, 2, 3))),)), "not of these dimensions"),
    ],
    ids=lambda value: describe(value) if not isinstance(value, str) else "",
)
def test_what_does_not_fit_the_result_is_refused_in_words(result: Result, edit: Edit, words: str) -> None:
    with pytest.raises(InputError, match=words):
        apply_edit(result, edit)


def test_what_can_never_be_done_is_refused_when_it_is_made() -> None:
    with pytest.raises(InputError, match="at least two"):
        Merge((2, 2))
    with pytest.raises(InputError, match="no particle is chosen"):
        Assign((), 1)
    with pytest.raises(InputError, match="no class is chosen"):
        Junk(())
    with pytest.raises(InputError, match="counted from 1"):
        Keep((0,))
    with pytest.raises(InputError, match="at least 2"):
        Split(1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"edits": [{"edit": "fold"}]}', "edit 1: 'fold' is no edit"),
        ('{"edits": [{"edit": "junk", "classes": [1]}, {"edit": "merge"}]}', "edit 2: merge: the field 'classes'"),
        ('{"edits": [{"edit": "assign", "ids": "1-2-3", "to": 1}]}', "edit 1: assign: a field holds something else"),
        ('{"edits": [{"edit": "assign", "ids": "1", "to": "x"}]}', "no whole number"),
        ('{"edits": [{"edit": "merge", "classes": [1]}]}', "at least two"),
        ('{"edits": 3}', "it holds no edits"),
        ("[", "not valid JSON"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "edits.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_edits(path)
    assert "edits.json" in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_edits(tmp_path / "nowhere.json")


def test_edits_in_words() -> None:
    assert describe(Merge((2, 5))) == "merge classes 2 and 5"
    assert describe(Keep((1,))) == "keep only class 1"
    assert describe(Assign(tuple(range(1200)), 0)) == "1,200 particles to junk"
    assert describe(Split(3, 4)) == "split class 3 in 4"
    assert describe(Junk(tuple(range(1, 9)))) == "junk classes 1, 2, 3, 4, 5, 6, ..."


def test_many_particles_are_junked_and_restored_in_no_time() -> None:
    import time

    large = make_result(200_000, 3)
    start = time.perf_counter()
    junked = apply_edits(large, [Keep((1,)), Restore((2, 3))])
    assert time.perf_counter() - start < 3
    assert numbers(junked) == numbers(large)


@st.composite
def some_edits(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Kinds of edits and two numbers from which each is made once the result before it is known."""
    kinds = ("assign", "merge", "split", "junk", "keep", "restore", "renumber")
    return draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 99), st.integers(0, 99)), max_size=8))


def made(result: Result, kind: str, one: int, two: int) -> Edit:
    """An edit that fits a result, or nearly; nothing has to be aligned for it."""
    first, second = one % result.classes + 1, two % result.classes + 1
    turns = tuple((number, STILL) for number in range(1, result.classes + 1))
    ids = tuple(range(one % 60, 60, two % 7 + 1))
    return {
        "assign": lambda: Assign(ids, two % (result.classes + 2), turns),
        "merge": lambda: Merge((first, second if second != first else first % result.classes + 1), turns),
        "split": lambda: Split(first, parts=(tuple(result.members(first)[::3].tolist() or [one % 60]),)),
        "junk": lambda: Junk((first, second)),
        "keep": lambda: Keep((first, second)),
        "restore": lambda: Restore((first, second)),
        "renumber": Renumber,
    }[kind]()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=some_edits())
def test_whatever_is_edited_a_result_stays_whole(result: Result, plan: list[tuple[str, int, int]]) -> None:
    done: list[Edit] = []
    edited = result
    for kind, one, two in plan:
        try:
            edit = made(edited, kind, one, two)
            edited = apply_edit(edited, edit)
        except InputError:
            continue  # refused in words: nothing has changed
        done.append(edit)
        number, size = edited.table["class_number"].to_numpy(), edited.classes
        assert number.min() >= 0 and number.max() <= size and len(number) == len(result)
        assert len(edited.averages) == len(edited.frc) == len(edited.frc_floor) == len(edited.resolution) == size
        words = [set(entry.split(",")) for entry in edited.table["flags"]]
        back = junked_from(edited)
        assert not number[back > 0].any()
        assert all(words[i] & {"junk", "constant"} for i in np.flatnonzero(back))
        assert all(edited.counts[due - 1] for due in due_averages(edited))
        assert "constant" in words[2]  # what is wrong with an image stays said
        assert edited.table.columns.tolist() == result.table.columns.tolist()
    assert apply_edits(result, edits_of(edited)).table.equals(edited.table)
    assert len(edits_of(edited)) == len(done)
