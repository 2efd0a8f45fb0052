import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gfnet_env
from gfnet_env.images import DEFAULT_SPEC, load_images
from gfnet_env.zoo import FOLDER, pretrained

ROOT = Path(__file__).parent.parent


def test_what_is_not_used_is_not_imported():
    code = (
        "import sys, gfnet_env, gymnasium;"
        "assert 'torch' not in sys.modules;"
        "gymnasium.make('gfnet_env/GlanceFocus-v0').reset(seed=0);"
        "loaded = {'stable_baselines3', 'torch._dynamo', 'matplotlib'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", pretrained())
def test_packaged_networks_are_small_and_say_how_they_came_about(name):
    card, gfnet = pretrained()[name], pretrained(name)
    assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) < 2 * 2**20
    trained_on = gfnet.model.trained_on
    assert card.images == trained_on.images
    assert trained_on.seed == 0
    assert len(trained_on.commit) == 40
    assert 0.5 < card.accuracy < 1
    assert 0 < card.looks < gfnet.model.focus_steps
    assert gfnet.multiply_adds[0] < card.multiply_adds < gfnet.multiply_adds[-1]


def test_the_packaged_network_for_digits_scores_what_its_card_says():
    gfnet, card = pretrained("cluttered-digits"), pretrained()["cluttered-digits"]
    assert card.images == DEFAULT_SPEC
    images = load_images(DEFAULT_SPEC, "test")
    found = gfnet.classify(images, np.arange(400))
    right = (found.classes == images.labels[:400]).double().mean()
    assert abs(float(right) - card.accuracy) < 0.03


@pytest.mark.parametrize("name", gfnet_env.__all__)
def test_public_names_are_found_where_they_are_used(name):
    assert name in dir(gfnet_env)
    assert callable(getattr(gfnet_env, name))


def test_other_names_are_unknown():
    assert gfnet_env.images is importlib.import_module("gfnet_env.images")
    with pytest.raises(AttributeError, match="'gfnet_env' has no attribute 'GFNet'"):
        _ = gfnet_env.GFNet


def test_unknown_packaged_networks_are_listed():
    with pytest.raises(ValueError, match="unknown network 'digits'; known: cluttered-digits"):
        pretrained("digits")
