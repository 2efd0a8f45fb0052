import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from gfnet_env.data import load_images
from gfnet_env.env.observation import observe
from gfnet_env.inference import evaluate_policy
from gfnet_env.policies import (
    CenterPolicy,
    LearnedPolicy,
    OraclePolicy,
    RandomPolicy,
    RecurrentPolicy,
    Scene,
    TargetPolicy,
    load_policy,
    save_policy,
    select_rows,
)


@pytest.fixture
def scene(network, digits):
    indices = np.arange(6)
    boxes = digits.boxes[:6]
    return Scene(network, digits[indices], indices, digits.labels[:6], boxes)


@pytest.fixture
def observation(network, scene):
    with torch.no_grad():
        return observe(network.glance(scene.pixels), network.focus_steps)


def learned(network, **arguments):
    torch.manual_seed(0)
    return LearnedPolicy(network.feature_shape, network.memory_size, (16,), **arguments).eval()


def test_every_policy_gives_locations(network, scene, observation):
    policies = [RandomPolicy(), CenterPolicy(), learned(network)]
    for policy in policies:
        locations, _ = policy(observation, None)
        assert locations.shape == (6, 2)
        assert locations.dtype == torch.float32
        assert locations.abs().max() <= 1
    for policy in (TargetPolicy(), OraclePolicy(grid=2)):
        locations, _ = policy(observation, policy.start(scene))
        assert locations.shape == (6, 2)
        assert locations.abs().max() <= 1


def test_random_patches_hang_on_seed_image_and_step(network, scene, observation):
    policy = RandomPolicy(seed=3)
    locations, state = policy(observation, policy.start(scene))
    assert torch.equal(locations, RandomPolicy(seed=3)(observation, None)[0])
    assert not torch.equal(locations, RandomPolicy(seed=4)(observation, None)[0])
    assert len(locations.unique()) == 12

    rows = torch.tensor([4, 1])
    fewer = {key: value[rows] for key, value in observation.items()}
    assert torch.equal(policy(fewer, select_rows(state, rows))[0], locations[rows])

    later = observation | {"step": observation["step"] + 1 / 3}
    assert not torch.equal(policy(later, state)[0], locations)


def test_the_target_policy_centres_its_patch_on_the_object(network, scene, observation):
    locations, _ = TargetPolicy()(observation, TargetPolicy().start(scene))
    corners = ((locations + 1) / 2 * (128 - 32)).round()
    assert (corners <= scene.boxes[:, :2]).all()
    assert (corners + 32 >= scene.boxes[:, 2:]).all()


def test_the_oracle_takes_the_best_cell_of_its_grid(network, scene, observation):
    policy = OraclePolicy(grid=3)
    locations, _ = policy(observation, policy.start(scene))
    with torch.no_grad():
        glance = network.glance(scene.pixels)

        def confidence(chosen):
            return network.focus(scene.pixels, chosen, glance).label_confidence(scene.labels)

        best = confidence(locations)
        for row in (-1.0, 0.0, 1.0):
            for column in (-1.0, 0.0, 1.0):
                cell = torch.tensor([row, column]).expand(6, 2)
                assert (confidence(cell) <= best + 1e-6).all()


def test_the_oracle_follows_a_batch_that_shrinks(network, scene, observation):
    policy = OraclePolicy(grid=3)
    locations, state = policy(observation, policy.start(scene))
    rows = torch.tensor([5, 2])
    fewer = {key: value[rows] for key, value in observation.items()}
    assert torch.equal(policy(fewer, select_rows(state, rows))[0], locations[rows])
    twice = select_rows(
        select_rows(state, torch.tensor([True, False, True, True, False, True])),
        torch.tensor([False, True, False, True]),
    )
    fewer = {key: value[[2, 5]] for key, value in observation.items()}
    assert torch.equal(policy(fewer, twice)[0], locations[[2, 5]])


def test_a_state_may_be_a_named_tuple():
    class Pair(NamedTuple):
        hidden: torch.Tensor
        cell: torch.Tensor

    rows = select_rows(Pair(torch.arange(3), -torch.arange(3)), torch.tensor([2, 0]))
    assert type(rows) is Pair
    assert (rows.hidden.tolist(), rows.cell.tolist()) == ([2, 0], [-2, 0])


def test_perfect_patches_beat_random_ones_on_the_packaged_network(network):
    images = load_images("cluttered-digits:scenes=300", "test")
    target = evaluate_policy(network, TargetPolicy(), images)
    random = evaluate_policy(network, RandomPolicy(), images)
    assert 0.5 <= target.accuracy[0] <= 0.8
    assert target.accuracy[1] >= 0.93
    assert target.accuracy[-1] >= random.accuracy[-1] + 0.08


def test_privileged_policies_say_what_they_miss(network, scene, observation):
    for policy in (TargetPolicy(), OraclePolicy()):
        with pytest.raises(ValueError, match=f"'{policy.name}' must be told the scene"):
            policy(observation, None)
    blind = Scene(network, scene.pixels, scene.indices, scene.labels, boxes=None)
    with pytest.raises(ValueError, match="objects' places are known"):
        TargetPolicy().start(blind)
    with pytest.raises(ValueError, match="true classes are known"):
        OraclePolicy().start(Scene(network, scene.pixels, scene.indices))
    with pytest.raises(ValueError, match="grid must be at least 1"):
        OraclePolicy(grid=0)


