"""Actions, resets, and what is given to an assembled network."""

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from PIL import Image

from gfnet_env import ArrayImages, EarlyExitGFNet
from gfnet_env.env.single import GlanceFocusEnv
from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.inference import calibrate
from tests.fuzz.core import Input, target
from tests.fuzz.networks import tiny_gfnet, tiny_images, tiny_network
from tests.fuzz.values import REAL, anything, array, number

_ACTIONS = (
    *("continuous", "grid:cells=3", "zoom", "zoom:max_scale=1.5", "peak"),
    *("continuous+stop", "grid:cells=3+stop"),
)
_COUNT = 3


@cache
def _vector(actions: str, mode: AutoresetMode) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(
        _COUNT, model=tiny_network(), images=tiny_images(), actions=actions, autoreset_mode=mode
    )


@cache
def _single(actions: str) -> GlanceFocusEnv:
    return GlanceFocusEnv(model=tiny_network(), images=tiny_images(), actions=actions)


@target("actions", share=10)
def _actions(draw: Random, folder: Path) -> Input:
    """Actions for one environment and for several, some of them right."""
    actions, mode = draw.choice(_ACTIONS), draw.choice(list(AutoresetMode))
    single = draw.random() < 0.4
    env: Any = _single(actions) if single else _vector(actions, mode)
    env.action_space.seed(draw.getrandbits(30))
    steps = [_action(draw, env.action_space.sample()) for _ in range(3)]

    def use() -> None:
        env.reset(seed=0)
        for step in steps:
            observation, reward, terminated, *_ = env.step(step)
            assert env.observation_space.contains(observation)
            assert np.isfinite(reward).all()
            if single and terminated:
                break

    names = ("action", "episodes of sub-environments")
    return Input((actions, mode, steps), use, names, (ValueError, TypeError, RuntimeError))


def _action(draw: Random, right: Any) -> Any:
    """An action of a space, or something like it."""
    if draw.random() < 0.5:
        return right
    values = np.asarray(right)
    with np.errstate(invalid="ignore"):
        changed = values.astype(draw.choice(("f2", "f4", "f8", "i8", "i4", "u1", "O")))
    if changed.size and draw.random() < 0.5:
        changed = np.atleast_1d(changed)
        wanted = draw.choice(REAL) if changed.dtype.kind in "fO" else draw.choice((-1, 9, 100))
        with np.errstate(over="ignore", invalid="ignore"):
            place = draw.randrange(changed.size)
            changed.flat[place] = np.asarray(wanted).astype(changed.dtype)
        changed = changed.reshape(values.shape)
    variants: list[Any] = [
        *(changed, changed, changed.tolist(), np.asfortranarray(changed), changed[..., None]),
        *(array(draw, values.shape), array(draw), anything(draw), list(map(str, values.ravel()))),
        torch.as_tensor(values, dtype=draw.choice((torch.float32, torch.bfloat16, torch.int64))),
        np.broadcast_to(values, (2, *values.shape)),
    ]
    return draw.choice(variants)


@target("resets", share=6)
def _resets(draw: Random, folder: Path) -> Input:
    """Seeds and options of resets."""
    single = draw.random() < 0.4
    env: Any = _single("continuous") if single else _vector("continuous", AutoresetMode.NEXT_STEP)
    count = 1 if single else _COUNT
    options: dict[str, Any] | None = {}
    if draw.random() < 0.6:
        right = [draw.randrange(12) for _ in range(draw.randrange(5))]
        variants = (right, np.array(right), tuple(right), torch.tensor(right), anything(draw))
        options["indices"] = draw.choice(variants)
    if draw.random() < 0.4:
        mask = [draw.random() < 0.7 for _ in range(count)]
        options["reset_mask"] = draw.choice((mask, np.array(mask), array(draw), anything(draw)))
    if draw.random() < 0.1:
        options[draw.choice(("index", "mask", "", "seed"))] = anything(draw)
    if draw.random() < 0.05:
        options = draw.choice((None, anything(draw)))
    seeds = (None, 0, 7, np.int64(3), 2**31, 2**64, -1, 1.5, True, "1", [1] * count, [None] * count)
    seed = draw.choice((*seeds, list(range(4)), [-1] * count, np.arange(count), anything(draw)))

    def use() -> None:
        env.reset(seed=1)
        try:
            observation, info = env.reset(seed=seed, options=options)
        finally:
            # Whatever came of it, the environment can be used.
            env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        asked = np.ravel((options or {}).get("indices", ()))
        if options is not None and "reset_mask" not in options and len(asked) >= count:
            assert np.ravel(info["index"]).tolist() == [int(each) for each in asked[:count]]

    names = ("seed", "reset", "indices", "image", "option")
    return Input((single, seed, options), use, names)


