"""What a result says about itself: leakage, and how added objectives went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fake_run
import numpy as np
import pandas as pd
import pytest
import torch
from engine_data import run, simulated

from napari_harmony.additions import Addition
from napari_harmony.engine import api, schedule
from napari_harmony.engine.insight import Traces, with_insight
from napari_harmony.engine.settings import Settings
from napari_harmony.engine.train import TrainStep
from napari_harmony.engine.work import finish
from napari_harmony.models import HarmonyNetwork, NetworkShape
from napari_harmony.outputs.summary import to_json
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.results import Result

if TYPE_CHECKING:
    from conftest import Example


def result_of(particles: Particles, leaking: bool) -> Result:
    result = fake_run.make_result(particles, content=2)
    angle = np.radians(result.table["psi"]) if leaking else np.zeros(len(result))
    codes = {"content_0": result.table["content_0"] * 0.3 + np.cos(angle), "content_1": np.sin(angle)}
    return result.with_table(result.table.assign(**codes, class_number=1))


@pytest.mark.parametrize("leaking", [True, False])
def test_leakage_is_in_the_summary(leaking: bool) -> None:
    images = ArrayImages(np.zeros((300, 16, 16), np.float32))
    particles = Particles(images, pd.DataFrame(index=pd.RangeIndex(300)), 2.5)
    result = finish(with_insight(result_of(particles, leaking)))
    found = to_json(result.summary)["leakage"]
    assert (found["factors"]["rotation"]["share"] > 0.3) is leaking
    assert found["particles"] == 299 and "traces" not in result.summary


def test_every_run_says_how_much_leaked(example: Example) -> None:
    found = example.result.summary["leakage"]
    assert set(found["factors"]) >= {"rotation", "shift"}
    assert 0 <= found["factors"]["rotation"]["share"] < 0.3 and found["overall"]["nats"] >= 0


def test_a_run_with_an_added_objective_keeps_its_traces(monkeypatch: pytest.MonkeyPatch, brief_training: None) -> None:
    monkeypatch.setattr(schedule, "ADDED_STEPS", dict.fromkeys(schedule.ADDED_STEPS, 3))
    settings = Settings(classes=3, preset="fast", additions=(Addition("independence"),))
    done = run(api.align(simulated(40).particles, settings))
    traces = done.value.summary["traces"]
    assert set(traces) == {f"independence.{part}" for part in ("attacked", "watching", "gamma", "lambda")}
    assert {len(values) for values in traces.values()} == {3}
    assert done.model.card.additions == ("independence",) and "measuring leakage" in done.value.summary["seconds"]


def step(epoch: int, **parts: float) -> TrainStep:
    network = HarmonyNetwork(NetworkShape(box=16, hypotheses=2))
    return TrainStep(1, 4, epoch, 2, 0.0, {name.replace("__", "."): value for name, value in parts.items()}, network)


def test_traces_are_means_over_each_epoch_of_what_was_added() -> None:
    traces = Traces(["independence"])
    torch.manual_seed(0)
    for epoch, gamma in ((0, 1.0), (0, 3.0), (1, 5.0)):
        traces.add(step(epoch, independence__gamma=gamma, independence=7.0, reconstruction__gain=1.0))
    assert traces.to_dict() == {"independence.gamma": [2.0, 5.0]}
    assert Traces([]).to_dict() == {}
