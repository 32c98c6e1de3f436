"""How fast graft and its peers train from a folder of pictures, in turns, in one run.

python -m benchmarks.training_peers PYTHON            (PYTHON: one that also has fastai and keras; 15 minutes)
python benchmarks/training_peers.py WHO NETWORK FOLDER                    (one measurement, run by the line above)

WHO: graft, plain (the loop of PyTorch examples), fastai or keras (on its torch backend), each as its documentation
shows it, batch 64, SGD with momentum 0.9, pictures flipped at random, two workers where it has workers; graft chooses
its precision itself, the others use float32, as they do unless told. What is timed is an epoch after a first one. The
peers read and decode the files in every epoch; graft decodes them once, which is given apart. fastai and the plain loop
train graft's own networks; Keras has its own MobileNet, and the other two are written here.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH, RATE, MOMENTUM, WORKERS = 64, 0.01, 0.9, 2
SIDES = {"lenet5": 32, "resnet18": 64, "mobilenet": 128}
PICTURES = {"lenet5": 2_000, "resnet18": 384, "mobilenet": 192}
TURNS = 3


def graft(network: str, folder: Path) -> dict[str, float]:
    """graft's decode into the store, then its loop."""
    import numpy as np

    from graft.data.preprocess import Preprocess
    from graft.data.sources.scan import scan
    from graft.disk.table import Store
    from graft.features.extract import decode_once
    from graft.models.catalog import create
    from graft.training.loop.fit import fit
    from graft.training.loop.history import read_history
    from graft.training.loop.pictures import from_array
    from graft.training.recipe.normalize import channel_statistics
    from graft.training.recipe.settings import Recipe

    side, grey = SIDES[network], network == "lenet5"
    settings = Recipe(strategy="scratch", epochs=2, batch=BATCH, optimizer="momentum", rate=RATE, momentum=MOMENTUM,
                                schedule="constant", augment="flip", weight_decay=0.0)  # fmt: skip
    collection = scan(folder)
    with tempfile.TemporaryDirectory() as work:
        started = time.perf_counter()
        decoded = decode_once(collection.samples, Preprocess(side, "squash", "bilinear"), Store(Path(work) / "store"))
        seconds = time.perf_counter() - started
        pixels = decoded.pixels(np.arange(len(decoded.samples)))(np.arange(len(decoded.samples)))
        train = from_array(pixels[..., :1] if grey else pixels, np.array([s.label for s in decoded.samples]))
        model = create(network, num_classes=len(collection.classes), seed=0)
        outcome = fit(model, train, None, settings, normalization=channel_statistics(train), folder=Path(work) / "run")
        first, second = read_history(Path(work) / "run").epochs
    return {
        "pictures_per_second": len(train) / (second.seconds - first.seconds),
        "decode_seconds": seconds,
        "bfloat16": float(outcome.precision == "bfloat16"),
    }


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


def one(who: str, network: str, folder: Path) -> None:
    """Measure one of them and print it."""
    measured = {"graft": graft, "plain": plain, "fastai": fastai, "keras": keras}[who](network, folder)
    print(json.dumps(measured if isinstance(measured, dict) else {"pictures_per_second": measured}))


def all_in_turns(python: str) -> None:
    """Every network, graft and each peer in turns, and the medians."""
    from benchmarks.machine import keep

    for network, count in PICTURES.items():
        found: dict[str, list[dict[str, float]]] = {who: [] for who in ("graft", "plain", "fastai", "keras")}
        with tempfile.TemporaryDirectory() as work:
            _write_pictures(Path(work) / "pictures", network, count)
            for _ in range(TURNS):
                for who, values in found.items():
                    done = subprocess.run(
                        [python, __file__, who, network, str(Path(work) / "pictures")],
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])}, capture_output=True, text=True,
                        check=True,
                    )  # fmt: skip
                    values.append(json.loads(done.stdout.strip().splitlines()[-1]))
        speeds = {who: [round(v["pictures_per_second"], 1) for v in values] for who, values in found.items()}
        median = {who: statistics.median(values) for who, values in speeds.items()}
        result: dict[str, Any] = {
            "pictures": count, "side": SIDES[network], "batch": BATCH, "pictures_per_second": speeds, "median": median,
            "graft_over": {who: round(median["graft"] / value, 2) for who, value in median.items() if who != "graft"},
            "graft_decode_seconds": [round(v["decode_seconds"], 2) for v in found["graft"]],
            "graft_in_bfloat16": [bool(v["bfloat16"]) for v in found["graft"]],
        }  # fmt: skip
        keep("training_peers", {network: result})


def _write_pictures(folder: Path, network: str, count: int) -> None:
    """Class folders: Fashion-MNIST as PNG files for LeNet-5, photos of trashnet for the others."""
    import numpy as np
    from PIL import Image

    from benchmarks.machine import DATA

    if network == "lenet5":
        with np.load(DATA / "fashion-mnist" / "fashion_mnist.npz") as file:
            for number, (pixels, label) in enumerate(zip(file["x_train"][:count], file["y_train"], strict=False)):
                (folder / str(label)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / str(label) / f"{number}.png")
        return
    classes = sorted(path for path in (DATA / "trashnet").iterdir() if path.is_dir())
    for home in classes:
        for file in sorted(home.iterdir())[: count // len(classes)]:
            (folder / home.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / home.name / file.name)


def main() -> None:
    """One measurement, or all of them."""
    if len(sys.argv) == 2:
        all_in_turns(sys.argv[1])
    else:
        one(sys.argv[1], sys.argv[2], Path(sys.argv[3]))


if __name__ == "__main__":
    main()
