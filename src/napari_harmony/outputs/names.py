"""File names inside an OUT folder."""

from __future__ import annotations

PARTICLES = "particles.star"
PARTICLES_IMAGES = "particles_images.mrcs"  # only where RELION cannot read the input's own images
PARTICLES_CS = "particles.cs"
AVERAGES = "class_averages.mrcs"
HALVES = ("class_averages_half1.mrcs", "class_averages_half2.mrcs")
FRC = "frc.csv"
MODEL = ("model.safetensors", "model.json")
SUMMARY = "summary.json"
REPORT = "report.html"
CHECKPOINT = ".checkpoint"

#: RELION's names for the files of a finished 2D classification, read by its Select job.
RELION_ROOT = "run_it025"
RELION_JOB = tuple(f"{RELION_ROOT}_{part}" for part in ("data.star", "model.star", "optimiser.star", "classes.mrcs"))

#: Every name a run may write. A new run replaces those of an earlier one and touches nothing else in the folder.
OWNED = (PARTICLES, PARTICLES_IMAGES, PARTICLES_CS, AVERAGES, *HALVES, FRC, *MODEL, SUMMARY, REPORT, *RELION_JOB)