def test_state_is_selected_leaf_by_leaf():
    state = {"hidden": (torch.arange(3), [torch.eye(3)]), "none": None}
    kept = select_rows(state, torch.tensor([2, 0]))
    assert kept["hidden"][0].tolist() == [2, 0]
    assert torch.equal(kept["hidden"][1][0], torch.eye(3)[[2, 0]])
    assert kept["none"] is None


def test_policies_survive_saving(network, observation, tmp_path):
    for policy in (RandomPolicy(seed=5), CenterPolicy(), learned(network, activation="relu")):
        folder = tmp_path / policy.name
        save_policy(policy, folder)
        loaded = load_policy(folder)
        assert type(loaded) is type(policy)
        assert torch.equal(loaded(observation, None)[0], policy(observation, None)[0])


@pytest.mark.parametrize("squeezed", [{}, {"squeezed_channels": None, "flat_size": 20}])
def test_the_recurrent_policy_remembers(network, observation, tmp_path, squeezed):
    torch.manual_seed(0)
    policy = RecurrentPolicy(network.feature_shape, hidden_size=12, **squeezed).eval()
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    with torch.no_grad():
        first, state = policy(observation, None)
        second, _ = policy(observation, state)
        rows = torch.tensor([4, 1])
        fewer = {key: value[rows] for key, value in observation.items()}
        again, _ = loaded(fewer, select_rows(state, rows))
    assert first.abs().max() <= 1
    assert not torch.equal(first, second)
    torch.testing.assert_close(again, second[rows], atol=1e-6, rtol=0)
    evaluate_policy(network, policy, load_images("cluttered-digits:scenes=4", "test"))
    with pytest.raises(ValueError, match="made for features of"):
        RecurrentPolicy((3, 1, 1)).check_fit(network)
    with pytest.raises(ValueError, match="hidden_size must be at least 1, not 0"):
        RecurrentPolicy(network.feature_shape, hidden_size=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"output": "tanh", "encoder": {"channels": 4, "points": 2, "width": 3}},
        {"output": "grid", "grid": 3},
        {"output": "grid", "grid": 2, "revisit": False},
        {"recurrent_size": 5},
        {"output": "grid", "grid": 2, "revisit": False, "recurrent_size": 5},
    ],
)
def test_learned_policies_of_every_kind_survive_saving(network, observation, tmp_path, arguments):
    policy = learned(network, **arguments)
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    state, other = None, None
    for _ in range(3):
        locations, state = policy(observation, state)
        again, other = loaded(observation, other)
        assert torch.equal(locations, again)
        assert locations.shape == (6, 2)
        assert locations.abs().max() <= 1
    assert set(state or {}) == {
        *(["recurrent"] if "recurrent_size" in arguments else []),
        *(["looked"] if "revisit" in arguments else []),
    }
    evaluate_policy(network, policy, load_images("cluttered-digits:scenes=4", "test"))


def test_a_policy_reads_what_its_encoder_is_told_to(network, observation):
    def differs(key, **encoder):
        torch.manual_seed(0)
        policy = learned(network, encoder=encoder)
        # A patch has been looked at, so that the glance's map is not that of the latest view.
        later = observation | {"step": observation["step"] + 1 / 3}
        changed = later | {key: torch.rand(later[key].shape)}
        return not torch.equal(policy(later)[0], policy(changed)[0])

    for attention in (True, False):
        assert differs("glance", attention=attention)
        assert differs("seen", attention=attention)
        assert not differs("glance", attention=attention, keep_glance=False)
        assert not differs("seen", attention=attention, keep_glance=False)
        assert not differs("seen", attention=attention, inhibition=False)
        assert differs("features", attention=attention, keep_glance=False)


def test_cells_are_looked_at_once_until_none_is_left(network, observation):
    policy = learned(network, output="grid", grid=2, revisit=False)
    state, cells = None, []
    for _ in range(4):
        locations, state = policy(observation, state)
        cells.append(locations)
    for places in torch.stack(cells, dim=1):
        assert len(places.unique(dim=0)) == 4
    assert torch.equal(policy(observation, state)[0], cells[0])


def test_what_cannot_be_saved_or_loaded_is_named(network, tmp_path):
    with pytest.raises(ValueError, match="Linear cannot be saved: only random, center, "):
        save_policy(nn.Linear(1, 1), tmp_path)
    save_policy(learned(network), tmp_path)
    path = tmp_path / "policy.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"name": "psychic"}))
    with pytest.raises(ValueError, match="unknown policy 'psychic'"):
        load_policy(tmp_path)
    path.write_text(json.dumps(saved | {"arguments": {"width": 3}}))
    with pytest.raises(ValueError, match="does not describe 'learned'"):
        load_policy(tmp_path)
    with pytest.raises(ValueError, match="unknown activation 'sine'"):
        learned(network, activation="sine")
    with pytest.raises(ValueError, match="unknown output 'dial'; known: clamp, tanh, grid"):
        learned(network, output="dial")
    with pytest.raises(ValueError, match="only cells of a grid can be left out"):
        learned(network, revisit=False)