@cache
def _gfnet() -> EarlyExitGFNet:
    gfnet = tiny_gfnet()
    calibrate(gfnet, tiny_images())
    return gfnet


@target("images for the network", share=8)
def _images(draw: Random, folder: Path) -> Input:
    """Images and indices, in any form."""
    shape = [draw.choice((1, 2, 3)), 3, draw.choice((16, 20)), draw.choice((16, 33))]
    if draw.random() < 0.3:
        shape[draw.randrange(4)] = draw.choice((0, 1, 2, 4, 15))
    rng = np.random.default_rng(draw.getrandbits(32))
    right = rng.integers(0, 256, shape, dtype=np.uint8)
    floats = rng.normal(size=shape).astype(np.float32)
    variants: list[Any] = [
        *(right, right, right, torch.from_numpy(right), floats, torch.from_numpy(floats)),
        *(right[::-1], right[..., ::-1], np.moveaxis(right, 1, 3), right.squeeze()),
        *(array(draw, shape), array(draw, shape), array(draw), anything(draw), right.tolist()),
        torch.from_numpy(floats).to(draw.choice((torch.float16, torch.bfloat16, torch.float64))),
        *(tiny_images(), Image.new("RGB", (20, 20)), [Image.new("RGB", (20, 20))]),
    ]
    images = draw.choice(variants)
    if isinstance(images, np.ndarray) and draw.random() < 0.1:
        images.flags.writeable = False
    normalised = draw.choice((False, False, True))
    few = (None, None, None, [0], [0, 0], np.array([0]), slice(0, 1), [], 0)
    indices = draw.choice((*few, [5], [-1], [0.5], [True], anything(draw)))

    def use() -> None:
        found = _gfnet()(images, indices, normalised=normalised)
        assert found.confidence.isfinite().all()
        if indices is None:
            assert len(found) == len(images)
        if isinstance(images, np.ndarray) and images.dtype == np.uint8 and len(found):
            again = _gfnet()(ArrayImages(images.copy()), indices)
            assert torch.equal(again.logits, found.logits)

    return Input((images, indices, normalised), use, ("image", "picture", "indices", "pixels"))


@target("thresholds and budgets", share=4)
def _budgets(draw: Random, folder: Path) -> Input:
    """Thresholds, budgets and deadlines."""
    gfnet = _gfnet()
    thresholds: Any = [draw.random() for _ in range(3)]
    if draw.random() < 0.6:
        thresholds[draw.randrange(3)] = number(draw)
    if draw.random() < 0.3:
        thresholds = draw.choice((np.array(thresholds), tuple(thresholds), anything(draw)))
    last = gfnet.multiply_adds[-1]
    budget: Any = draw.choice((last * draw.random(), 2 * last, number(draw), anything(draw)))
    deadline: Any = draw.choice((0, None, np.inf, number(draw), anything(draw)))

    def set_thresholds() -> None:
        gfnet.set_thresholds(thresholds)
        assert gfnet.thresholds == tuple(map(float, thresholds))

    def set_budget() -> None:
        point = gfnet.set_budget(multiply_adds=budget)
        assert point.multiply_adds <= float(budget) * (1 + 1e-9)
        assert gfnet.thresholds == point.thresholds

    def answer_anytime() -> None:
        answers = list(gfnet.anytime(tiny_images(), [0, 1], deadline=deadline))
        assert 1 <= len(answers) <= 3

    use = draw.choice((set_thresholds, set_thresholds, set_budget, set_budget, answer_anytime))
    shown = (use.__name__, thresholds, budget, deadline)
    return Input(shown, use, ("threshold", "budget", "multiply_adds", "deadline"))
