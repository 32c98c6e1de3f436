"""How fast peers train: one of them, one network, one epoch after a warm one; prints pictures a second as JSON.

python benchmarks/training_peers.py PEER NETWORK FOLDER        (run by `python -m benchmarks.training speed`)

PEER: plain (the loop of PyTorch's own examples), fastai or keras (on its torch backend), each as its documentation
shows it, in float32, batch 64, SGD with momentum, two workers where it has workers. NETWORK: lenet5, resnet18 or
mobilenet. FOLDER: class folders of pictures, which are resized and flipped as each peer does it, on every epoch. fastai
and the plain loop train graft's own networks; Keras has its own MobileNet, the other two are written here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BATCH, RATE, MOMENTUM, WORKERS = 64, 0.01, 0.9, 2
SIDES = {"lenet5": 32, "resnet18": 64, "mobilenet": 128}


def plain(network: str, folder: Path) -> float:
    """PyTorch's image-classification example: ImageFolder, transforms, DataLoader, and a loop that reads the loss."""
    import torch
    from torch import nn
    from torchvision import datasets, transforms

    from graft.models.catalog import create

    side, grey = SIDES[network], network == "lenet5"
    steps = [transforms.Grayscale()] if grey else []
    steps += [transforms.Resize((side, side)), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    dataset = datasets.ImageFolder(folder, transforms.Compose([*steps, transforms.Normalize(0.5, 0.5)]))
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=WORKERS)
    model = create(network, num_classes=len(dataset.classes), seed=0).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    criterion = nn.CrossEntropyLoss()
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for pictures, labels in loader:
            loss = criterion(model(pictures), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # the example prints it
        seconds = time.perf_counter() - started
    return len(dataset) / seconds


def fastai(network: str, folder: Path) -> float:
    """fastai's Learner on an ImageDataLoaders.from_folder, its defaults but for the optimiser's momentum."""
    from fastai.optimizer import SGD
    from fastai.vision.all import (
        CategoryBlock,
        CrossEntropyLossFlat,
        DataBlock,
        Flip,
        ImageBlock,
        Learner,
        PILImageBW,
        RandomSplitter,
        Resize,
        get_image_files,
        parent_label,
    )

    from graft.models.catalog import create

    side, grey = SIDES[network], network == "lenet5"
    block = DataBlock(
        blocks=(ImageBlock(cls=PILImageBW) if grey else ImageBlock, CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=RandomSplitter(0.01, seed=0),
        item_tfms=Resize(side, method="squish"),
        batch_tfms=Flip(),
    )
    data = block.dataloaders(folder, bs=BATCH, num_workers=WORKERS)
    model = create(network, num_classes=len(data.vocab), seed=0)
    learner = Learner(
        data, model, loss_func=CrossEntropyLossFlat(), opt_func=lambda p, **kw: SGD(p, mom=MOMENTUM, **kw)
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, RATE)
        started = time.perf_counter()
        learner.fit(1, RATE)
    return len(data.train_ds) / (time.perf_counter() - started)


def keras(network: str, folder: Path) -> float:
    """Keras's fit on an image_dataset_from_directory held by PyDataset workers, on the torch backend."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras as k
    import numpy as np
    from PIL import Image

    side, grey = SIDES[network], network == "lenet5"
    classes = sorted(p.name for p in folder.iterdir())
    files = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    order = np.random.default_rng(0).permutation(len(files))

    class Batches(k.utils.PyDataset):  # type: ignore[misc,name-defined]
        def __len__(self) -> int:
            return -(-len(files) // BATCH)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            chosen = [files[i] for i in order[index * BATCH : (index + 1) * BATCH]]
            mode = "L" if grey else "RGB"
            pixels = [np.asarray(Image.open(file).convert(mode).resize((side, side))) for file, _ in chosen]
            x = np.stack(pixels).astype("float32") / 127.5 - 1
            return x[..., None] if grey else x, np.array([label for _, label in chosen])

    model = _KERAS[network](k, side, len(classes))
    model = k.Sequential([k.Input((side, side, 1 if grey else 3)), k.layers.RandomFlip("horizontal"), model])
    model.compile(
        optimizer=k.optimizers.SGD(RATE, momentum=MOMENTUM),
        loss=k.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = Batches(workers=WORKERS, use_multiprocessing=False, max_queue_size=10)
    model.fit(batches, epochs=1, verbose=0)
    started = time.perf_counter()
    model.fit(batches, epochs=1, verbose=0)
    return len(files) / (time.perf_counter() - started)


def _keras_lenet5(k: Any, side: int, classes: int) -> Any:
    layers = k.layers
    return k.Sequential([
        k.Input((side, side, 1)),
        layers.Conv2D(6, 5, activation="tanh"), layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh"), layers.AveragePooling2D(2),
        layers.Flatten(), layers.Dense(120, activation="tanh"), layers.Dense(84, activation="tanh"),
        layers.Dense(classes),
    ])  # fmt: skip


def _keras_resnet18(k: Any, side: int, classes: int) -> Any:
    layers = k.layers

    def block(x: Any, width: int, stride: int) -> Any:
        y = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(y))
        if stride > 1 or x.shape[-1] != width:
            x = layers.BatchNormalization()(layers.Conv2D(width, 1, strides=stride, use_bias=False)(x))
        return layers.ReLU()(layers.Add()([x, y]))

    given = k.Input((side, side, 3))
    x = layers.ReLU()(
        layers.BatchNormalization()(layers.Conv2D(64, 7, strides=2, padding="same", use_bias=False)(given))
    )
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        x = block(block(x, width, first), width, 1)
    return k.Model(given, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def _keras_mobilenet(k: Any, side: int, classes: int) -> Any:
    return k.applications.MobileNet(
        input_shape=(side, side, 3), weights=None, classes=classes, classifier_activation=None
    )


_KERAS = {"lenet5": _keras_lenet5, "resnet18": _keras_resnet18, "mobilenet": _keras_mobilenet}


def main() -> None:
    """Measure one peer and print it."""
    peer, network, folder = sys.argv[1:]
    measure = {"plain": plain, "fastai": fastai, "keras": keras}[peer]
    print(json.dumps({"peer": peer, "network": network, "pictures_per_second": measure(network, Path(folder))}))


if __name__ == "__main__":
    main()
