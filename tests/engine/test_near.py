"""Processes that speak through memory: here threads of one, each with a view of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from napari_harmony.engine import near
from napari_harmony.engine.near import Near

pytestmark = pytest.mark.skipif(not near.can_share(), reason="processes of this machine speak through sockets")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where files in memory lie."""
    monkeypatch.setattr(near, "MEMORY", tmp_path)
    return tmp_path


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Memory for three processes that say 64 bytes at a time."""
    monkeypatch.setattr(near, "PIECE", 64)
    return near.create(3)


def opened(path: Path, size: int = 3) -> list[Near]:
    return [Near.opened(path, rank, (os.getpid(),) * size) for rank in range(size)]


def test_messages_of_any_length_are_added_up_and_heard_by_all(memory: Path) -> None:
    members = opened(memory)

    def work(member: Near) -> list[torch.Tensor]:
        said = []
        for length in (0, 1, 16, 17, 100):
            numbers = torch.arange(length, dtype=torch.float32) + member.rank
            said += [torch.cat([part + 0 for part in member.exchanged(numbers)]), numbers]
            member.sum(numbers)
        return said

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(work, members))
    for length, heard, added in zip((0, 1, 16, 17, 100), found[0][::2], found[0][1::2], strict=True):
        row = torch.arange(length, dtype=torch.float32)
        assert torch.equal(heard, torch.cat([row, row + 1, row + 2]))
        assert torch.equal(added, 3 * row + 3)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_rows_that_one_knows_are_known_to_all(memory: Path) -> None:
    shares = [slice(0, 3), slice(3, 3), slice(3, 7)]

    def work(member: Near) -> torch.Tensor:
        whole, mine = torch.zeros(7, 5, dtype=torch.complex64), shares[member.rank]
        whole[mine] = torch.arange(7.0)[mine, None] + 1j
        member.complete(whole, shares)
        return whole

    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(work, opened(memory)):
            assert torch.equal(found, (torch.arange(7.0)[:, None] + 1j).expand(7, 5))


def test_messages_of_every_kind_are_heard(memory: Path) -> None:
    kinds = (torch.float64, torch.int64, torch.uint8, torch.complex64)

    def work(member: Near) -> list[list[torch.Tensor]]:
        return [member.exchanged(torch.full((20,), member.rank, dtype=kind)) for kind in kinds]

    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(work, opened(memory)):
            for kind, parts in zip(kinds, found, strict=True):
                assert [part.dtype for part in parts] == [kind] * 3
                assert [part[-1].item() for part in parts] == [0, 1, 2]


def test_a_process_that_ended_is_not_waited_for(memory: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    time.sleep(0.1)
    while near.psutil.Process(ended.pid).status() != near.psutil.STATUS_ZOMBIE:  # it has ended, and nobody asked how
        time.sleep(0.01)
    alone = Near.opened(memory, 0, (os.getpid(), ended.pid, os.getpid()))
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="process 1 is gone"):
        alone.sum(torch.ones(1))
    assert time.monotonic() - begin < 2
    ended.wait()
    with pytest.raises(RuntimeError, match="process 1 is gone"):
        alone.sum(torch.ones(1))


def test_memory_that_there_is_no_room_for_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(handle: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(near.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        near.create(2)
    assert not list(folder.iterdir())
