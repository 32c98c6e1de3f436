"""Two processes that train together end with the weights of one that takes the same steps alone."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from graft.errors import UsageError
from graft.training.loop.checkpoint import read
from graft.training.loop.distributed import World, here
from graft.training.loop.history import read_history
from graft.training.loop.plan import refuse_unfit
from graft.training.recipe.settings import Recipe
from training.small_runs import SETTINGS, bars, small_network, train

PLAIN = replace(SETTINGS, batch=40, epochs=2, l2=1e-3, clip=1.0, ema=0.9)
BY_DEPTH = replace(PLAIN, layer_decay=0.5, head_epochs=0.4, unfreeze="gradual")
DEPTHS = {"0.weight": 2, "0.bias": 2, "4.weight": 1, "4.bias": 1, "9.weight": 0, "9.bias": 0}


def _one_of_two(rank: int, meeting: str, folder: str, plain: Recipe, accumulate: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    settings = replace(plain, batch=40 // accumulate, accumulate=accumulate)
    network = small_network(seed=rank, batch_norm=False, dropout=0.0)  # the first one's weights count
    outcome = train(Path(folder), settings, network=network, depths=DEPTHS, world=here())
    torch.save(outcome.state, f"{folder}/state-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(("plain", "accumulate"), [(PLAIN, 1), (BY_DEPTH, 2)], ids=["plain", "by depth"])
def test_two_processes_end_as_one_with_the_same_global_batch(tmp_path: Path, plain: Recipe, accumulate: int) -> None:
    alone = train(tmp_path / "alone", plain, network=small_network(batch_norm=False, dropout=0.0), depths=DEPTHS)
    with tempfile.TemporaryDirectory() as place:
        arguments: tuple[Any, ...] = (f"{place}/meeting", str(tmp_path / "two"), plain, accumulate)
        multiprocessing.spawn(_one_of_two, args=arguments, nprocs=2)  # type: ignore[no-untyped-call]
    for rank in (0, 1):
        state = torch.load(tmp_path / "two" / f"state-{rank}.pt", weights_only=True)
        for name, tensor in alone.state.items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-6, msg=f"{name} of process {rank}")
    once, twice = read_history(tmp_path / "alone"), read_history(tmp_path / "two")
    assert [step.loss for step in twice.steps] == pytest.approx([step.loss for step in once.steps], abs=1e-6)
    for one, two in zip(once.epochs, twice.epochs, strict=True):
        assert one.val is not None
        assert two.val is not None
        assert (two.train.accuracy, two.val.accuracy) == (one.train.accuracy, one.val.accuracy)
    newest = max((tmp_path / "two").glob("checkpoint-*"), key=lambda path: int(path.stem.split("-")[1]))
    assert read(newest)[1]["step"] == 10


def test_one_process_agrees_with_itself() -> None:
    assert here() == World(0, 1)
    assert World().agreed("x") == "x"
    assert torch.equal(World().summed(torch.tensor([1.0, 2.0])), torch.tensor([1.0, 2.0]))


def test_what_several_processes_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="random-search runs in one process, got 2"):
        refuse_unfit(replace(SETTINGS, optimizer="random-search"), bars(40), None, 2)
    with pytest.raises(UsageError, match="a step needs a picture for each of 64 processes"):
        refuse_unfit(SETTINGS, bars(40), None, 64)
