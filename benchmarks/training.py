"""Training from scratch: accuracy on Fashion-MNIST, speed against the plain PyTorch loop, and resuming after kill −9.

python -m benchmarks.training fashion lenet [SEED]  LeNet-5, three epochs               (a minute on two cores)
python -m benchmarks.training fashion resnet      ResNet-20 in its CIFAR form                (10 minutes on two cores)
python -m benchmarks.training speed [network …]   pictures a second, the two loops in turns  (4 minutes)
python -m benchmarks.training kill [times]        kill −9 at random moments, 20 times        (3 minutes)

The plain loop is the one of PyTorch's own examples: a DataLoader that decodes nothing, torchvision's transforms on each
picture, float32, torch's default memory format and optimiser, the loss read in each step.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.machine import DATA, keep
from graft.models import initial
from graft.models.activation import with_activation
from graft.models.catalog import create
from graft.training.loop.batches import preparing_pool
from graft.training.loop.checkpoint import load_newest
from graft.training.loop.distributed import World
from graft.training.loop.fit import fit
from graft.training.loop.history import Event, read_history
from graft.training.loop.pictures import Pictures, from_array
from graft.training.loop.plan import Plan
from graft.training.loop.step import evaluate, task_of
from graft.training.recipe.classification import classification
from graft.training.recipe.normalize import Normalization, channel_statistics
from graft.training.recipe.settings import Recipe

LENET: Final = Recipe(
    strategy="scratch",
    epochs=3,
    batch=32,
    optimizer="nesterov",
    rate=0.03,
    schedule="one-cycle",
    augment="none",
    activation="maxout",
    initialization="glorot",
)
"""The best of thirteen runs of three epochs by validation accuracy: six with the paper's tanh (90.6 % at best), six
with ReLU (91.5 %), one with maxout (91.9 %). Earlier ones, in search of a form, had seen the test as well."""

RESNET: Final = Recipe(
    strategy="scratch", epochs=10, batch=128, optimizer="nesterov", rate=0.1, schedule="one-cycle", augment="light"
)


def fashion_mnist() -> tuple[Pictures, Pictures, Pictures]:
    """55,000 pictures to train on, 5,000 to validate and the 10,000 of the test, 28² grey."""
    with np.load(DATA / "fashion-mnist" / "fashion_mnist.npz") as file:
        train = from_array(file["x_train"], file["y_train"])
        test = from_array(file["x_test"], file["y_test"])
    return train.take(np.arange(55_000)), train.take(np.arange(55_000, 60_000)), test


def fashion(which: str, seed: int = 0) -> None:
    """Train on Fashion-MNIST, look at the test pictures once, and keep what came out."""
    sets = fashion_mnist()
    if which == "lenet":
        settings = replace(LENET, seed=seed)
        train, val, test = (pictures.padded(32) for pictures in sets)
        network = create("lenet5", seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = with_activation(network, "maxout")
            initial.glorot(network)
    else:
        settings = replace(RESNET, seed=seed)
        train, val, test = (pictures.in_colour() for pictures in sets)
        network = create("resnet20_cifar", seed=seed)
    norm = channel_statistics(train)
    with tempfile.TemporaryDirectory() as folder:
        processor = time.process_time()
        outcome = fit(network, train, val, settings, normalization=norm, folder=Path(folder), watch=_say)
        processor = time.process_time() - processor
        epochs = read_history(Path(folder)).epochs
    defaults = Recipe(strategy="scratch").trained_by()
    score = _test_score(network, test, norm, settings, outcome.batch)
    result = {
        "test_accuracy": score,
        "val_accuracy": [round(epoch.val.accuracy, 4) for epoch in epochs if epoch.val],
        "train_accuracy": [round(epoch.train.accuracy, 4) for epoch in epochs],
        "best_epoch": outcome.best_epoch,
        "seconds": round(outcome.seconds, 1),
        "processor_seconds": round(processor, 1),
        "pictures_per_second": round(outcome.pictures_per_second),
        "precision": outcome.precision,
        "load_average": round(os.getloadavg()[0], 1),
        "settings": {name: value for name, value in settings.trained_by().items() if value != defaults[name]},
    }
    keep("training", {f"fashion-mnist {which} seed {seed}": result})


def _say(event: Event) -> None:
    if event.kind == "epoch":
        print(f"epoch {event.epoch}: {event.seconds:.0f} s, train {event.train}, val {event.val}", flush=True)


def _test_score(network: nn.Module, test: Pictures, norm: Normalization, settings: Recipe, batch: int) -> float:
    plan = Plan(10, 1.0, batch, batch, 1, 1, "float32", torch.get_num_threads())
    plain = replace(settings, augment="none")
    aim = classification(plain, test, None, network(torch.zeros(1, *test.shape[2:], *test.shape[:2])))
    task = task_of(plain, plan, aim, test, norm, World(), "cpu")
    with preparing_pool() as pool:
        return evaluate(task, network, test, pool).accuracy


@dataclass(frozen=True)
class Case:
    """One network to train at one size. steps: that are timed, one more goes before them."""

    network: str
    side: int
    batch: int
    steps: int


CASES: Final = (Case("lenet5", 32, 128, 200), Case("resnet18", 64, 64, 16), Case("mobilenet", 128, 32, 16))
TURNS: Final = 3


def speed(names: list[str]) -> None:
    """Pictures a second of both loops: same pictures, network, batch, optimiser and augmentation, in turns."""
    for case in CASES:
        if names and case.network not in names:
            continue
        pictures = _pictures(case)
        found: dict[str, list[float]] = {"graft": [], "plain": []}
        precisions = []
        for _ in range(TURNS):
            seconds, precision = _graft_speed(case, pictures)
            found["graft"].append(seconds)
            precisions.append(precision)
            found["plain"].append(_plain_speed(case, pictures))
        medians = {loop: statistics.median(values) for loop, values in found.items()}
        result = {
            **asdict(case),
            "pictures_per_second": {loop: [round(value, 1) for value in values] for loop, values in found.items()},
            "median": {loop: round(value, 1) for loop, value in medians.items()},
            "ratio": round(medians["graft"] / medians["plain"], 2),
            "precision": precisions,
            "load_average": round(os.getloadavg()[0], 1),
        }
        keep("training", {f"speed {case.network} at {case.side}²": result})


def _pictures(case: Case) -> Pictures:
    """Real pictures, decoded: Fashion-MNIST in a black margin for LeNet-5, photos of trashnet for the others."""
    count = case.batch * (case.steps + 1)
    if case.network == "lenet5":
        padded = fashion_mnist()[0].padded(case.side)
        return from_array(padded.read(np.arange(count)), padded.labels[:count])
    files = sorted((DATA / "trashnet").glob("*/*.jpg"))[:: max(1, 2527 // count)][:count]
    classes = sorted({file.parent.name for file in files})
    pixels = np.empty((len(files), case.side, case.side, 3), np.uint8)
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            pixels[place] = np.asarray(picture.convert("RGB").resize((case.side, case.side)))
    return from_array(pixels, np.array([classes.index(file.parent.name) for file in files]))


def _graft_speed(case: Case, pictures: Pictures) -> tuple[float, str]:
    """Pictures a second between the first line of the history and the last, and the precision chosen."""
    settings = Recipe(
        strategy="scratch",
        epochs=1,
        batch=case.batch,
        optimizer="momentum",
        rate=0.01,
        weight_decay=1e-4,
        schedule="constant",
        augment="light",
    )
    network = create(case.network, num_classes=10, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        norm = channel_statistics(pictures)
        outcome = fit(network, pictures, None, settings, normalization=norm, folder=Path(folder))
        steps = read_history(Path(folder)).steps
    done = (steps[-1].step - steps[0].step) * len(pictures) / steps[-1].step
    return done / (steps[-1].seconds - steps[0].seconds), outcome.precision


class _Plain(Dataset[tuple[Tensor, int]]):
    """Pictures one at a time through torchvision's transforms, as a folder of files would be."""

    def __init__(self, pictures: Pictures) -> None:
        self._pixels = pictures.read(np.arange(len(pictures)))  # (N, H, W, C)
        self._labels = pictures.labels.tolist()
        channels, side = pictures.shape[2], pictures.shape[0]
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(side, padding=side // 8, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * channels, (0.25,) * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[place].squeeze())), self._labels[place]


def _plain_speed(case: Case, pictures: Pictures) -> float:
    """Pictures a second of the plain loop after its first step, with a loader process for each core."""
    network = create(case.network, num_classes=10, seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    cores = len(os.sched_getaffinity(0))
    loader = DataLoader(_Plain(pictures), batch_size=case.batch, shuffle=True, num_workers=cores)
    began, done, losses = 0.0, -case.batch, 0.0
    for x, target in loader:
        output = network(x)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += loss.item() + float((output.argmax(dim=1) == target).float().mean())
        if done < 0:
            began = time.perf_counter()
        done += len(x)
    return done / (time.perf_counter() - began)


def kill(times: int) -> None:
    """Kill a run at random moments, resume it each time, and compare its end with that of a run left alone."""
    program = Path(__file__).parents[1] / "tests" / "training" / "small_runs.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(program.parents[1]), *sys.path])}
    moments = random.Random(0)
    killed_at: list[int] = []
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        subprocess.run([sys.executable, str(program), str(whole), str(times)], env=environment, check=True)
        for _ in range(times):
            before = _last_step(killed)
            words = [sys.executable, str(program), str(killed), str(times)]
            run = subprocess.Popen([*words, "resume"] if before is not None else words, env=environment)
            while run.poll() is None and _last_step(killed) in (None, before):
                time.sleep(0.005)
            time.sleep(moments.uniform(0.0, 0.2))
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed_at.append(_last_step(killed) or 0)
        subprocess.run([*words, "resume"], env=environment, check=True)
        expected, found = load_newest(whole)[0], load_newest(killed)[0]
        assert expected is not None
        assert found is not None
        equal = all(torch.equal(expected.tensors[name], found.tensors[name]) for name in expected.tensors)
    keep("training", {"kill -9": {"times": times, "steps": killed_at, "of": expected.step, "bit_equal": equal}})


def _last_step(folder: Path) -> int | None:
    """The last step that a history tells of; None where there is no run yet."""
    if not any(folder.glob("checkpoint-*")):
        return None
    steps = read_history(folder).steps if (folder / "history.jsonl").exists() else ()
    return steps[-1].step if steps else 0


if __name__ == "__main__":
    command, *words = sys.argv[1:] or ["fashion"]
    if command == "fashion":
        seeds = [int(word) for word in words if word.isdigit()] or [0]
        for name in [word for word in words if not word.isdigit()] or ["lenet", "resnet"]:
            for seed in seeds:
                fashion(name, seed)
    elif command == "speed":
        speed(words)
    elif command == "kill":
        kill(int(words[0]) if words else 20)
    else:
        sys.exit(f"give fashion, speed or kill, got {command!r}")
