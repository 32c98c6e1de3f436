"""`graft info`: what a model is, how good it is and how it was made."""

from __future__ import annotations

from pathlib import Path

from graft.classifier.artefact import load
from graft.classifier.manifest import Manifest


def run(model: Path, *, verify: bool = False) -> Manifest:
    """The manifest of a model folder, once everything in the folder has been verified.

    verify: also replay the golden pictures. Raises BadModel when anything is amiss.
    """
    classifier = load(model)
    if verify:
        from graft.classifier.model import Model

        Model(classifier, device="cpu").verify()
    return classifier.manifest
