"""Pretrain the networks that come with the package, on endless simulated particles.

``python benchmarks/pretrain.py images FOLDER`` trains for any images, ``volumes`` for any subtomograms. Both are seeded
and go on from the state in FOLDER; ``--device cuda`` trains on a GPU. Started with ``torchrun --nproc-per-node 4`` or
``srun``, four processes look at particles of their own and learn together. ``--export`` writes the model that ships.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_harmony.engine.processes import form_team, place_in


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["images", "volumes"])
    parser.add_argument("folder", type=Path, help="where state and log are kept")
    parser.add_argument("--steps", type=int, help="batches in all (default: the course's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--export", type=Path, help="write the network and its card to this folder, and train no more")
    parser.add_argument(
        "--fact", action="append", default=[], help="goes onto the exported card, as 'Figures: ...', 'Limits: ...'"
    )
    return parser.parse_args()


def main() -> None:
    """Train, or export what was trained."""
    arguments = parse()
    if arguments.kind == "images":
        from pretraining import images_training as training
    else:
        from pretraining import volumes_training as training
    if arguments.export is not None:
        facts = dict(fact.split(": ", 1) for fact in arguments.fact)
        training.export(arguments.folder, arguments.export, facts)
        return
    team = form_team(place_in(), arguments.device)
    changes = {"seed": arguments.seed, "processes": team.size}
    changes |= {} if arguments.steps is None else {"steps": arguments.steps}
    training.pretrain(training.Course(**changes), arguments.folder, arguments.device, team=team)


if __name__ == "__main__":
    main()
