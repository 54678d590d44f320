"""The session: one selection, one current particle, one state, and nothing lost by looking at another layer."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gui_fakes import make_particles, make_result
from napari.components import ViewerModel

from napari_harmony._layers import aligned_layer, particles_layer, space_of
from napari_harmony.edits import Junk, Split
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.session import Session, State, session_of


def heard(signal: Any) -> list[Any]:
    """What a signal says from now on."""
    said: list[Any] = []
    signal.connect(said.append)
    return said


@pytest.fixture
def particles() -> Particles:
    return make_particles()


@pytest.fixture
def viewer(particles: Particles) -> ViewerModel:
    model = ViewerModel()
    data, options, _ = particles_layer(particles, "particles")
    model.add_image(data, **options)
    return model


def add_class(viewer: ViewerModel, number: int) -> Any:
    layer, result = viewer.layers["particles"], make_result()
    data, options, _ = aligned_layer(layer.data.particles, result, space_of(layer), (0, 1), number)
    return viewer.add_image(data, **options)


def test_selection_is_sorted_unique_and_inside_the_data(particles: Particles) -> None:
    session = Session()
    session.set_data(particles)
    said = heard(session.selection_changed)
    session.select([5, 3, 5, -1, 10_000])
    session.select(np.array([3, 5]))
    assert [list(s) for s in said] == [[3, 5]]
    assert session.selection.dtype == np.int64


def test_a_new_result_empties_the_selection(particles: Particles) -> None:
    session = Session()
    session.set_data(particles)
    session.select([1])
    session.set_result(make_result())
    assert len(session.selection) == 0


def test_a_result_of_other_particles_is_refused(particles: Particles) -> None:
    session = Session()
    session.set_data(particles)
    with pytest.raises(ValueError, match="7 rows"):
        session.set_result(make_result(7))


def test_results_and_models_come_back_with_their_particles(particles: Particles) -> None:
    session, other, result = Session(), make_particles(20), make_result()
    session.set_data(particles)
    session.set_result(result)
    session.set_model("model")
    said = heard(session.result_changed)
    session.set_data(other)
    assert session.result is None and session.model is None
    session.set_data(particles)
    assert session.result is result and session.model == "model"
    assert said == [None, result]


def test_particles_that_are_gone_leave_nothing_behind() -> None:
    session, particles, result = Session(), make_particles(), make_result()
    session.set_data(particles)
    session.set_result(result)
    gone = weakref.ref(result)
    session.set_data(None)
    del particles, result
    gc.collect()
    assert gone() is None


def test_states_say_when_a_worker_is_alive() -> None:
    session = Session()
    said = heard(session.state_changed)
    for state in (State.RUNNING, State.RUNNING, State.CANCELLING, State.IDLE):
        session.set_state(state)
    assert said == [State.RUNNING, State.CANCELLING, State.IDLE]
    assert [s for s in State if s.busy] == [State.RUNNING, State.PAUSED, State.CANCELLING]


def test_what_comes_for_particles_that_are_not_looked_at_waits_for_them(particles: Particles) -> None:
    session, other = Session(), make_particles(20)
    session.set_data(other)
    said = heard(session.result_changed)
    result, model = make_result(), object()
    session.deliver(particles, result, model)
    assert said == [] and session.result is None and session.model is None
    assert session.known(particles).result is result
    session.set_data(particles)
    assert session.result is result and session.model is model and session.content_model is model
    newer = object()
    session.set_data(other)
    session.deliver(particles, model=newer)
    session.set_data(particles)
    assert session.result is result and session.model is newer and session.content_model is model


def test_what_comes_for_the_particles_looked_at_is_shown(particles: Particles) -> None:
    session = Session()
    session.set_data(particles)
    said = heard(session.result_changed)
    result = make_result()
    session.deliver(particles, result)
    assert len(said) == 1 and session.result is result


def test_each_viewer_has_one_session_that_goes_with_it() -> None:
    viewer, other = ViewerModel(), ViewerModel()
    session = session_of(viewer)
    assert session_of(viewer) is session
    assert session_of(other) is not session
    gone = weakref.ref(session)
    del viewer, session
    gc.collect()
    assert gone() is None


def test_napari_proxies_share_the_session_of_their_viewer(viewer: ViewerModel) -> None:
    from napari.utils._proxies import PublicOnlyProxy

    assert session_of(PublicOnlyProxy(viewer)) is session_of(viewer)


def test_slider_and_current_particle_follow_each_other(viewer: ViewerModel, particles: Particles) -> None:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    viewer.dims.set_current_step(0, 7)
    assert session.current == 7
    session.set_current(41)
    assert viewer.dims.current_step[0] == 41


def test_the_slider_of_a_class_counts_its_members(viewer: ViewerModel, particles: Particles) -> None:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    layer = add_class(viewer, 2)
    viewer.layers.selection.active = layer
    members = make_result().members(2)
    viewer.dims.set_current_step(0, 4)
    assert session.current == members[4]
    session.set_current(int(members[9]))
    assert viewer.dims.current_step[0] == 9 and layer.visible


def test_going_to_a_particle_hides_a_class_without_it(viewer: ViewerModel, particles: Particles) -> None:
    session = session_of(viewer)
    session.set_data(particles, viewer.layers["particles"])
    layer = add_class(viewer, 2)
    viewer.layers.selection.active = layer
    stranger = int(make_result().members(3)[5])
    session.set_current(stranger)
    assert not layer.visible
    assert viewer.layers.selection.active is viewer.layers["particles"]
    assert viewer.dims.current_step[0] == stranger


@pytest.fixture
def edited(particles: Particles) -> Session:
    session = Session()
    session.set_data(particles)
    session.set_result(make_result())
    session.select([4, 5])
    return session


def test_edits_are_undone_and_done_again(edited: Session) -> None:
    before = edited.result
    told = heard(edited.result_changed)
    steps: list[tuple[str, str]] = []
    edited.history_changed.connect(lambda: steps.append((edited.undo_words, edited.redo_words)))
    edited.edit(Junk((2,)))
    edited.edit(Junk((3,)))
    after = edited.result
    edited.undo()
    edited.undo()
    assert edited.result is before
    edited.undo()  # nothing left
    edited.redo()
    edited.redo()
    assert edited.result is after and [x is after for x in told] == [False, True, False, False, False, True]
    assert steps == [
        ("junk class 2", ""),
        ("junk class 3", ""),
        ("junk class 2", "junk class 3"),
        ("", "junk class 2"),
        ("junk class 2", "junk class 3"),
        ("junk class 3", ""),
    ]
    assert list(edited.selection) == [4, 5]


def test_a_new_edit_drops_what_was_undone_and_a_new_result_all(edited: Session) -> None:
    edited.edit(Junk((2,)))
    edited.undo()
    edited.edit(Junk((1,)))
    assert edited.redo_words == "" and edited.undo_words == "junk class 1"
    edited.set_result(make_result(seed=1))
    assert edited.undo_words == ""


def test_the_history_comes_back_with_its_particles(edited: Session, particles: Particles) -> None:
    edited.edit(Junk((2,)))
    edited.set_data(make_particles(20))
    assert edited.undo_words == ""
    edited.set_data(particles)
    assert edited.undo_words == "junk class 2"


def test_averages_that_come_late_are_dropped(edited: Session) -> None:
    edited.edit(Split(1))
    computed = replace(edited.result, averages=edited.result.averages + 1)
    edited.set_averages(computed)
    assert edited.result is computed and edited.undo_words == "split class 1 in 2"
    edited.edit(Junk((2,)))
    edited.set_averages(computed)
    assert edited.result is not computed


def test_there_must_be_a_result_to_edit() -> None:
    with pytest.raises(InputError, match="no result to edit"):
        Session().edit(Junk((1,)))
