"""Times in words, as everybody is told them."""

from __future__ import annotations

#: Up to so many seconds (the first number) what is left is told in steps of so many (the second).
_STEPS = ((60, 5), (180, 30), (1200, 60), (3600, 300), (86400, 600))
#: What is left is not counted any more below this, in seconds.
_FEW = 10


def duration(seconds: float) -> str:
    """A duration as a person would say it: "8 s", "3 min", "1 h 20 min"."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def time_left(seconds: float) -> str:
    """What is left, no finer than it can be foretold: "a few seconds left", "about 25 s left", "about 3 min left"."""
    if seconds < _FEW:
        return "a few seconds left"
    step = next((step for limit, step in _STEPS if seconds < limit), 3600)
    whole = step * round(seconds / step)
    if 60 < whole < 180 and whole % 60:
        return f"about {whole // 60} min {whole % 60} s left"
    return f"about {duration(whole).removesuffix(' 0 min')} left"
