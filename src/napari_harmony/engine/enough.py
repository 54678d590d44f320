"""Ending a run early with what it has: whether somebody asked for it, and what was left out for it."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_harmony.engine.team import Team

#: What is left out where a search is to end early, and how it is said.
FEWER_ITERATIONS = ("iterations", "classes and poses were searched for in fewer iterations than planned")
ONE_HALF = ("half", "classes were looked for in one half of the particles alone")
NO_SPLIT = ("split", "no more hidden classes were looked for")
NOT_COMPARED = (
    "comparison",
    "the two halves of the particles were not compared, so that no resolution is known and junk was not told apart",
)
ONLY_NEAR = ("places", "poses were looked for near those that the model proposed alone")
FEWER_ROUNDS = ("rounds", "poses and averages were refined in fewer rounds than planned")


class Enough:
    """Whether a run is to finish now.

    Parameters
    ----------
    asked : set, from whichever thread, by who has seen enough; None where nobody can ask
    team : processes that must take the same decisions: all do what the first one is asked for
    """

    def __init__(self, asked: Event | None = None, team: Team | None = None) -> None:
        self._asked, self._team = asked, team
        self._left_out: dict[str, str] = {}

    def leave_out(self, what: str, said: str) -> bool:
        """Whether to leave something out, because enough was asked for; it is then reported.

        Parameters
        ----------
        what : names it, so that it is reported once
        said : the report, part of a sentence
        """
        asked = self._asked is not None and self._asked.is_set()
        if not (asked if self._team is None else self._team.agreed(asked)):
            return False
        self._left_out[what] = said
        return True

    def left_out(self, what: str) -> bool:
        """Whether something was left out."""
        return what in self._left_out

    @property
    def warnings(self) -> list[str]:
        """One sentence that says what was left out, or none where nothing was."""
        return [f"Stopped early: {'; '.join(self._left_out.values())}."] if self._left_out else []
