"""Fine-tuning as the peers' own documentation shows it, from the same weights and on the same pictures as graft.

python -m benchmarks.transfer_peers WAY SEED PICTURES SPLIT WEIGHTS EPOCHS      (run by benchmarks.transfer)

fastai   `vision_learner(...).fine_tune(4)` with `RandomResizedCrop(224, min_scale=0.5)` and `aug_transforms()`, as in
         the second chapter of its book: one epoch of the head, four of everything, all else its defaults.
plain    PyTorch's "Transfer Learning for Computer Vision Tutorial", its first scenario: SGD over all layers, rate 1e-3,
         momentum 0.9, batches of 4, the best epoch by validation kept. The tutorial goes on for 25 epochs, with a tenth
         of the rate from the eighth on; here it has as many as the others.
timm     the parts of timm's training script (its transforms, loader, optimiser, schedule and loss) at the settings
         below; the script itself is not in the package. The best epoch by validation is kept, as the script does.
All of them: EfficientNet-Lite0 of timm at 224², float32, two workers. Keras has no network that these weights fit.

Prints a JSON object: an entry for each epoch with the clock when it and its validation were over, processor seconds of
all processes until then, and accuracies. The test pictures are looked at after the training, by the weights that each
epoch ended with, so they take nothing from the clock and choose nothing.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.splits import PARTS, read_split

ARCHITECTURE: Final = "tf_efficientnet_lite0"
SIDE, WORKERS, FASTAI_BATCH, PLAIN_BATCH, TIMM_BATCH = 224, 2, 64, 4, 32
TIMM_RATE, TIMM_DECAY, TIMM_SMOOTHING, TIMM_WARMUP = 5e-4, 0.05, 0.1, 1  # AdamW's rate and decay; epochs of warm-up
MEAN = STD = (0.5, 0.5, 0.5)  # what these weights were trained with

Items = list[tuple[str, int]]
"""Pictures as (path, index of the class)."""


@dataclass(frozen=True)
class Task:
    """What every way is given. items: by part of the split. weights: a file with timm's names. epochs: at full rate."""

    items: dict[str, Items]
    classes: tuple[str, ...]
    weights: Path
    seed: int
    epochs: int


@dataclass
class Epochs:
    """Notes the clock at the end of each epoch, and keeps the weights for a look at the test pictures later on."""

    network: nn.Module
    notes: list[dict[str, float]] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)

    def end(self, validation: float) -> None:
        """An epoch and its validation are over."""
        clock, processor = time.monotonic(), sum(os.times()[:4])
        self.notes.append({"clock": clock, "processor_seconds": processor, "validation": validation})
        self.states.append(copy.deepcopy(self.network.state_dict()))
        print(f"epoch {len(self.notes)}: validation {validation:.4f}", file=sys.stderr, flush=True)

    def tested(self, accuracy: Callable[[], float]) -> list[dict[str, float]]:
        """The notes, with the test accuracy of each epoch's weights."""
        for note, state in zip(self.notes, self.states, strict=True):
            self.network.load_state_dict(state)
            note["test"] = accuracy()
        return self.notes


def fastai(task: Task) -> list[dict[str, float]]:
    """fastai's vision_learner and its fine_tune."""
    from fastai.metrics import accuracy
    from fastai.torch_core import set_seed
    from fastai.vision.all import (
        Callback,
        CategoryBlock,
        DataBlock,
        ImageBlock,
        IndexSplitter,
        RandomResizedCrop,
        aug_transforms,
        vision_learner,
    )

    set_seed(task.seed)
    labels = {path: task.classes[label] for items in task.items.values() for path, label in items}
    train, validation, test = ([path for path, _ in task.items[part]] for part in PARTS)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=list(task.classes))),
        get_y=lambda path: labels[path],
        splitter=IndexSplitter(range(len(train), len(train) + len(validation))),
        item_tfms=RandomResizedCrop(SIDE, min_scale=0.5),
        batch_tfms=aug_transforms(),
    )
    data = block.dataloaders(train + validation, bs=FASTAI_BATCH, num_workers=WORKERS)
    learner = vision_learner(data, ARCHITECTURE, metrics=accuracy, pretrained_cfg_overlay={"file": str(task.weights)})
    _check_weights(learner.model[0].model, task.weights)
    epochs = Epochs(learner.model)

    class Note(Callback):
        order = 60  # after the recorder

        def after_epoch(self) -> None:
            epochs.end(float(self.recorder.values[-1][-1]))

    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(task.epochs, cbs=Note())
        loader = data.test_dl(test, with_labels=True)
        return epochs.tested(lambda: float(learner.validate(dl=loader)[1]))


