"""Disentanglement scores of codes whose quality is known: perfect, rotated, random, with leaked pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_harmony.analysis import disentanglement as apart
from napari_harmony.analysis.disentanglement.dependence import cell_entropy
from napari_harmony.analysis.disentanglement.scores import _concentration, gaps

COUNT = 320
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def known_factors(count: int = COUNT, seed: int = 0) -> tuple[apart.Variable, ...]:
    """Two numbers, an angle and a label, independent of each other."""
    generator = np.random.default_rng(seed)
    return (
        apart.numbers("hinge", generator.uniform(-1, 1, count)),
        apart.numbers("slide", generator.uniform(-1, 1, count)),
        apart.angles("rotation", generator.uniform(-180, 180, count)),
        apart.labels("content", generator.integers(0, 4, count)),
    )


def perfect_units(factors: tuple[apart.Variable, ...]) -> tuple[apart.Variable, ...]:
    """One code for each factor, in other units and another frame."""
    hinge, slide, rotation, content = factors
    return (
        apart.numbers("content_0", -7 * hinge.values + 3),
        apart.numbers("content_1", 0.1 * slide.values),
        apart.numbers("content_2", content.values.astype(float)),
        apart.angles("rotation", rotation.values + 90),
    )


def rotated_units(factors: tuple[apart.Variable, ...]) -> tuple[apart.Variable, ...]:
    """Hinge and slide mixed half and half, the rest perfect."""
    hinge, slide = factors[0].values, factors[1].values
    first, second, *others = perfect_units(factors)
    return replace(first, values=hinge + slide), replace(second, values=hinge - slide), *others


def random_units(count: int = COUNT) -> tuple[apart.Variable, ...]:
    generator = np.random.default_rng(99)
    return tuple(apart.numbers(f"content_{k}", generator.normal(size=count)) for k in range(4))


def test_a_perfect_code_scores_near_one_everywhere() -> None:
    factors = known_factors()
    units = perfect_units(factors)
    trees = apart.dci(units, factors)
    assert min(trees.disentanglement, trees.completeness, trees.informativeness) > 0.93
    assert trees.importance.argmax(axis=0).tolist() == [0, 1, 3, 2]
    assert trees.importance.sum(axis=0) == pytest.approx(np.ones(4))
    assert apart.mig(units, factors).min() > 0.9
    assert apart.sap(units, factors)[:3].min() > 0.95
    assert apart.factorvae(units, factors) == 1.0


def test_a_rotated_code_tells_everything_and_is_not_disentangled() -> None:
    factors = known_factors()
    units, perfect = rotated_units(factors), perfect_units(factors)
    trees, best = apart.dci(units, factors), apart.dci(perfect, factors)
    assert trees.informativeness > 0.9 and trees.of_factors[:2, 1].min() > 0.85
    assert trees.of_factors[:2, 0].max() < 0.6 < best.of_factors[:2, 0].min()
    assert trees.disentanglement < best.disentanglement - 0.15
    assert apart.mig(units, factors)[:2].max() < 0.1 and apart.mig(units, factors)[2:].min() > 0.9
    assert apart.sap(units, factors)[:2].max() < 0.15


def test_a_random_code_scores_near_zero() -> None:
    factors, units = known_factors(), random_units()
    trees = apart.dci(units, factors)
    assert max(trees.disentanglement, trees.completeness, trees.informativeness) < 0.1
    assert apart.mig(units, factors).max() < 0.05
    assert apart.sap(units, factors).max() < 0.1
    assert apart.factorvae(units, factors) < 0.45  # four factors: chance is a quarter


def leaky_study(amount: float, count: int = COUNT) -> apart.Study:
    """A content code of two dimensions to which the angle is added with some weight."""
    _, _, rotation, content = known_factors(count)
    generator = np.random.default_rng(5)
    turn = rotation.features()
    codes = generator.normal(0, 0.3, (count, 2)) + amount * turn
    codes = np.concatenate([codes, 3 * content.values[:, None] + generator.normal(0, 0.3, (count, 1))], axis=1)
    estimate = apart.angles("rotation", rotation.values + generator.normal(0, 3, count) - 40)
    return apart.Study(
        units=(*apart.content_units(codes), estimate),
        blocks=(apart.numbers("content", codes), estimate),
        factors=(content, rotation),
        owners={"content": "content", "rotation": "rotation"},
    )


def test_leaked_pose_is_seen_in_the_content_block() -> None:
    clean, leaky = apart.assess(leaky_study(0.0)), apart.assess(leaky_study(2.0))
    assert clean.cross_talk["content"]["rotation"] < 0.05 and leaky.cross_talk["content"]["rotation"] > 0.9
    assert clean.information["content"]["rotation"] < 0.1 and leaky.information["content"]["rotation"] > 1.0
    assert clean.scores["block_gap"] > 0.9 and leaky.scores["block_gap"] < clean.scores["block_gap"] - 0.4
    assert clean.cross_talk["rotation"]["content"] < 0.12 and clean.cross_talk["content"]["content"] > 0.9
    assert leaky.scores["dci_completeness"] < clean.scores["dci_completeness"] - 0.1
    assert clean.scores["factorvae"] > 0.95


def test_the_order_of_the_particles_does_not_matter() -> None:
    study = leaky_study(0.5, 120)
    order = np.random.default_rng(3).permutation(120)
    groups = {
        name: tuple(variable.rows(order) for variable in getattr(study, name))
        for name in ("units", "blocks", "factors")
    }
    assert apart.assess(replace(study, **groups)).to_dict() == apart.assess(study).to_dict()


@QUICK
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5), sign=st.sampled_from([-1, 1]))
def test_units_and_offsets_of_codes_do_not_matter(scale: float, shift: float, sign: int) -> None:
    factors = known_factors(150)
    units = rotated_units(factors)
    changed = (replace(units[0], values=sign * scale * (units[0].values + shift)), *units[1:])
    assert apart.sap(changed, factors) == pytest.approx(apart.sap(units, factors), abs=1e-6)
    assert apart.mig(changed, factors) == pytest.approx(apart.mig(units, factors), abs=0.03)
    told = apart.information(changed[0], factors[0])
    assert told == pytest.approx(apart.information(units[0], factors[0]), abs=1e-3)


@QUICK
@given(turn=st.floats(-720, 720))
def test_where_a_circle_begins_does_not_matter(turn: float) -> None:
    angle = known_factors(150)[2]
    turned = replace(angle, values=angle.values + turn)
    assert turned.features() @ turned.features().T == pytest.approx(angle.features() @ angle.features().T, abs=1e-9)
    assert apart.sap((turned,), (angle,)) == pytest.approx([1.0])


def test_information_of_gaussians_is_what_it_must_be() -> None:
    generator = np.random.default_rng(0)
    first, noise, other = generator.normal(size=(3, 1500))
    for correlation in (0.0, 0.6, 0.95):
        second = correlation * first + np.sqrt(1 - correlation**2) * noise
        told = apart.information(apart.numbers("a", first), apart.numbers("b", second))
        assert told == pytest.approx(-0.5 * np.log(1 - correlation**2), abs=0.08)
        block = apart.numbers("block", np.stack([first, other], axis=1))
        assert apart.information(block, apart.numbers("b", second)) == pytest.approx(told, abs=0.15)


def test_information_agrees_with_that_of_scikit_learn() -> None:
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    generator = np.random.default_rng(1)
    label = generator.integers(0, 3, 600)
    number = label + generator.normal(0, 0.7, 600)
    other = np.sin(2 * number) + generator.normal(0, 0.2, 600)
    told = apart.information(apart.labels("a", label), apart.numbers("b", number))
    assert told == pytest.approx(mutual_info_classif(number[:, None], label, random_state=0)[0], abs=1e-4)
    told = apart.information(apart.numbers("a", number), apart.numbers("b", other))
    assert told == pytest.approx(mutual_info_regression(number[:, None], other, random_state=0)[0], abs=1e-4)


def test_information_of_labels_is_their_entropy() -> None:
    label = np.arange(400) % 4
    assert apart.information(apart.labels("a", label), apart.labels("b", label)) == pytest.approx(np.log(4), abs=0.02)
    far = apart.numbers("b", 100 * label + np.random.default_rng(0).normal(size=400))
    assert apart.information(apart.labels("a", label), far) == pytest.approx(np.log(4), abs=0.01)
    assert cell_entropy(label) == pytest.approx(np.log(4))


def test_rotations_are_read_back_from_their_matrices_in_another_frame() -> None:
    generator = np.random.default_rng(4)
    true = Rotation.random(300, rng=generator)
    turned = apart.rotations("rotation", (Rotation.from_euler("ZYZ", [20, 90, 50], degrees=True) * true).as_matrix())
    factor = apart.rotations("rotation", true.as_matrix())
    other = apart.rotations("rotation", Rotation.random(300, rng=generator).as_matrix())
    assert apart.explained(turned, factor) > 0.7 and apart.explained(other, factor) < 0.05
    assert apart.information(turned, factor) > 2.5 and apart.information(other, factor) < 0.1
    assert apart.sap((turned, other), (factor,))[0] > 0.9
    sizes = np.bincount(factor.cells())
    assert len(sizes) == 24 and sizes.max() < 30


def test_gaps_and_concentrations_of_known_tables() -> None:
    assert gaps(np.array([[0.9, 0.2], [0.4, 0.2]])) == pytest.approx([0.5, 0.0])
    assert gaps(np.array([[0.7]])) == pytest.approx([0.7])
    rows, weight = _concentration(np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    assert rows == pytest.approx([1.0, 0.0, 0.0]) and weight == pytest.approx([0.5, 0.5, 0.0])
    table = {"content": {"content": 0.9, "rotation": 0.3, "defocus": 0.2}, "rotation": {"content": 0.1, "rotation": 1.0,
             "defocus": 0.0}}  # fmt: skip
    owners = {"content": "content", "rotation": "rotation", "defocus": "defocus"}
    assert apart.block_gap(table, owners) == pytest.approx((0.8 + 0.7 - 0.2) / 3)
    assert np.isnan(apart.block_gap({}, {}))


def test_cross_talk_is_the_change_over_the_spread_less_that_of_noise() -> None:
    generator = np.random.default_rng(8)
    codes = generator.normal(size=(500, 3)) * [1, 5, 2]
    noise = codes + 0.1 * generator.normal(size=codes.shape)
    others = generator.permutation(codes)
    after = {"rotation": {"content": noise}, "contrast": {"content": others}, "shift": {"content": codes + 2}}
    table = apart.cross_talk({"content": codes}, after, {"content": codes})["content"]
    assert table["rotation"] == pytest.approx(0.03 / 30, rel=0.2)
    assert table["contrast"] == pytest.approx(2.0, abs=0.2)
    assert table["shift"] == pytest.approx(12 / codes.var(axis=0).sum())
    assert apart.cross_talk({"content": codes}, after, {"content": noise})["content"]["rotation"] == 0.0
    still = apart.cross_talk({"content": 0 * codes}, {"shift": {"content": codes}}, {"content": codes})
    assert np.isnan(still["content"]["shift"])


def test_what_cannot_be_scored_is_said() -> None:
    few = apart.assess(leaky_study(0.0, 20))
    assert few.scores == {} and "20 particles with codes and factors are fewer than 40" in few.left_out[-1]
    study = leaky_study(0.0, 100)
    same = apart.numbers("scale", np.ones(100))
    some = apart.assess(replace(study, units=(*study.units, same), blocks=(*study.blocks, same), factors=(same,)))
    assert some.left_out[:2] == (
        "scale as a code: it is the same for all particles.",
        "scale as a factor: it is the same for all particles.",
    )
    one = apart.assess(replace(study, factors=study.factors[:1]))
    assert np.isnan(one.scores["dci_disentanglement"]) and np.isnan(one.scores["factorvae"])
    assert one.scores["dci_completeness"] > 0.5 and "'content' is the only factor" in one.left_out[-1]
    assert apart.assess(apart.Study((), (), ())).scores == {}


def test_dimensions_that_are_not_in_use_are_pruned() -> None:
    codes = np.random.default_rng(0).normal(size=(50, 4)) * [1, 0.01, 2, 0]
    assert [unit.name for unit in apart.content_units(codes)] == ["content_0", "content_2"]
    assert apart.content_units(np.zeros((50, 0))) == ()


def images_run(count: int = 240) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A perfect run on images, in a gauge per class, and its truth with further columns."""
    generator = np.random.default_rng(2)
    truth = pd.DataFrame(
        {
            "content": generator.integers(0, 3, count),
            "psi": generator.uniform(-180, 180, count),
            "origin_x": generator.normal(0, 2, count),
            "origin_y": generator.normal(0, 2, count),
            "contrast": generator.uniform(0.7, 1.3, count),
            "occupancy": generator.uniform(0, 1, count),
            "hinge_degrees": generator.uniform(-180, 180, count),
            "row": np.arange(count),
            "file": "a.mrc",
        }
    )
    truth["state"] = truth["content"] * 2.5
    number = truth["content"].to_numpy()
    psi = truth["psi"].to_numpy() + np.array([10.0, 150.0, -60.0])[number]
    tau, turn = np.array([[4.0, 1.0], [0.0, -3.0], [2.0, 2.0]])[number], np.radians(-psi)
    back = np.stack([np.cos(turn) * tau[:, 0] - np.sin(turn) * tau[:, 1], np.sin(turn) * tau[:, 0]
                     + np.cos(turn) * tau[:, 1]], axis=1)  # fmt: skip
    table = pd.DataFrame({"class_number": number + 1, "psi": psi})
    table[["origin_x", "origin_y"]] = truth[["origin_x", "origin_y"]].to_numpy() + back
    table["contrast"], table["scale"] = truth["contrast"] * 1.1, 1.0
    table["content_0"] = number + generator.normal(0, 0.1, count)
    table["content_1"] = truth["occupancy"]
    table["content_2"] = 0.0
    return table, truth


