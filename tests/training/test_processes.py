import json

import numpy as np
import pytest
import torch

from gfnet_env.images import ArrayImages
from gfnet_env.training.processes import Processes, Shares

CPU = torch.device("cpu")
# What would take its statistics of each process alone.
BATCH_NORM = tuple(f"blocks.{number}.1" for number in range(3))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("number", [32, 33, 39, 5])
def test_shares_make_up_the_batch(count, accumulation, number):
    images = ArrayImages(np.zeros((number, 3, 2, 2), dtype=np.uint8), np.arange(number) % 2)
    order = np.random.default_rng(0).permutation(number)
    ranks = [Shares(number, 16, accumulation, Processes(CPU, count, rank)) for rank in range(count)]
    steps = ranks[0].steps
    assert steps == -(-number // 16)
    parts = [list(shares.parts(images, order)) for shares in ranks]
    for own in parts:
        # Every process does as many things, of as many images, as any other.
        assert [len(part.batch.indices) for part in own] == [
            len(part.batch.indices) for part in parts[0]
        ]
        assert [part.is_last for part in own] == ([False] * (accumulation - 1) + [True]) * steps
        assert all(len(part.batch.indices) >= 2 for part in own)
    for step in range(steps):
        batch = order[16 * step : 16 * (step + 1)]
        shared = [part for own in parts for part in own[accumulation * step :][:accumulation]]
        counted = [part.batch.indices[: part.counted] for part in shared]
        assert sorted(np.concatenate(counted)) == sorted(batch)
        assert {part.total for part in shared} == {len(batch)}
    later = list(ranks[-1].parts(images, order, begin=steps - 1))
    expected = parts[-1][accumulation * (steps - 1) :]
    assert len(later) == len(expected)
    for part, other in zip(later, expected, strict=True):
        assert (part.batch.indices == other.batch.indices).all()


def test_one_process_takes_the_batch_as_it_is():
    images = ArrayImages(np.zeros((7, 3, 2, 2), dtype=np.uint8), np.arange(7) % 2)
    order = np.array([6, 2, 4, 0, 1, 3, 5])
    parts = list(Shares(7, 3, 1, Processes(CPU)).parts(images, order))
    assert [part.batch.indices.tolist() for part in parts] == [[6, 2, 4], [0, 1, 3], [5, 6]]
    assert [part.counted for part in parts] == [3, 3, 1]


def test_a_batch_that_cannot_be_shared_evenly():
    with pytest.raises(ValueError, match="a batch of 16 cannot be shared evenly by 3 processes"):
        Shares(40, 16, 1, Processes(CPU, 3))
    with pytest.raises(ValueError, match="in 3 parts each; make batch_size a multiple of 6"):
        Shares(40, 16, 3, Processes(CPU, 2))


def test_two_processes_lose_what_one_does_and_a_killed_one_ends_the_job(tiny, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    tiny.train(alone, frozen=BATCH_NORM)
    # accelerate's launcher is this one where there are GPUs.
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    kill = ("--kill-at", 14, 0)
    changes = ("--set", f"frozen={json.dumps(BATCH_NORM)}")
    assert tiny.launch(shared, *kill, *changes, launcher=launcher) != 0
    before = tiny.losses(shared)
    assert 6 <= len(before) < 18
    print("loss of two processes, of one:")
    for (step, two), (_, one) in zip(before, tiny.losses(alone), strict=False):
        print(f"step {step}: {two:.7f} {one:.7f}")
    # It goes on, on one process as well as on two.
    tiny.train(shared, frozen=BATCH_NORM, resume=True)
    assert len(list((shared / "tensorboard").iterdir())) == 2
    for two, one in zip(tiny.losses(shared), tiny.losses(alone), strict=True):
        assert two == pytest.approx(one, abs=1e-4)
