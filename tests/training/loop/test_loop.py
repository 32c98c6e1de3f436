"""The loop: what it learns, what it writes, when it stops, and what it refuses."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from graft.errors import UsageError
from graft.training.cpu import precision
from graft.training.loop import fit as loop
from graft.training.loop.history import Event, read_history
from graft.training.loop.pictures import from_array
from graft.training.loop.source import Batch, Batching, Positions
from graft.training.recipe.losses import cross_entropy
from graft.training.recipe.normalize import channel_statistics
from graft.training.recipe.settings import Recipe
from training.small_runs import SETTINGS, bars, same_bits, small_network, train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_small_network_learns_the_bars(tmp_path: Path) -> None:
    seen: list[Event] = []
    outcome = train(tmp_path, replace(SETTINGS, epochs=6), watch=seen.append)
    history = read_history(tmp_path)
    assert history.epochs[-1].val is not None
    assert history.epochs[-1].val.accuracy >= 0.95
    assert history.epochs[-1].train.loss < 0.6 * history.epochs[0].train.loss
    assert outcome.why == "epochs"
    assert outcome.epochs == 6
    assert [event.kind for event in seen] == [
        json.loads(line)["kind"] for line in (tmp_path / "history.jsonl").read_text().splitlines()
    ]
    assert history.start.settings.optimizer == "nesterov"
    assert (history.start.classes, history.start.train, history.start.val) == (3, 200, 60)
    assert [step.step for step in history.steps] == list(range(1, 6 * 13 + 1))  # 13 steps an epoch: each has a line


def test_one_step_of_plain_sgd_is_the_formula(tmp_path: Path) -> None:
    """w ← w − ε ∇ of the mean loss over the whole batch, which is independent of the batch's order."""
    pictures = bars(40)
    network = small_network(batch_norm=False, dropout=0.0)
    twin = small_network(batch_norm=False, dropout=0.0)
    settings = Recipe(
        strategy="scratch",
        epochs=1,
        batch=40,
        optimizer="sgd",
        rate=0.5,
        schedule="constant",
        weight_decay=0.0,
        augment="none",
        precision="float32",
    )
    outcome = train(tmp_path, settings, network=network, pictures=(pictures, None))
    x = torch.from_numpy(pictures.read(np.arange(40)).astype(np.float32) / 255).permute(0, 3, 1, 2)
    x = (x - x.mean()) / x.std(correction=0)
    nn.functional.cross_entropy(twin(x), torch.from_numpy(pictures.labels)).backward()
    for (name, parameter), after in zip(twin.named_parameters(), outcome.state.values(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(after, parameter.detach() - 0.5 * parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("batch", "accumulate"), [(10, 4), (20, 2)])
def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path, batch: int, accumulate: int) -> None:
    def weights(folder: str, settings: Recipe) -> dict[str, torch.Tensor]:
        network = small_network(batch_norm=False, dropout=0.0)
        return train(tmp_path / folder, settings, network=network, pictures=(bars(120), None)).state

    whole = replace(SETTINGS, batch=40, epochs=2)
    once = weights("whole", whole)
    parts = weights("parts", replace(whole, batch=batch, accumulate=accumulate))
    for name, tensor in once.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-6)


def test_batch_is_halved_where_memory_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"pictures": (bars(120), None)}
    plain = replace(SETTINGS, batch=40, epochs=1)
    roomy = train(tmp_path / "roomy", plain, network=small_network(batch_norm=False, dropout=0.0), **given)
    kept = precision.activation_bytes(small_network(batch_norm=False, dropout=0.0), torch.zeros(2, 1, 12, 12))
    monkeypatch.setattr(precision, "available_bytes", lambda _device: 15 * kept * 1.5 / 0.8)  # 15 pictures' worth
    tight = train(tmp_path / "tight", plain, network=small_network(batch_norm=False, dropout=0.0), **given)
    assert (roomy.batch, tight.batch) == (40, 10)
    for name, tensor in roomy.state.items():
        torch.testing.assert_close(tight.state[name], tensor, rtol=1e-5, atol=1e-6)