def test_a_study_of_images_takes_the_gauge_of_every_class_off() -> None:
    table, truth = images_run()
    study = apart.study_of_tables(table, truth, 2)
    assert [unit.name for unit in study.units] == [
        *("content_0", "content_1", "rotation", "shift_x", "shift_y"),
        *("scale", "contrast"),
    ]
    assert [factor.name for factor in study.factors] == [
        *("content", "occupancy", "hinge_degrees", "contrast", "rotation", "shift_x", "shift_y"),
    ]
    assert study.owners["occupancy"] == "content" and study.owners["shift_x"] == "shift"
    rotation = {unit.name: unit for unit in study.units}["rotation"]
    true = {factor.name: factor for factor in study.factors}
    assert true["hinge_degrees"].kind == "circle"
    assert rotation.features() == pytest.approx(true["rotation"].features(), abs=1e-4)
    assert study.blocks[2].values[:, 0] == pytest.approx(true["shift_x"].values, abs=1e-3)
    assert study.left_out == (
        "row: it counts the rows.",
        "file: it holds no numbers.",
        "state: the content says it already.",
        "1 of 3 dimensions of the content: not in use.",
    )


def test_particles_and_factors_without_values_are_left_out_and_counted() -> None:
    table, truth = images_run()
    table.loc[:9, "class_number"] = 0
    table.loc[10:14, "content_0"] = np.nan
    truth.loc[15:19, "psi"] = np.nan
    truth.loc[20:24, "occupancy"] = np.nan
    truth.loc[30:, "hinge_degrees"] = np.nan
    study = apart.study_of_tables(table, truth, 2)
    assert len(study.factors[0]) == len(study.units[0]) == 240 - 25
    assert "25 particles without class, pose, content code or truth." in study.left_out
    assert "hinge_degrees: most particles have no value of it." in study.left_out
    assert all(variable.known.all() for variable in (*study.units, *study.blocks, *study.factors))


