"""One process against several that share its work: time, results, and a job of which one process is killed.

``python benchmarks/team_speed.py --count 8000`` makes a V12 data set, runs ``napari-harmony align`` on it with one
process and with ``--devices``, in turns and with one thread each, kills one process of a further job at half time and
resumes it. The figures are kept in ``benchmarks/results/team_speed.json`` and in a section of ``benchmarks/README.md``.
To mean something the machine must have a core per process, and be quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cases import WORK, Case
from napari_harmony.analysis import metrics
from napari_harmony.outputs import load_output, names
from napari_harmony.outputs.summary import read_summary
from protocols import PROTOCOLS
from tables import rewrite_section

RESULTS = Path(__file__).parent / "results" / "team_speed.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- team: begin -->", "<!-- team: end -->"
PROGRAM = Path(sys.executable).with_name("napari-harmony")


def command(out: Path, arguments: argparse.Namespace, devices: int, *more: str) -> list[str]:
    """The job in so many processes."""
    options = ["--classes", "12", "--preset", arguments.preset, "--device", arguments.device]
    return [str(PROGRAM), "align", "particles.star", "-o", str(out), *options, "--devices", str(devices), *more]


def one_thread() -> dict[str, str]:
    """The environment of a job whose processes compute with one thread each."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def timed(folder: Path, words: list[str]) -> float:
    """Seconds that a job took, from its start to its last file."""
    begin = time.perf_counter()
    subprocess.run(words, cwd=folder, env=one_thread(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - begin


def killed(folder: Path, words: list[str], after: float) -> float:
    """Start a job, kill its last process after so many seconds; gives the seconds until the job is over.

    Raises
    ------
    SystemExit : the job was complete before, or did not say what happened
    """
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(words, cwd=folder, env=one_thread(), **pipes)
    time.sleep(after)
    if job.poll() is not None:
        raise SystemExit(f"The job was over before it was killed: {job.communicate()[1]}")
    psutil.Process(job.pid).children()[-1].send_signal(signal.SIGKILL)
    begin = time.perf_counter()
    said = job.communicate()[1]
    if job.returncode != 1 or "ended unexpectedly" not in said:
        raise SystemExit(f"The job ended with {job.returncode}: {said}")
    return time.perf_counter() - begin


def difference(one: Path, other: Path) -> dict[str, float]:
    """How far two results of the same particles are from each other."""
    first, second = load_output(one).table, load_output(other).table
    psi = ((first["psi"] - second["psi"] + 180) % 360 - 180).abs()
    shift = np.hypot(first["origin_x"] - second["origin_x"], first["origin_y"] - second["origin_y"])
    same = first["class_number"] == second["class_number"]
    return {
        "same_class": float(same.mean()),
        "psi_median": float(psi.median()),
        "psi_99": float(psi.quantile(0.99)),
        "shift_median": float(shift.median()),
    }


def measure(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of a case."""
    folder, many = case.folder, arguments.devices
    outs = {devices: folder / f"team_{devices}" for devices in (1, many)}
    seconds: dict[int, list[float]] = {devices: [] for devices in outs}
    for _ in range(arguments.repeats):
        for devices, out in outs.items():
            shutil.rmtree(out, ignore_errors=True)
            seconds[devices].append(timed(folder, command(out, arguments, devices)))
            print(f"{devices} processes: {seconds[devices][-1]:.1f} s", flush=True)
    resumed = folder / "team_resumed"
    shutil.rmtree(resumed, ignore_errors=True)
    usual = statistics.median(seconds[many])
    noticed = killed(folder, command(resumed, arguments, many), 0.5 * usual)
    kept = (resumed / names.CHECKPOINT / "search.safetensors").exists()
    rest = timed(folder, command(resumed, arguments, many, "--resume"))
    truth = case.truth
    scores = {d: metrics.evaluate(load_output(out).table, truth) for d, out in {**outs, 0: resumed}.items()}
    shown = ("accuracy", "rotation_median", "rotation_under_10")
    return {
        "seconds": {str(d): times for d, times in seconds.items()},
        "stages": {str(d): read_summary(out / names.SUMMARY)["seconds"] for d, out in outs.items()},
        "speedup": statistics.median(seconds[1]) / usual,
        "scores": {str(d) if d else "resumed": {n: s[n] for n in shown} for d, s in scores.items()},
        "several_against_one": difference(outs[1], outs[many]),
        "resumed_against_several": difference(outs[many], resumed),
        "killed": {"after": 0.5 * usual, "noticed": noticed, "checkpoint": kept, "rest": rest},
    }


def section(records: dict[str, Any]) -> str:
    """The records as a table."""
    heads = ["run", "1 process", "several", "speed", "accuracy, 1 / several / resumed", "same class", "poses, median"]
    heads += ["killed: noticed after", "resumed against not"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, found in records.items():
        scores, times = found["scores"], {int(d): statistics.median(t) for d, t in found["seconds"].items()}
        several = found["several_against_one"]
        cells = [
            f"{name}, {found['machine']['cores']} cores, load {found['machine']['load']:.1f}",
            f"{times[1]:.0f} s",
            f"{times[max(times)]:.0f} s ({max(times)})",
            f"{found['speedup']:.2f} ×",
            " / ".join(f"{score['accuracy']:.4f}" for score in scores.values()),
            f"{100 * several['same_class']:.2f} %",
            f"{several['psi_median']:.4f}°",
            f"{found['killed']['noticed']:.1f} s",
            f"{found['resumed_against_several']['psi_median']:.4f}°",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8000, help="particles")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--devices", type=int, default=2, help="processes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=WORK)
    return parser.parse_args()


def main() -> None:
    """Measure, keep the figures, and write them into the README."""
    arguments = parse()
    case = Case(replace(PROTOCOLS["V12"], count=arguments.count), 0, arguments.work)
    case.prepare()
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "processor": platform.machine()}
    record = measure(case, arguments) | {"machine": machine, "python": platform.python_version()}
    records = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    records[f"V12 {arguments.count} {arguments.preset} {arguments.device} x {arguments.devices}"] = record
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")
    table = section(records)
    rewrite_section(README, table, BEGIN, END)
    print(table)


if __name__ == "__main__":
    main()
