"""What the navigator dock says: the state of things, and what each score means and what to do about it. No Qt."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.analysis.disentanglement.tracking import AMBIGUOUS, CONTENT, DEAD, LEAK, MIXED, NOISE, POSE

if TYPE_CHECKING:
    from napari_harmony.analysis.disentanglement import Direction
    from napari_harmony.results import Result

NO_RESULT = "Run Align and Cluster first (Harmony dock), or open an OUT folder that holds a model."
NO_CODES = "This result has no content codes, which a model gives: run Align and Cluster again."
NO_MODEL = (
    "The model that made this result is not here: open the OUT folder that has its model.safetensors, or run Align and "
    "Cluster again."
)
FEW = "This result has too few particles with a content code: directions need at least 8."
READY = "Find directions looks for what differs between these particles; it takes about a minute."
FOUND = "Drag a slider, or click a particle to start from it. Names can be edited."
LEAST = 8

#: Colours that can be read on napari's light and dark theme.
COLOURS = {CONTENT: "#3f9f5f", MIXED: "#c08a1e", POSE: "#d9534f", NOISE: "#8a8a8a"}

#: What is written before a score, in little space.
SHORT = {CONTENT: "content", MIXED: "pose?", POSE: "pose", NOISE: "noise"}


def why_not(result: Result | None, model: Any) -> str:
    """Why directions cannot be looked for, in one sentence; empty where they can.

    ``model`` is the model of the result, or the folder it is in, or None.
    """
    if result is None:
        return NO_RESULT
    if result.content.shape[1] == 0:
        return NO_CODES
    if np.isfinite(result.content).all(axis=1).sum() < LEAST:
        return FEW
    return NO_MODEL if model is None else ""


def ready(model: Any) -> str:
    """What can be done before directions are found."""
    return f"{READY} The model is read from {model}." if isinstance(model, Path) else READY


def meaning(direction: Direction) -> str:
    """What a verdict says of a direction, and what to do."""
    share, how = f"{direction.leak:.0%}", direction.leaks_as
    if direction.verdict == CONTENT:
        return (
            "content: this direction changes the particle itself, such as a motion or something that comes and goes. "
            "Look at it as a movie and give it a name."
        )
    if direction.verdict == MIXED:
        return (
            f"ambiguous with pose: {share} of the change would also fit the whole particle changing its pose (mostly "
            f"{how}). Motions of small particles look like this. Play it: if all of the particle moves as one, it is "
            "pose, and training with 'independence' (Advanced) takes it out."
        )
    if direction.verdict == POSE:
        return (
            f"pose leakage: {share} of the change is the whole particle changing its pose (mostly {how}), which the "
            "content should not hold. Do not interpret it; train again with 'independence' (Advanced), or for longer "
            "(preset thorough)."
        )
    return (
        f"noise: one step changes the picture by {direction.activity:.2f} of the noise, which is nothing one could see "
        "in the data. Leave it out."
    )


def tip(direction: Direction) -> str:
    """What the score of a direction means, what it is made of and what to do, as paragraphs that Qt wraps."""
    score, consistency = f"{direction.score:.2f}", f"{direction.consistency:.2f}"
    overlap, leak, activity = (f"{value:.2f}" for value in (direction.overlap, direction.leak, direction.activity))
    lines = (
        meaning(direction),
        f"Content-tracking score {score}, from 0 to 1; higher is better, and no truth is needed. It is made of:",
        f"consistency {consistency}: it changes the same part of every particle (1), or another part of each (0);",
        f"overlap {overlap}: another direction changes that part as well; near 0 is best;",
        f"leak {leak}: what a change of pose explains of it; below {AMBIGUOUS:g} is fine, above {LEAK:g} is pose;",
        f"activity {activity}: how much one step changes, in units of the noise; below {DEAD:g} is nothing.",
        "Low score, low leak: directions share parts of the particle. More particles or longer training may help.",
    )
    return "".join(f"<p>{escape(line)}</p>" for line in lines)