def plain(task: Task) -> list[dict[str, float]]:
    """The tutorial's loop: train, validate, step the schedule, keep the losses."""
    from torchvision import transforms

    torch.manual_seed(task.seed)
    normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    random = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), *normalize])
    fixed = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIDE), *normalize])
    loaders = {
        part: DataLoader(
            Pictures(task.items[part], random if part == "train" else fixed), PLAIN_BATCH, shuffle=part == "train",
            num_workers=WORKERS,
        )
        for part in PARTS
    }  # fmt: skip
    model = _pretrained(task)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    epochs = Epochs(model)
    for _ in range(task.epochs):
        model.train()
        running = 0.0
        for x, target in loaders["train"]:
            optimizer.zero_grad()
            loss = criterion(model(x), target)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(x)
        schedule.step()
        epochs.end(_accuracy(model, loaders["val"]))
    return epochs.tested(lambda: _accuracy(model, loaders["test"]))


def timm_script(task: Task) -> list[dict[str, float]]:
    """timm's transforms, loader, optimiser, schedule and loss, put together as its training script does."""
    from timm.data import create_loader, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    torch.manual_seed(task.seed)
    model = _pretrained(task)
    config = resolve_data_config({}, model=model)
    config = {name: config[name] for name in ("input_size", "interpolation", "mean", "std", "crop_pct")}
    loaders = {
        part: create_loader(
            Pictures(task.items[part]), batch_size=TIMM_BATCH, is_training=part == "train", num_workers=WORKERS,
            use_prefetcher=False, persistent_workers=False, **config,
        )
        for part in PARTS
    }  # fmt: skip
    criterion = LabelSmoothingCrossEntropy(TIMM_SMOOTHING)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=TIMM_RATE, weight_decay=TIMM_DECAY)
    steps = len(loaders["train"])
    schedule = CosineLRScheduler(
        optimizer, t_initial=task.epochs * steps, warmup_t=TIMM_WARMUP * steps, warmup_lr_init=TIMM_RATE / 100,
        t_in_epochs=False,
    )  # fmt: skip
    epochs = Epochs(model)
    for epoch in range(task.epochs):
        model.train()
        for step, (x, target) in enumerate(loaders["train"], start=epoch * steps):
            optimizer.zero_grad()
            criterion(model(x), target).backward()
            optimizer.step()
            schedule.step_update(step + 1)
        epochs.end(_accuracy(model, loaders["val"]))
    return epochs.tested(lambda: _accuracy(model, loaders["test"]))


class Pictures(Dataset[tuple[Tensor, int]]):
    """Files, decoded each time they are asked for and passed through a transform, which timm's loader sets itself."""

    def __init__(self, items: Items, transform: Callable[[Image.Image], Tensor] | None = None) -> None:
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        path, label = self.items[place]
        assert self.transform is not None
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), label


def _pretrained(task: Task) -> Any:
    model = timm.create_model(
        ARCHITECTURE, pretrained=True, num_classes=len(task.classes), pretrained_cfg_overlay={"file": str(task.weights)}
    )
    _check_weights(model, task.weights)
    return model


def _check_weights(model: nn.Module, weights: Path) -> None:
    """All of the file's tensors stand in the model, but for the old classifier's."""
    held = model.state_dict()
    for name, tensor in load_file(weights).items():
        assert name.startswith("classifier.") or torch.equal(held[name], tensor), f"{name} was not loaded"


def _accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> float:
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, target in loader:
            right += int((model(x).argmax(dim=1) == target).sum())
            total += len(target)
    return right / total


WAYS: Final = {"fastai": fastai, "plain": plain, "timm": timm_script}


def main() -> None:
    """Run one way with one seed and print its epochs."""
    way, seed, pictures, split, weights, epochs = sys.argv[1:]
    listed = read_split(Path(split))
    classes = tuple(sorted({picture.label for picture in listed}))
    items: dict[str, Items] = {part: [] for part in PARTS}
    for picture in listed:
        items[picture.part].append((str(Path(pictures) / picture.path), classes.index(picture.label)))
    notes = WAYS[way](Task(items, classes, Path(weights), int(seed), int(epochs)))
    libraries = ("torch", "torchvision", "timm", *(("fastai",) if way == "fastai" else ()))
    versions = {name: version(name) for name in libraries}
    print(json.dumps({"epochs": notes, "versions": versions}))


if __name__ == "__main__":
    main()
