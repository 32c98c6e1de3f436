"""What holds for every kind of head: a new kind in KINDS is held to all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, recall_score

from graft.features.rows import Floats, Rows
from graft.features.trunk import TOP
from graft.heads.choose import KINDS
from graft.heads.folds import Labels
from graft.heads.head import LOGISTIC, Fitted, Head, logits
from graft.heads.probe import fit_probe
from graft.models.build import load_weights
from graft.models.catalog import create
from graft.models.heads import with_head
from graft.models.network import Built
from graft.runtime.graph import with_head as grown
from heads.problems import in_memory

WIDTH, CLASSES = 64, 3  # the features of resnet20_cifar
LAYER = "classifier.fc"


def logistic(rows: Rows, labels: Labels, fold: Labels, *, num_classes: int, class_weights: Floats | None) -> Fitted:
    probe = fit_probe(rows, labels, fold, num_classes=num_classes, class_weights=class_weights)
    return Fitted(Head(LOGISTIC, probe.weight, probe.bias), np.log(probe.held_out), f"strength {probe.strength:g}")


FITS: dict[str, Callable[..., Fitted]] = {LOGISTIC: logistic} | {kind.name: kind.fit for kind in KINDS}
every_kind = pytest.mark.parametrize("kind", FITS)


def clouds(count: int, apart: float, *, seed: int = 0) -> tuple[Floats, Labels, Labels]:
    """Round clouds around fixed means, `apart` standard deviations of each feature in length; labels; folds."""
    draw = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(CLASSES, WIDTH)) * apart
    labels = draw.permutation(np.arange(count) % CLASSES)
    return (means[labels] + draw.normal(size=(count, WIDTH))).astype(np.float32), labels, np.arange(count) % 5


def fitted(kind: str, x: Floats, labels: Labels, fold: Labels, weights: Floats | None = None) -> Fitted:
    return FITS[kind](in_memory(x), labels, fold, num_classes=CLASSES, class_weights=weights)


@every_kind
def test_it_tells_clouds_apart_that_it_has_not_seen(kind: str) -> None:
    """The means are √2 · 0.5 · 8 standard deviations apart: the best rule errs on 1 of 400."""
    found = fitted(kind, *clouds(300, 0.5))
    x, labels, _ = clouds(600, 0.5, seed=1)
    assert accuracy_score(labels, found.head.logits(x).argmax(axis=1)) > 0.97


@every_kind
def test_held_out_logits_promise_what_new_rows_get(kind: str) -> None:
    x, labels, fold = clouds(400, 0.12)
    found = fitted(kind, x, labels, fold)
    new, new_labels, _ = clouds(4000, 0.12, seed=1)

    def loss(scores: Floats, of: Labels) -> float:
        return float(-log_softmax(scores, axis=1)[np.arange(len(of)), of].mean())

    assert loss(found.held_out, labels) == pytest.approx(loss(found.head.logits(new), new_labels), abs=0.12)
    assert loss(found.held_out, labels) < np.log(CLASSES)


@every_kind
def test_held_out_rows_have_no_say_in_their_own_answer(kind: str) -> None:
    """Where labels are drawn at random there is nothing to know: a fit that saw the row would be right too often."""
    x, _, fold = clouds(600, 0.0)
    labels = np.random.default_rng(5).permutation(np.arange(600) % CLASSES)
    right = fitted(kind, x, labels, fold).held_out.argmax(axis=1) == labels
    assert abs(right.mean() - 1 / CLASSES) < 4 * np.sqrt(2 / 9 / 600)


@every_kind
def test_its_bits_repeat(kind: str) -> None:
    one, other = (fitted(kind, *clouds(200, 0.2)) for _ in range(2))
    assert one.held_out.tobytes() == other.held_out.tobytes()
    assert {name: array.tobytes() for name, array in one.head.tensors(LAYER).items()} == {
        name: array.tobytes() for name, array in other.head.tensors(LAYER).items()
    }


@every_kind
def test_weights_of_classes_bring_the_rare_class_back(kind: str) -> None:
    x, labels, _ = clouds(900, 0.2)
    keep = (labels != 2) | (np.arange(900) % 3 == 0)
    x, labels, fold = x[keep], labels[keep], np.arange(keep.sum()) % 5
    new, new_labels, _ = clouds(3000, 0.2, seed=1)
    balanced = (len(labels) / (CLASSES * np.bincount(labels))).astype(np.float32)
    plain, weighted = (
        recall_score(new_labels, fitted(kind, x, labels, fold, w).head.logits(new).argmax(axis=1), average=None)
        for w in (None, balanced)
    )
    assert weighted[2] > plain[2] + 0.1


@every_kind
def test_another_order_of_the_classes_is_another_order_of_the_logits(kind: str) -> None:
    x, labels, fold = clouds(300, 0.2)
    order = np.array([2, 0, 1])
    found, turned = fitted(kind, x, labels, fold), fitted(kind, x, order[labels], fold)
    new, _, _ = clouds(200, 0.2, seed=1)
    one, other = (log_softmax(h.head.logits(new), axis=1) for h in (found, turned))
    np.testing.assert_allclose(other[:, order], one, atol=0.02)


@every_kind
def test_saved_and_rebuilt_in_pytorch_it_gives_the_same_logits(kind: str) -> None:
    head = fitted(kind, *clouds(300, 0.2)).head
    network = create("resnet20_cifar", num_classes=CLASSES, seed=0)
    state = network.state_dict()
    whole = Built(network, {name: name for name in state}, 32, (0.5,) * 3, (0.5,) * 3, "bilinear")
    own = {name: torch.from_numpy(np.asarray(array)) for name, array in head.tensors(LAYER).items()}
    tensors = {**state, **own}
    rebuilt = with_head(whole, kind, TOP, tensors, layer=LAYER, file="the file")
    load_weights(rebuilt, tensors, name="the file")
    x, _, _ = clouds(50, 0.2, seed=1)
    with torch.inference_mode():
        found = rebuilt.network.classifier(torch.from_numpy(x)[:, :, None, None])  # maps of one pixel
    np.testing.assert_allclose(found.numpy(), head.logits(x), rtol=1e-4, atol=1e-4)


@every_kind
def test_in_onnx_it_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    head = fitted(kind, *clouds(300, 0.2)).head
    graph = helper.make_graph(
        [helper.make_node("Identity", ["given"], ["features"])],
        "trunk",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTH])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "trunk.onnx"
    )
    session = onnxruntime.InferenceSession(grown(tmp_path / "trunk.onnx", head, ("a", "b", "c")))
    x, _, _ = clouds(50, 0.2, seed=1)
    (found,) = session.run(["logits"], {"given": x})
    np.testing.assert_allclose(found, head.logits(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits(in_memory(x), head), head.logits(x), rtol=1e-6, atol=1e-6)
