"""Checks of the closed loop: a diffusion decoder of canonical pictures, and a content code held at a capacity."""

from __future__ import annotations

from collections.abc import Iterable

from checks import Medians, Part, Record, Rule, run_part
from diffusion_runs import LEARNT, STEPS, Set, measured, trained
from napari_harmony.objectives import LoopSettings

VAE, ALONE, SCHEDULE, MEASURED = "Harmony alone", "diffusion alone", "closed loop, schedule", "closed loop, measured"
MODES = {
    VAE: None,
    MEASURED: LoopSettings(law="measured"),
    SCHEDULE: LoopSettings(law="schedule"),
    ALONE: LoopSettings(law="none", distil=None),
}
#: What the rules speak of: the law that is the default.
LOOP = {"schedule": SCHEDULE, "measured": MEASURED}[LoopSettings().law]


def measure_seed(seed: int) -> Iterable[Record]:
    """All modes with one seed."""
    data = Set.of(seed)
    for name, loop in MODES.items():
        model, logged = trained(data, seed, loop)
        yield {
            "mode": name,
            "milliseconds": logged["milliseconds"],
            "nats": logged.get("diffusion.nats", logged.get("content prior")),
            "capacity": logged.get("diffusion.capacity"),
            **measured(model, data, semantic=name == ALONE),
        }


def _sharper(medians: Medians) -> bool:
    return medians(LOOP, "sharp_shell") > max(medians(VAE, "vae_shell"), medians(LOOP, "vae_shell"))


def _closer(medians: Medians) -> bool:
    return medians(LOOP, "sharp_missing") <= medians(VAE, "vae_missing")


def _told_apart(medians: Medians) -> bool:
    return all(medians(LOOP, score) >= medians(VAE, score) for score in ("mig", "disentanglement"))


def _beside(medians: Medians, *values: tuple[str, str]) -> str:
    """Numbers of modes side by side."""
    return ", ".join(f"{medians(mode, value):.3g}" for mode, value in values)


RULES = (
    Rule(
        "s",
        "pictures of the diffusion decoder reach a higher shell than Harmony's alone and than the loop's usual ones",
        lambda m: _beside(m, (LOOP, "sharp_shell"), (VAE, "vae_shell"), (LOOP, "vae_shell")),
        _sharper,
    ),
    Rule(
        "d1",
        "they miss no more of the clean pictures than those of Harmony alone",
        lambda m: _beside(m, (LOOP, "sharp_missing"), (VAE, "vae_missing")),
        _closer,
    ),
    Rule(
        "d2",
        "with MIG and DCI at least those of Harmony alone",
        lambda m: _beside(m, (LOOP, "mig"), (VAE, "mig"), (LOOP, "disentanglement"), (VAE, "disentanglement")),
        _told_apart,
    ),
    Rule(
        "e",
        "MIG at least 0.1 above that of diffusion alone",
        lambda m: _beside(m, (LOOP, "mig"), (ALONE, "mig")),
        lambda m: m(LOOP, "mig") >= m(ALONE, "mig") + 0.1,
    ),
    Rule(
        "f",
        "drawing twice gives the same to the bit, and no frame of a traversal changes by more than 3 times the median",
        lambda m: f"{min(m.all(LOOP, 'same'), default=0):g}, {max(m.all(LOOP, 'jump'), default=float('nan')):.2g}",
        lambda m: min(m.all(LOOP, "same"), default=0) == 1 and max(m.all(LOOP, "jump"), default=4) <= 3,
    ),
)

ABOUT = (
    f"One kind of particle with three moving parts (32 px, SNR 0.5, psi over the whole circle, no CTF): {LEARNT} "
    f"to learn from, with the true poses but for errors as a search leaves them (2°, 0.2 px), {STEPS} steps of 64, "
    "content codes of 8 numbers; 500 fresh ones to be measured on. *Shell*: cycles per box at which the Fourier "
    "ring correlation of their canonical pictures with the clean ones falls below 0.5, mean over particles; "
    "*missing*: squared error as a share of how the clean pictures differ from their mean; each of the diffusion "
    "decoder (*sharp*) and of the usual one (*decoder*). MIG, DCI and R² are of the content code (of the "
    "diffusion decoder's own where it is alone) for the three moving parts. *Nats*: what the code holds; "
    "*capacity*: what it may. *Jump*: the largest change between neighbouring frames of three traversals over the "
    "median one. Milliseconds are of one CPU core. In *diffusion alone* there is neither distillation nor "
    f"feedback, and Harmony's own prior. The rules speak of the loop with the law that is the default ({LOOP})."
)

PART = Part(
    name="diffusion",
    title="Closed loop with a diffusion decoder",
    about=ABOUT,
    columns=(
        ("sharp_shell", "shell, sharp"),
        ("vae_shell", "shell, decoder"),
        ("sharp_missing", "missing, sharp"),
        ("vae_missing", "missing, decoder"),
        ("mig", "MIG"),
        ("disentanglement", "DCI"),
        ("informativeness", "R²"),
        ("nats", "nats"),
        ("capacity", "capacity"),
        ("jump", "jump"),
        ("milliseconds", "ms per step"),
    ),
    rules=RULES,
)

if __name__ == "__main__":
    run_part(PART, measure_seed)
