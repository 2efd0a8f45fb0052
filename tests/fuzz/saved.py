"""Saved files and stores, damaged."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import save_file

from gfnet_agents.config import DEFAULT, PolicyConfig, complete
from gfnet_agents.learners import build_learner
from gfnet_env import EarlyExitGFNet, GlanceFocusNetwork
from gfnet_env.checkpoints import Checkpoints
from gfnet_env.encoders import build_encoder
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.exits import ExpectedGain
from gfnet_env.features.store import EntryStore
from gfnet_env.files import write_json
from gfnet_env.inference import calibrate
from gfnet_env.models import StaticConfig, StaticNetwork, load_static_networks
from gfnet_env.policies import load_policy, save_policy
from gfnet_env.runs import Run, save_config
from tests.fuzz.core import Input, target
from tests.fuzz.networks import tiny_gfnet, tiny_images, tiny_network
from tests.fuzz.values import damaged, edited

_ENTRIES, _WORDS = 12, 9
_INDICES = np.arange(2)


@dataclass(frozen=True)
class _Kind:
    """A kind of folder.

    Attributes:
        write: Writes it.
        read: Reads it: what must stay the same.
        told: The files that people may write themselves: their values may change the answer.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    told: tuple[str, ...] = ()


def _answers(gfnet: EarlyExitGFNet) -> list[Any]:
    found = gfnet(tiny_images(), _INDICES)
    budgets = None if gfnet.budgets is None else gfnet.budgets.points
    return [found.logits, found.locations, found.certainty, gfnet.thresholds, budgets]


def _write_assembled(folder: Path) -> None:
    gfnet = tiny_gfnet()
    calibrate(gfnet, tiny_images())
    gfnet.save(folder)


def _write_gain(folder: Path) -> None:
    gfnet = tiny_gfnet()
    gfnet.certainty = ExpectedGain(5, 2, sees_heat=True)
    gfnet.save(folder)


def _read_network(folder: Path) -> list[Any]:
    network = GlanceFocusNetwork.load(folder)
    views = tiny_images().overview(_INDICES, network.glance_view)
    return [network.begin(network.encode_overview(views), torch.tensor([[24, 32]] * 2)).logits]


def _write_static(folder: Path) -> None:
    torch.manual_seed(0)
    config = StaticConfig(encoder="compact:widths=[4],strides=[2]", num_classes=5, resolution=16)
    StaticNetwork(config).save(folder / "16")
    write_json(folder / "results.json", {"static": [{"resolution": 16}]})


def _read_static(folder: Path) -> list[Any]:
    found = []
    for network in load_static_networks(folder):
        side = network.view.size
        found.append(network(torch.arange(3 * side**2).view(1, 3, side, side).byte()))
    return found


def _read_policy(folder: Path) -> list[Any]:
    return [EarlyExitGFNet(tiny_network(), load_policy(folder))(tiny_images(), _INDICES).locations]


@cache
def _learner() -> Any:
    env = GlanceFocusVectorEnv(
        2, model=tiny_network(), images=tiny_images(), autoreset_mode=AutoresetMode.SAME_STEP
    )
    return build_learner("ppo:n_steps=2", env, seed=0, device="cpu", timesteps=4)


def _read_agent(folder: Path) -> list[Any]:
    _learner().load(folder)
    return list(_learner().policy().state_dict().values())


def _write_checkpoints(folder: Path) -> None:
    for step in (7, 9):
        state = {"weights": torch.arange(5.0) + step, "steps": step, "name": "x", "more": [[]]}
        Checkpoints(folder).save(step, state)


def _read_checkpoint(folder: Path) -> list[Any]:
    state = Checkpoints(folder).load(torch.device("cpu"))
    return [] if state is None else list(state.values())


def _store(folder: Path) -> EntryStore:
    return EntryStore(folder, {"of": "noise", "scales": [1.0]}, _ENTRIES, _WORDS)


def _entries() -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**63, (_ENTRIES, _WORDS), dtype=np.uint64)


def _read_store(folder: Path) -> list[Any]:
    entries, there = _store(folder).read(np.arange(_ENTRIES))
    # What is missing is computed again.
    return [torch.from_numpy(np.where(there[:, None], entries, _entries()).view(np.int64))]


def _write_run(folder: Path) -> None:
    save_config(folder, PolicyConfig.of(run=folder, seed=3, **DEFAULT.given()))
    write_json(folder / "results.json", {"static": []})


def _read_run(folder: Path) -> list[Any]:
    config = complete(PolicyConfig(run=folder / "next", continue_from=folder))
    return [config.schedule, config.seed, Run(folder).results]


def _write_weights(folder: Path) -> None:
    torch.manual_seed(0)
    state = build_encoder("test_resnet", 3).model.state_dict()
    save_file(state, folder / "weights.safetensors")
    torch.save(state, folder / "weights.pth")


def _read_weights(folder: Path) -> list[Any]:
    return [
        encoder.model.state_dict()["fc.weight"]
        for path in sorted(folder.iterdir())
        for encoder in [build_encoder("test_resnet", 3, path)]
    ]


_KINDS = {
    "network": _Kind(lambda folder: tiny_network().save(folder), _read_network, ("network.json",)),
    "assembled": _Kind(_write_assembled, lambda folder: _answers(EarlyExitGFNet.load(folder))),
    "gain": _Kind(_write_gain, lambda folder: _answers(EarlyExitGFNet.load(folder))),
    "policy": _Kind(
        lambda folder: save_policy(tiny_gfnet().policy, folder), _read_policy, ("policy.json",)
    ),
    "static": _Kind(_write_static, _read_static, ("static.json", "results.json")),
    "agent": _Kind(lambda folder: _learner().save(folder), _read_agent),
    "checkpoints": _Kind(_write_checkpoints, _read_checkpoint),
    "store": _Kind(
        lambda folder: _store(folder).write(np.arange(_ENTRIES), _entries()), _read_store
    ),
    "run": _Kind(_write_run, _read_run, ("config.json", "results.json")),
    # Files of others, which have no digest.
    "weights": _Kind(_write_weights, _read_weights, ("weights.safetensors", "weights.pth")),
}


@cache
def _intact(name: str) -> tuple[dict[str, bytes], list[Any]]:
    """The files of a folder of some kind, and what is read from them."""
    with TemporaryDirectory() as parent:
        folder = Path(parent)
        _KINDS[name].write(folder)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return files, _KINDS[name].read(folder)


@target("saved files", share=12)
def _saved(draw: Random, folder: Path) -> Input:
    """A folder with one damaged file."""
    name = draw.choice(list(_KINDS))
    files, known = _intact(name)
    changed = draw.choice(sorted(files))
    content = _changed(draw, changed, files[changed])
    for each, data in {**files, changed: content}.items():
        path = folder / each
        if data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def use() -> None:
        found = _KINDS[name].read(folder)
        told = Path(changed).name in _KINDS[name].told
        if content is None and name == "checkpoints":
            return
        assert told or (len(found) == len(known) and all(map(_equal, found, known)))

    file = Path(changed)
    names = (file.name, file.stem, str(folder), file.with_suffix(".safetensors").name)
    return Input((name, changed), use, names)


def _changed(draw: Random, name: str, content: bytes) -> bytes | None:
    """A damaged file; None for one that is lost."""
    if draw.random() < 0.03:
        return None
    if name.endswith(".json") and draw.random() < 0.7:
        return json.dumps(edited(draw, json.loads(content))).encode(errors="surrogatepass")
    return damaged(draw, content)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    return bool(one == other)