def test_runs_without_content_code_or_without_true_poses() -> None:
    table, truth = images_run()
    codes = [name for name in table if name.startswith("content_")]
    bare = apart.study_of_tables(table.drop(columns=codes), truth, 2)
    assert bare.units == () and [block.name for block in bare.blocks] == ["rotation", "shift", "scale", "contrast"]
    assert any("no content code" in sentence for sentence in bare.left_out)
    assert list(apart.assess(replace(bare, factors=bare.factors[:1])).scores) == ["block_gap"]
    only = apart.study_of_tables(table, truth[["content"]], 2)
    assert [factor.name for factor in only.factors] == ["content"]
    assert "rotation and shift: the truth does not have them." in only.left_out
    seen = truth.assign(rot=np.linspace(0, 300, len(truth)), tilt=50.0)
    views = apart.study_of_tables(table, seen, 2)
    assert [factor.name for factor in views.factors][-1] == "view" and views.owners["view"] == "content"
    nobody = apart.study_of_tables(table.assign(class_number=0), truth, 2)
    assert apart.assess(nobody).scores == {}
    with pytest.raises(ValueError, match="240 rows"):
        apart.study_of_tables(table, truth.iloc[:-1], 2)


@pytest.mark.parametrize("symmetry", ["C1", "C3"])
def test_a_study_of_subtomograms_takes_gauge_and_symmetry_off(symmetry: str) -> None:
    generator = np.random.default_rng(6)
    angles, origins = ["rot", "tilt", "psi"], ["origin_x", "origin_y", "origin_z"]
    true = Rotation.random(80, rng=generator)
    group = Rotation.create_group(symmetry, axis="Z")
    gauge, tau = Rotation.from_euler("ZYZ", [30, 70, -50], degrees=True), np.array([2.0, -1.0, 3.0])
    found = gauge * group[generator.integers(0, len(group), 80)] * true
    truth, table = pd.DataFrame({"content": np.zeros(80, dtype=int)}), pd.DataFrame({"class_number": np.ones(80, int)})
    truth[angles], table[angles] = true.as_euler("ZYZ", degrees=True), found.as_euler("ZYZ", degrees=True)
    truth[origins] = generator.normal(0, 2, (80, 3))
    table[origins] = truth[origins].to_numpy() + found.inv().apply(tau)
    table["content_0"] = generator.normal(size=80)
    study = apart.study_of_tables(table, truth, 3, symmetry)
    factors = {factor.name: factor for factor in study.factors}
    distance = np.abs(study.blocks[1].features() - factors["rotation"].features()).max(axis=1)
    assert np.mean(distance < 1e-3) > 0.95  # at the border between equivalent rotations either may be taken
    assert study.blocks[2].values[:, 2] == pytest.approx(factors["shift_z"].values, abs=1e-2)


def test_estimates_alone_show_what_the_content_code_knows_of_them() -> None:
    table, _ = images_run()
    study = apart.study_of_estimates(table, 2)
    assert [factor.name for factor in study.factors] == ["rotation", "shift", "scale", "contrast"]
    leaked = table.assign(content_2=np.cos(np.radians(table["psi"])), content_1=np.sin(np.radians(table["psi"])))
    clean, leaky = (
        apart.assess(apart.study_of_estimates(one, 2)).cross_talk["content"]["rotation"] for one in (table, leaked)
    )
    assert clean < 0.1 and leaky > 0.9