def test_same_seed_same_bits_and_another_seed_another_network(tmp_path: Path) -> None:
    first = train(tmp_path / "1").state
    assert same_bits(first, train(tmp_path / "2").state)
    assert not same_bits(first, train(tmp_path / "3", replace(SETTINGS, seed=1)).state)


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(tmp_path, replace(SETTINGS, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_best_epoch_is_kept_and_left_in_the_network(tmp_path: Path) -> None:
    """A rate that rises from useful to ruinous: some epoch in the middle is best."""
    settings = replace(SETTINGS, epochs=6, rate=3.0, schedule="constant", warmup=5.0, clip=None)
    network = small_network()
    outcome = train(tmp_path, settings, network=network)
    history = read_history(tmp_path)
    scores = [epoch.val for epoch in history.epochs if epoch.val]
    best = max(range(6), key=lambda place: (scores[place].accuracy, -scores[place].loss))
    assert outcome.best_epoch == best + 1 == history.end.best_epoch if history.end else False
    assert best < 5
    validation = bars(60, seed=1)
    norm = channel_statistics(bars(200))
    x = norm.normalize(torch.from_numpy(validation.read(np.arange(60)).astype(np.float32) / 255).permute(0, 3, 1, 2))
    with torch.inference_mode():
        logits = network(x)
    labels = torch.from_numpy(validation.labels)
    assert float((logits.argmax(1) == labels).double().mean()) == scores[best].accuracy
    assert float(cross_entropy(logits, labels).mean()) == pytest.approx(scores[best].loss, rel=1e-5)


def test_patience_stops_the_run(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=50, patience=2, rate=1e-12, schedule="constant", weight_decay=0.0)
    outcome = train(tmp_path, settings, network=small_network(batch_norm=False))
    assert (outcome.why, outcome.best_epoch, outcome.epochs) == ("patience", 1, 3)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(tmp_path: Path) -> None:
    settings = replace(SETTINGS, rate=1e30, schedule="constant", keep="last", epochs=4)
    network = small_network(batch_norm=False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    outcome = train(tmp_path, settings, network=network)
    assert outcome.why == "not finite"
    assert outcome.reason.startswith("the loss was not a finite number at step")
    assert "likely causes, in order: the rate is too high (it was 1e+30" in outcome.reason
    assert same_bits(outcome.state, before)  # nothing better was ever reached
    history = read_history(tmp_path)
    assert history.end is not None
    assert history.end.why == "not finite"
    assert math.isnan(history.steps[-1].loss)


def test_a_budget_is_kept_and_uses_most_of_its_time(tmp_path: Path) -> None:
    outcome = train(tmp_path, replace(SETTINGS, budget=3.0, schedule="linear"))
    history = read_history(tmp_path)
    assert outcome.why == "budget"
    assert 1.0 < outcome.seconds < 3.5
    planned = history.start.settings.epochs
    assert planned is not None
    assert 3 < outcome.epochs <= planned  # as the first steps foretold, or less where the machine has slowed down since


def test_gradient_descent_steps_on_the_whole_split(tmp_path: Path) -> None:
    train(tmp_path, replace(SETTINGS, optimizer="gd", epochs=2))
    assert [step.step for step in read_history(tmp_path).steps] == [1, 2]


def test_random_search_never_raises_the_loss_of_its_batch(tmp_path: Path) -> None:
    settings = replace(SETTINGS, optimizer="random-search", rate=1.0, epochs=20, batch=200, augment="none", clip=None)
    train(tmp_path, settings, network=small_network(batch_norm=False, dropout=0.0), pictures=(bars(200), None))
    losses = [step.loss for step in read_history(tmp_path).steps]
    assert all(after <= before + 1e-5 for before, after in itertools.pairwise(losses))
    assert losses[-1] < losses[0]


def test_average_is_evaluated_and_kept(tmp_path: Path) -> None:
    outcome = train(tmp_path, replace(SETTINGS, ema=0.9, keep="last"))
    plain = train(tmp_path / "plain", replace(SETTINGS, keep="last"))
    last, alone = (read_history(folder).epochs[-1] for folder in (tmp_path, tmp_path / "plain"))
    assert last.train == alone.train  # what is learnt from is the same …
    assert last.val != alone.val  # … and what is judged is not
    assert not same_bits(outcome.state, plain.state)


def test_plateau_lowers_the_rate_when_the_validation_loss_stands_still(tmp_path: Path) -> None:
    settings = replace(SETTINGS, schedule="plateau", epochs=6, rate=1e-12, weight_decay=0.0)
    train(tmp_path, settings, network=small_network(batch_norm=False))
    rates = [epoch.rate for epoch in read_history(tmp_path).epochs]
    assert rates[:5] == [1e-12] * 5
    assert rates[5] == pytest.approx(1e-13)


@dataclass(frozen=True, eq=False)
class Maps:
    """Random maps (C, h, w) whose class is the channel that is brightest: a source that is no pictures."""

    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    shape: tuple[int, ...] = (3, 4, 4)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: Positions) -> Maps:
        return replace(self, labels=self.labels[positions], ids=self.ids[positions])

    def batch(self, positions: Positions, *, batching: Batching, epoch: int) -> Batch:
        assert batching.normalization is None
        drawn = [np.random.default_rng((epoch, each)).random(self.shape) for each in self.ids[positions]]
        x = torch.from_numpy(np.stack(drawn)).float()
        x[torch.arange(len(x)), self.labels[positions]] += 1
        return Batch(x.flip(3) if batching.flip else x, torch.from_numpy(self.labels[positions]))

    def identity(self) -> bytes:
        return self.labels.tobytes() + self.ids.tobytes()


def test_any_source_can_be_trained_on_and_resumed(tmp_path: Path) -> None:
    def maps(seed: int) -> Maps:
        return Maps(np.random.default_rng(seed).integers(0, 3, 120), np.arange(120))

    def network() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def run(folder: str, seed: int = 0, *, resume: bool = False) -> loop.Outcome:
        return loop.fit(
            network(), maps(seed), maps(9), settings, normalization=None, folder=tmp_path / folder, resume=resume
        )

    settings = replace(SETTINGS, epochs=6, rate=0.5)
    first = run("first")
    best = [epoch.val.accuracy for epoch in read_history(tmp_path / "first").epochs if epoch.val]
    assert max(best) > 0.9
    assert same_bits(run("second").state, first.state)
    with pytest.raises(UsageError, match="was started on other pictures"):
        run("first", 1, resume=True)


def test_settings_that_do_not_fit_the_data_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch must be at most the 200 pictures of the training split, got 201"):
        train(tmp_path, replace(SETTINGS, batch=201))
    with pytest.raises(UsageError, match="batch times accumulate must be at most the 200 pictures"):
        train(tmp_path, replace(SETTINGS, batch=100, accumulate=3))
    five = from_array(bars(200).read(np.arange(200)), np.arange(200) % 5)
    with pytest.raises(UsageError, match="the network has 3 classes and a label is 4"):
        train(tmp_path, pictures=(five, None))
    nothing = from_array(np.zeros((0, 12, 12), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(UsageError, match="got a split without any"):
        train(tmp_path, pictures=(bars(200), nothing))
    with pytest.raises(UsageError, match="must have one shape"):
        train(tmp_path, pictures=(bars(200), bars(60, side=14)))
    assert not (tmp_path / "history.jsonl").exists()


def test_a_folder_in_use_or_used_is_refused_in_one_line(tmp_path: Path) -> None:
    def again(event: Event) -> None:
        if event.kind == "start":
            with pytest.raises(UsageError, match="another run is training in"):
                train(tmp_path)

    train(tmp_path, replace(SETTINGS, epochs=1), watch=again)
    with pytest.raises(UsageError, match="holds a run already; resume it, or choose another folder"):
        train(tmp_path)
    with pytest.raises(UsageError, match="there is no run to resume in"):
        train(tmp_path / "none", resume=True)
    with pytest.raises(UsageError, match=r"was started with rate = 0.05, got 0.1"):
        train(tmp_path, replace(SETTINGS, epochs=1, rate=0.1), resume=True)
    with pytest.raises(UsageError, match="was started on other pictures"):
        train(tmp_path, replace(SETTINGS, epochs=1), resume=True, pictures=(bars(200, seed=5), bars(60, seed=1)))
    other = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(UsageError, match="trains another network than the one given"):
        train(tmp_path, replace(SETTINGS, epochs=1), resume=True, network=other)


def test_the_loop_writes_at_most_twenty_lines_an_epoch(tmp_path: Path) -> None:
    train(tmp_path, replace(SETTINGS, epochs=1, batch=2))  # 100 steps
    assert [step.step for step in read_history(tmp_path).steps] == list(range(5, 101, 5))
    assert loop.LINES_PER_EPOCH == 20
