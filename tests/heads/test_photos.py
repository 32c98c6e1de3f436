"""The RBF machine on real photos: what the exported graph says of pixels is what was fitted on rounded features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from graft.data.decode import decode, read_picture
from graft.data.preprocess import fit_picture
from graft.data.sources.scan import scan
from graft.features.trunk import FEATURES, open_trunk
from graft.heads.head import probabilities
from graft.heads.rbf import fit_rbf
from graft.models.weights import find_source
from graft.runtime.graph import with_head
from graft.runtime.onnx import OnnxRunner
from heads.problems import in_memory

EACH, FRESH = 20, 5  # photos of each class that are fitted, and that are new to the head


def test_the_graph_gives_pixels_the_probabilities_that_the_head_gives_features(
    data_kit: Callable[[str], Path], session_cache: Path
) -> None:
    trunk = open_trunk(find_source("efficientnet-lite0"), session_cache)
    photos = scan(data_kit("trashnet"))
    labels = np.array([sample.label for sample in photos.samples])
    some = np.concatenate([np.flatnonzero(labels == label)[: EACH + FRESH] for label in range(6)])
    preprocess = trunk.preprocess("squash")
    pixels = [
        fit_picture(decode(read_picture(path), name=path).image, preprocess)
        for path in (photos.samples[i].path for i in some)
    ]
    run = OnnxRunner(trunk.graph, threads=2)
    ladder = np.concatenate([run(one[None]) for one in pixels])
    x = ladder[:, trunk.columns(FEATURES)].astype(np.float16).astype(np.float32)  # as the store keeps them
    seen = np.tile(np.arange(EACH + FRESH) < EACH, 6)
    own = labels[some[seen]]
    fitted = fit_rbf(in_memory(x[seen]), own, np.arange(len(own)) % 5, num_classes=6)
    assert (fitted.held_out.argmax(axis=1) == own).mean() > 0.6  # one class in six: 0.17
    head = fitted.head
    graph = OnnxRunner(with_head(trunk.graph, head, photos.classes), threads=2)
    from_pixels = np.concatenate([graph(pixels[i][None]) for i in np.flatnonzero(~seen)])
    assert np.median(from_pixels.max(axis=1)) < 0.99  # not saturated, where rounding would not show
    np.testing.assert_allclose(from_pixels, probabilities(in_memory(x[~seen]), head), atol=1e-3)
