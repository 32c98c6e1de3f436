"""One whole run on a network of our own, against torchvision's: the same weights must give the same features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torchvision import models

from graft.classifier.artefact import Classifier, load
from graft.classifier.rebuild import rebuild
from graft.features.trunk import FEATURES, open_trunk
from graft.jobs.info import run as info
from graft.jobs.train import run
from graft.models.catalog import create
from graft.models.weights import find_source
from graft.runtime.onnx import OnnxRunner
from graft.training.recipe.settings import Recipe
from models.drawn import draw_norms, drawn_pictures


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """torchvision's ResNet-18 with drawn weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = models.resnet18()
    draw_norms(network, drawn_pictures((8, 3, 64, 64)), seed=4)
    return network


@pytest.fixture(scope="module")
def home(theirs: nn.Module, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `weights.pt` as torchvision saves them, and `model` trained from them on 24 digits."""
    folder = tmp_path_factory.mktemp("ours")
    torch.save(theirs.state_dict(), folder / "weights.pt")
    for digit in ("0", "1"):
        (folder / "photos" / digit).mkdir(parents=True)
        for picture in sorted((digits / digit).glob("*.png"))[:12]:
            shutil.copy(picture, folder / "photos" / digit)
    settings = Recipe(
        strategy="probe", probe_on="top", network="resnet18", weights=folder / "weights.pt", cache=folder / "cache"
    )
    run(folder / "photos", folder / "model", settings)
    return folder


@pytest.fixture(scope="module")
def classifier(home: Path) -> Classifier:
    return load(home / "model")


def normalised(classifier: Classifier) -> torch.Tensor:
    """The golden pictures as torchvision takes them: (N, 3, 224, 224), ImageNet's mean and deviation taken out."""
    pixels = np.stack([golden.pixels for golden in classifier.golden()])  # (N, 224, 224, 3)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.from_numpy(((pixels / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy())


def test_golden_pictures_are_reproduced(home: Path, classifier: Classifier) -> None:
    assert len(classifier.golden()) == 2
    info(home / "model", verify=True)


def test_the_manifest_names_our_network_and_the_weights_ours(classifier: Classifier) -> None:
    manifest = classifier.manifest
    assert (manifest.network, manifest.builder, manifest.architecture) == ("resnet18", "graft", "resnet18")
    assert manifest.head.layer == "classifier.fc"
    assert set(classifier.tensors()) == set(create("resnet18").state_dict())
    assert manifest.record.stages == ("conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x")


def test_features_and_logits_are_those_of_torchvision(home: Path, classifier: Classifier, theirs: nn.Module) -> None:
    without_head = nn.Sequential(*list(theirs.children())[:-1], nn.Flatten())
    with torch.inference_mode():
        expected = without_head(normalised(classifier)).numpy()  # (N, 512)
    pixels = np.stack([golden.pixels for golden in classifier.golden()])
    trunk = open_trunk(find_source("resnet18", home / "weights.pt"), home / "cache")
    given = OnnxRunner(trunk.graph)(pixels)[:, trunk.columns(FEATURES)]
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4 * expected.std())
    tensors = load_file(home / "model" / "model.safetensors")
    logits = expected @ tensors["classifier.fc.weight"].T + tensors["classifier.fc.bias"]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    given = OnnxRunner(classifier.graph)(pixels)
    np.testing.assert_allclose(given, exponents / exponents.sum(axis=1, keepdims=True), atol=1e-4)


def test_the_rebuilt_network_gives_the_golden_probabilities(classifier: Classifier) -> None:
    with torch.inference_mode():
        given = torch.softmax(rebuild(classifier)(normalised(classifier)), dim=1).numpy()
    np.testing.assert_allclose(given, [golden.probabilities for golden in classifier.golden()], atol=1e-4)
