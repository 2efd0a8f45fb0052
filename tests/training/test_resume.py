"""Runs that are killed and go on.

``GFNET_KILLS=10 pytest tests/training/test_resume.py -k killed -s`` kills at ten random moments in
place of two, and at other ones with another ``GFNET_KILL_SEED``.
"""

import csv
import os
import random
import signal

import numpy as np
import pytest
import torch

from gfnet_env.runs import Run
from gfnet_env.training import train_classifier


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny.train(run)
    torch.set_num_threads(threads)
    return run


@pytest.fixture(autouse=True)
def _one_thread():
    # The order of sums must be that of the other process.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def killed(tiny, run, read, seconds):
    """Begin or resume a run that is killed; what it had in its checkpoint."""
    code = tiny.launch(run, "--resume", "--kill-at", read, seconds)
    found = sorted(path.stem for path in (run / "checkpoints").glob("*.json"))
    return code, found[-1] if found else None


def weights(run):
    return (run / "network.safetensors").read_bytes()


@pytest.mark.parametrize("number", range(int(os.environ.get("GFNET_KILLS", "2")) // 2))
def test_a_run_killed_twice_ends_with_the_same_weights(tiny, uninterrupted, tmp_path, number):
    rng = random.Random(f"{os.environ.get('GFNET_KILL_SEED', '0')} {number}")
    run = tmp_path / "run"
    for _ in range(2):
        read, seconds = rng.randint(1, 9), rng.uniform(0, 0.1)
        code, checkpoint = killed(tiny, run, read, seconds)
        print(f"killed {seconds:.3f} s after read {read}: exit {code}, checkpoint {checkpoint}")
        assert code == -9
    tiny.train(run, resume=True)
    assert weights(run) == weights(uninterrupted)
    assert tiny.losses(run) == tiny.losses(uninterrupted)
    assert not (run / "checkpoints").exists()
    print("the same weights and losses as uninterrupted")


@pytest.fixture
def interrupted(tiny, tmp_path):
    """A run that has stopped in its second epoch, with its checkpoints."""
    images = tiny.images()

    def count(indices):
        images.reads = getattr(images, "reads", 0) + 1
        if images.reads == 11:
            raise KeyboardInterrupt

    images.prefetch = count
    sets = {"train": images, "val": tiny.images(count=10), "test": tiny.images(count=10)}
    with pytest.raises(KeyboardInterrupt):
        train_classifier(tiny.config(tmp_path / "run", log=("csv",)), sets)
    return tmp_path / "run"


def test_a_run_goes_on_within_an_epoch(tiny, uninterrupted, interrupted):
    found = sorted(int(path.stem) for path in (interrupted / "checkpoints").glob("*.json"))
    assert len(found) == 2
    assert found[-1] % 6
    moved = interrupted.rename(interrupted.with_name("moved"))
    with (moved / "log.csv").open("a") as file:
        # A killed process.
        file.write("9999,train/loss,0.5\n17,trai")
    tiny.train(moved, resume=True, checkpoint_minutes=10.0, log=("csv",))
    assert weights(moved) == weights(uninterrupted)
    assert tiny.losses(moved) == tiny.losses(uninterrupted)
    with (moved / "log.csv").open(newline="") as file:
        lines = [each for each in csv.DictReader(file) if each["name"] == "train/loss"]
    found = [(int(each["step"]), np.float32(each["value"])) for each in lines]
    assert found == tiny.losses(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_asked_to_end_leaves_a_checkpoint(tiny, uninterrupted, tmp_path, number):
    images, run = tiny.images(), tmp_path / "run"
    reads = iter(range(11))
    images.prefetch = lambda indices: os.kill(os.getpid(), number) if next(reads, 0) == 10 else None
    sets = {"train": images, "val": tiny.images(count=10), "test": tiny.images(count=10)}
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"with --resume goes on from step \d+ \(.*run\)"):
        train_classifier(tiny.config(run, checkpoint_minutes=10.0), sets)
    assert signal.getsignal(number) is before
    tiny.train(run, resume=True)
    assert weights(run) == weights(uninterrupted)


def test_who_is_asked_twice_ends_at_once(tmp_path):
    run = Run(tmp_path)
    with run.interruptible():
        assert not run.checkpoint_is_due
        signal.raise_signal(signal.SIGINT)
        assert run.checkpoint_is_due
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_another_configuration_is_named(tiny, interrupted):
    with pytest.raises(ValueError, match=r"run was begun with epochs=3, not 4"):
        tiny.train(interrupted, resume=True, epochs=4)
    with pytest.raises(ValueError, match=r"begun with frozen=\[\], not \['blocks.0'\]"):
        tiny.train(interrupted, resume=True, frozen=("blocks.0",))
    with pytest.raises(FileExistsError, match="already exists"):
        tiny.train(interrupted)
    fewer = {name: tiny.images(count=10) for name in ("train", "val", "test")}
    with pytest.raises(ValueError, match="begun on 44 training images, not 10"):
        train_classifier(tiny.config(interrupted, resume=True), fewer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 19}, r"its step must be in \[0, 18\], not 19"),
        ({"step": "3"}, r"its step must be a whole number, not '3'"),
        ({"model": {}}, r"Missing key"),
        ({"model": None}, r"dict-like"),
        ({"images": None}, r"begun on None training images, not 44"),
        (None, r"there is no 'images'"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tiny, interrupted, changes, message):
    checkpoints = Run(interrupted).checkpoints
    state = checkpoints.load(torch.device("cpu"))
    checkpoints.save(state["step"], {} if changes is None else state | changes)
    with pytest.raises(ValueError, match=rf"last checkpoint in .* does not fit: (?s:.*){message}"):
        tiny.train(interrupted, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_offered(tiny, uninterrupted, interrupted):
    before, latest = sorted((interrupted / "checkpoints").glob("*.pt"))
    content = bytearray(latest.read_bytes())
    content[1000] ^= 16
    latest.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{latest} is damaged.*{before} before it is whole"):
        tiny.train(interrupted, resume=True)
    latest.with_suffix(".json").unlink()
    tiny.train(interrupted, resume=True)
    assert weights(interrupted) == weights(uninterrupted)


def test_a_complete_run_says_so(tiny, uninterrupted, capsys):
    before = weights(uninterrupted)
    network = tiny.train(uninterrupted, resume=True)
    assert "is complete; there is nothing to resume" in " ".join(capsys.readouterr().out.split())
    assert weights(uninterrupted) == before
    assert not network.training


def test_overwriting_begins_anew(tiny, uninterrupted, interrupted):
    tiny.train(interrupted, overwrite=True)
    assert weights(interrupted) == weights(uninterrupted)


def test_nothing_to_resume_is_begun(tiny, uninterrupted, tmp_path):
    (tmp_path / "run").mkdir()
    # What a kill leaves that comes while the first file is written.
    (tmp_path / "run" / ".7-abc-config.json").write_text("{")
    tiny.train(tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(uninterrupted)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds no run to resume"):
        tiny.train(tmp_path / "other", resume=True)
