"""The network of a model folder, in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graft.classifier.artefact import MEAN_OFFSET, WEIGHTS, Classifier
from graft.errors import shown

if TYPE_CHECKING:
    from torch import nn


def rebuild(classifier: Classifier) -> nn.Module:
    """The network with the classifier's head and weights, in evaluation mode: its stages have the names they had.

    It takes (N, C, S, S) floats, normalised by the preprocessing's mean and std, C of which there are. Raises BadModel
    when the weights do not fit the architecture that the manifest names.
    """
    import torch

    from graft.models.build import bare, load_weights
    from graft.models.heads import with_head

    manifest, file = classifier.manifest, shown(classifier.folder / WEIGHTS)
    tensors = {
        name: torch.from_numpy(array.copy()) for name, array in classifier.tensors().items() if name != MEAN_OFFSET
    }
    built = bare(
        manifest.builder, manifest.architecture, num_classes=len(manifest.classes),
        activation=manifest.arguments.get("activation"),
    )  # fmt: skip
    head = manifest.head
    built = with_head(built, head.kind, head.reads, tensors, layer=head.layer, file=file)
    load_weights(built, tensors, name=file)
    return built.network
