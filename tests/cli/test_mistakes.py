"""What a user gets wrong first: one line that says what to do, and an exit status, never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Graft = Callable[..., subprocess.CompletedProcess[str]]
PROGRESS = ("reading pictures", "preparing ", "decoding ")  # how its lines begin
SCRATCH = "train photos --out new --strategy scratch --network lenet5 --no-gate"


@pytest.fixture
def home(tmp_path: Path, digits: Path, model: Path) -> Path:
    """The folder that the command runs in, with good and bad inputs."""
    (tmp_path / "photos").symlink_to(digits)
    shutil.copytree(model, tmp_path / "model", copy_function=os.link)
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    shutil.copy(digits / "0" / "00.png", tmp_path / "flat")
    shutil.copytree(digits / "0", tmp_path / "one" / "0")
    for name in ("cat", "dog"):
        (tmp_path / "notes" / name).mkdir(parents=True)
        (tmp_path / "notes" / name / "read.txt").write_text("no picture")
        (tmp_path / "fake" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "fake" / name / f"{number}.jpg").write_text(f"text {number} {name}")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("train nowhere --out new", 1, "nothing there"),
        ("train photoss --out new", 1, "did you mean 'photos'?"),
        ("train empty --out new", 1, "empty folder"),
        ("train flat --out new", 1, "sort them into folders"),
        ("train one --out new", 1, "at least two classes"),
        ("train notes --out new", 1, "not a picture by its name"),
        ("train fake --out new", 1, "no picture of cat, dog could be read"),
        ("train photos", 2, "--out"),
        ("trian photos --out new", 2, "'train'"),
        ("train photos --out new --netwrk x", 2, "--network"),
        ("train photos --out new --network efficientnet-lite9", 2, "did you mean 'efficientnet-lite"),
        ("train photos --out new --fit squish", 2, "did you mean 'squash'?"),
        ("train photos --out new --class-weights balance", 2, "did you mean 'balanced'?"),
        ("train photos --out new --on-bad-image stop", 2, "skip, strict"),
        ("train photos --out new --test-fraction 2", 2, "between 0 and 1, got 2.0"),
        ("train photos --out new --test-fraction nan", 2, "between 0 and 1"),
        ("train photos --out new --seed z", 2, "--seed"),
        ("train photos --out new --device gpu", 2, "auto, cpu or cuda"),
        ("train photos --out new --weights nofile", 1, "--weights needs a file"),
        ("train photos --out new --cache flat/00.png", 1, "the cache cannot be written"),
        ("train photos --out flat/00.png/new", 1, "cannot be written"),
        ("train photos --out model", 2, "--force"),
        ("train photos --out one --force", 2, "one is no model"),
        ("train one --out one/new", 2, "inside the pictures' own folder"),
        ("train photos --csv nothing.csv --out new", 1, "nothing.csv"),
        ("train photos --out new --epochs 3 --strategy probe", 2, "nothing is trained for a probe"),
        ("train photos --out new --size 64", 2, "add --strategy scratch"),
        ("train photos --out new --probe-on blocks.9", 2, "did you mean"),
        ("train photos --out new --strategy scrach", 2, "finetune, scratch, got 'scrach'"),
        ("train photos --out new --strategy finetune --freeze blocks.66", 2, "did you mean 'blocks."),
        ("train photos --out new --strategy finetune --freeze conv_head", 2, "none or a stage below the last, stem"),
        ("train photos --out new --strategy probe --freeze none", 2, "add --strategy finetune"),
        ("train photos --out new --strategy probe --resume", 2, "resume: nothing is trained for a probe"),
        ("train photos --out new --strategy finetune --resume", 2, "no stopped run to resume"),
        ("train photos --out new --strategy finetune --activation tanh", 2, "activation: a pretrained network keeps"),
        ("train photos --out new --normalization none", 2, "normalization: a pretrained network keeps its own"),
        ("train photos --out new --strategy finetune --size 96", 2, "add --strategy scratch"),
        ("train photos --out new --strategy finetune --settings no.toml", 2, "--settings needs a TOML file"),
        (f"{SCRATCH} --rate=-1", 2, "rate must be above 0 and finite, got -1.0"),
        (f"{SCRATCH} --rate nan", 2, "rate must be above 0 and finite, got nan"),
        (f"{SCRATCH} --rate inf", 2, "rate must be above 0 and finite, got inf"),
        (f"{SCRATCH} --batch 0", 2, "batch must be 1 or more pictures, got 0"),
        (f"{SCRATCH} --batch 500", 2, "batch must be at most the"),
        (f"{SCRATCH} --optimizer adm", 2, "did you mean 'adam'?"),
        (f"{SCRATCH} --schedule cosin", 2, "did you mean 'cosine'?"),
        (f"{SCRATCH} --augment flp", 2, "did you mean 'flip'?"),
        (f"{SCRATCH} --activation rleu", 2, "did you mean 'relu'?"),
        (f"{SCRATCH} --budget 5x", 2, "90s, 5m or 1.5h"),
        (f"{SCRATCH} --settings nothing.toml", 2, "--settings needs a TOML file"),
        (f"{SCRATCH} --resume", 2, "no stopped run to resume"),
        (f"{SCRATCH} --size 16", 2, "32 pixels only"),
        ("curves nowhere", 1, "nowhere"),
        ("curves model", 1, "not trained by the loop"),
        ("schedule cosin", 2, "did you mean 'cosine'?"),
        ("augment nothing.png", 1, "nothing.png"),
        ("check --network lenet6 --gradients", 2, "did you mean 'lenet5'?"),
        ("audit nowhere", 1, "nothing there"),
        ("audit photos --model empty", 1, "holds no model.json"),
        ("predict nomodel flat", 1, "is not a folder"),
        ("predict model nothing.png", 1, "nothing there"),
        ("predict model *.webp", 1, "nothing there"),
        ("predict model empty", 1, "with pictures, found none"),
        ("predict model flat --top 5", 2, "between 1 and the 4 classes"),
        ("predict model flat --top 0", 2, "--top"),
        ("predict model flat --json --csv", 2, "exclude each other"),
        ("predict model", 2, "Missing argument"),
        ("evaluate model nowhere", 1, "nothing there"),
        ("info model/model.json", 1, "is not a folder"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(home: Path, graft: Graft, arguments: str, status: int, words: str) -> None:
    ran = graft(*arguments.split())
    said = [line for line in ran.stderr.splitlines() if not line.startswith(PROGRESS)]
    assert (ran.returncode, ran.stdout, len(said)) == (status, "", 1), ran.stderr
    assert said[0].startswith("graft: ")
    assert words in said[0]
    assert not list(home.glob("new*"))
    assert not list(home.glob(".new.*"))


@pytest.mark.usefixtures("home")
def test_a_file_of_weights_that_is_none(graft: Graft) -> None:
    ran = graft("train", "photos", "--out", "new", "--weights", "flat/00.png")
    said = [line for line in ran.stderr.splitlines() if line.startswith("graft: ")]
    assert ran.returncode == 1
    assert len(said) == 1
    assert "is not a file of weights" in said[0]
    assert "Traceback" not in ran.stderr


@pytest.mark.usefixtures("home")
def test_cuda_without_a_gpu(graft: Graft) -> None:
    hidden = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''; "
    ran = graft("train", "photos", "--out", "new", "--device", "cuda", python=hidden)
    assert ran.returncode == 2
    assert ran.stderr.startswith("graft: --device cuda needs an NVIDIA GPU")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("limit", [1_000, 1_000_000])
def test_a_full_disk_leaves_nothing_half_written(home: Path, graft: Graft, limit: int) -> None:
    """No file may grow beyond `limit` bytes: the weights of the model always would."""
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
    ran = graft("train", "photos", "--out", "new", python=full)
    said = [line for line in ran.stderr.splitlines() if line.startswith("graft: ")]
    assert ran.returncode == 1
    assert len(said) == 1
    assert "cannot be written" in said[0]
    assert "Traceback" not in ran.stderr
    assert not list(home.glob("new*"))
    assert not list(home.glob(".new*"))
