"""Checkpoint files: whole or not there, checked when read, two kept."""

from __future__ import annotations

import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from graft.errors import BadModel, GraftError, UsageError
from graft.training.loop import checkpoint
from graft.training.loop.checkpoint import (
    Checkpoint,
    load_newest,
    only_run,
    optimizer_tensors,
    read,
    restore_optimizer,
    save_checkpoint,
    write,
)

TENSORS = {
    "weights": torch.arange(24.0).reshape(1, 4, 3, 2).contiguous(memory_format=torch.channels_last) / 7,
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "empty": torch.zeros(0, 5),
}
FACTS = {"loss": 0.1 + 0.2, "tiny": 5e-324, "third": 1 / 3, "best_file": None, "name": "ж"}


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", TENSORS, FACTS)
    tensors, facts = read(tmp_path / "x.safetensors")
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_any_flipped_bit_and_any_lost_end_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, FACTS)
    sound = path.read_bytes()
    for place in range(0, len(sound), 37):
        damaged = bytearray(sound)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(BadModel) as caught:
            read(path)
        assert "\n" not in str(caught.value), place
    for length in (0, 7, 100, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(BadModel):
            read(path)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, FACTS)
    before = path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GraftError, match=r"cannot be written: .*No space left on device; free some space") as caught:
        write(path, TENSORS, {**FACTS, "loss": 1.0})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_two_are_kept_with_the_best_weights_they_speak_of(tmp_path: Path) -> None:
    for step, best in ((5, "best-5.safetensors"), (9, "best-5.safetensors"), (10, "best-10.safetensors")):
        if not (tmp_path / best).exists():
            write(tmp_path / best, TENSORS, {})
        save_checkpoint(tmp_path, Checkpoint(step, TENSORS, {**FACTS, "best_file": best}))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-10.safetensors",
        "best-5.safetensors",
        "checkpoint-10.safetensors",
        "checkpoint-9.safetensors",
    ]
    save_checkpoint(tmp_path, Checkpoint(11, TENSORS, {**FACTS, "best_file": "best-10.safetensors"}))
    assert not (tmp_path / "best-5.safetensors").exists()


def test_the_older_one_serves_where_the_newer_or_its_best_weights_are_damaged(tmp_path: Path) -> None:
    assert load_newest(tmp_path) == (None, ())
    for step in (5, 10):
        write(tmp_path / f"best-{step}.safetensors", TENSORS, {})
        save_checkpoint(tmp_path, Checkpoint(step, TENSORS, {"best_file": f"best-{step}.safetensors"}))
    (tmp_path / "best-10.safetensors").write_bytes(b"nothing")
    found, notices = load_newest(tmp_path)
    assert found is not None
    assert found.step == 5
    assert len(notices) == 1
    assert "best-10.safetensors cannot be read" in notices[0]
    assert not (tmp_path / "checkpoint-10.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "fused": True}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_a_restored_optimizer_goes_on_as_the_first_would_have(
    kind: type[torch.optim.Optimizer], settings: dict[str, Any], tmp_path: Path
) -> None:
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 2))
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        torch.manual_seed(number)
        model(torch.randn(5, 3, 4, 4)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    first = network()
    optimizer = kind(first.parameters(), lr=0.1, **settings)  # type: ignore[call-arg]
    step(first, optimizer, 1)
    tensors, rest = optimizer_tensors(optimizer)
    write(tmp_path / "x.safetensors", tensors, {"rest": rest})
    tensors, facts = read(tmp_path / "x.safetensors")
    second = network()
    second.load_state_dict(first.state_dict())
    restored = kind(second.parameters(), lr=0.5, **settings)  # type: ignore[call-arg]
    restore_optimizer(restored, tensors, facts["rest"])
    assert restored.param_groups[0]["lr"] == 0.1
    for number in (2, 3):
        step(first, optimizer, number)
        step(second, restored, number)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def _hold(folder: str, ready: Any, done: Any) -> None:
    with only_run(Path(folder)):
        ready.set()
        done.wait()


def test_a_folder_is_one_runs_at_a_time_and_free_again_when_it_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / "run"), ready, done))
    other.start()
    assert ready.wait(60)
    message = r"another run is training in .*run; wait for it, or choose another folder"
    with pytest.raises(UsageError, match=message), only_run(tmp_path / "run"):
        pass
    other.kill()
    other.join()
    with only_run(tmp_path / "run"):
        pass


def test_numbers_that_json_cannot_hold_are_our_own_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path / "x.safetensors", {}, {"loss": math.nan})
    assert checkpoint.KEPT == 2
