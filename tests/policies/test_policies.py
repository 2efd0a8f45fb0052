import json

import numpy as np
import pytest
import torch
from torch import nn

from gfnet_env import rows
from gfnet_env.evaluation import evaluate_policy
from gfnet_env.features import LiveFeatures
from gfnet_env.images import load_images
from gfnet_env.looks import Look
from gfnet_env.models import blank_state
from gfnet_env.observations import MapsObservation
from gfnet_env.policies import (
    CenterPolicy,
    Context,
    LearnedPolicy,
    OraclePolicy,
    RandomPolicy,
    RecurrentPolicy,
    TargetPolicy,
    decide,
    load_policy,
    save_policy,
    start,
)
from gfnet_env.rollout import glance, look


@pytest.fixture
def context(network, digits):
    features = LiveFeatures(network, digits)
    return Context(features, np.arange(6), digits.labels[:6], digits.boxes[:6])


@pytest.fixture
def state(network, context):
    with torch.no_grad():
        return glance(context.features, context.indices)


@pytest.fixture
def observation(network, state):
    return MapsObservation(network.focus_steps)(state)


def learned(network, **arguments):
    torch.manual_seed(0)
    return LearnedPolicy.for_model(network, (16,), **arguments).eval()


def test_every_policy_gives_looks(network, context, state):
    policies = [RandomPolicy(), CenterPolicy(), TargetPolicy(), OraclePolicy(cells=2)]
    policies += [
        learned(network, actions=actions)
        for actions in ("continuous", "grid:cells=3", "zoom", "zoom+stop", "grid+stop")
    ]
    for policy in policies:
        looks, _ = decide(policy, network, state, start(policy, context))
        assert looks.location.shape == (6, 2)
        assert looks.location.abs().max() <= 1
        assert looks.scale.shape == looks.stop.shape == (6,)
        assert (looks.scale >= 1).all()


def test_the_target_policy_centres_its_window_on_the_object(network, context, state):
    looks, _ = decide(TargetPolicy(), network, state, start(TargetPolicy(), context))
    corners = ((looks.location + 1) / 2 * (128 - 32)).round()
    assert (corners <= context.boxes[:, :2]).all()
    assert (corners + 32 >= context.boxes[:, 2:]).all()


def test_the_oracle_takes_the_best_cell_of_its_lattice(network, context, state):
    policy = OraclePolicy(cells=3)
    looks, _ = decide(policy, network, state, start(policy, context))
    with torch.no_grad():

        def confidence(location):
            after = look(context.features, context.indices, Look.at(location), state)
            return after.label_confidence(context.labels)

        best = confidence(looks.location)
        for row in (-1.0, 0.0, 1.0):
            for column in (-1.0, 0.0, 1.0):
                cell = torch.tensor([row, column]).expand(6, 2)
                assert (confidence(cell) <= best + 1e-6).all()


def test_the_oracle_follows_a_batch_that_shrinks(network, context, state):
    policy = OraclePolicy(cells=3)
    looks, memory = decide(policy, network, state, start(policy, context))
    some = torch.tensor([5, 2])
    fewer, _ = decide(policy, network, rows.select(state, some), rows.select(memory, some))
    assert torch.equal(fewer.location, looks.location[some])
    twice = rows.select(
        rows.select(memory, torch.tensor([True, False, True, True, False, True])),
        torch.tensor([False, True, False, True]),
    )
    fewer, _ = decide(policy, network, rows.select(state, torch.tensor([2, 5])), twice)
    assert torch.equal(fewer.location, looks.location[[2, 5]])


def test_perfect_patches_beat_random_ones_on_the_packaged_network(network):
    images = load_images("cluttered-digits:scenes=300", "test")
    target = evaluate_policy(network, TargetPolicy(), images)
    random = evaluate_policy(network, RandomPolicy(), images)
    assert 0.5 <= target.accuracy[0] <= 0.8
    assert target.accuracy[1] >= 0.93
    assert target.accuracy[-1] >= random.accuracy[-1] + 0.08


def test_privileged_policies_say_what_they_miss(context):
    blind = Context(context.features, context.indices, context.labels, boxes=None)
    with pytest.raises(ValueError, match="objects' places are known"):
        TargetPolicy().start(blind)
    with pytest.raises(ValueError, match="true classes are known"):
        OraclePolicy().start(Context(context.features, context.indices))
    with pytest.raises(ValueError, match="at least 1 cell"):
        OraclePolicy(cells=0)


def test_policies_survive_saving(network, context, state, tmp_path):
    policies = (RandomPolicy(seed=5), CenterPolicy(), learned(network, activation="relu"))
    for number, policy in enumerate(policies):
        save_policy(policy, tmp_path / str(number))
        loaded = load_policy(tmp_path / str(number))
        assert type(loaded) is type(policy)
        one, other = (decide(p, network, state, start(p, context))[0] for p in (loaded, policy))
        assert torch.equal(one.location, other.location)


@pytest.mark.parametrize("squeezed", [{}, {"squeezed_channels": None, "flat_size": 20}])
def test_the_recurrent_policy_remembers(network, observation, tmp_path, squeezed):
    torch.manual_seed(0)
    policy = RecurrentPolicy(network.feature_shape, hidden_size=12, **squeezed).eval()
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    with torch.no_grad():
        first, memory = policy(observation, None)
        second, _ = policy(observation, memory)
        some = torch.tensor([4, 1])
        again, _ = loaded(rows.select(observation, some), rows.select(memory, some))
    assert first.abs().max() <= 1
    assert not torch.equal(first, second)
    torch.testing.assert_close(again, second[some], atol=1e-6, rtol=0)
    evaluate_policy(network, policy, load_images("cluttered-digits:scenes=4", "test"))
    with pytest.raises(ValueError, match="made for features of"):
        RecurrentPolicy((3, 1, 1)).check_fit(network)
    with pytest.raises(ValueError, match="hidden_size must be at least 1, not 0"):
        RecurrentPolicy(network.feature_shape, hidden_size=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"squash": "tanh", "encoder": {"channels": 4, "points": 2, "width": 3}},
        {"actions": "grid:cells=3"},
        {"actions": "grid:cells=2", "revisit": False},
        {"actions": "grid:cells=2+stop", "revisit": False},
        {"actions": "zoom+stop", "observation": "maps:scale=true"},
        {"recurrent_size": 5},
        {"actions": "grid:cells=2", "revisit": False, "recurrent_size": 5},
    ],
)
def test_learned_policies_of_every_kind_survive_saving(network, state, tmp_path, arguments):
    policy = learned(network, **arguments)
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    memory, other = None, None
    for _ in range(3):
        looks, memory = decide(policy, network, state, memory)
        again, other = decide(loaded, network, state, other)
        for one, two in zip(rows.tensors(looks), rows.tensors(again), strict=True):
            assert torch.equal(one, two)
        assert looks.location.abs().max() <= 1
    assert set(memory or {}) == {
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
    policy = learned(network, actions="grid:cells=2", revisit=False)
    memory, cells = None, []
    for _ in range(4):
        chosen, memory = policy(observation, memory)
        cells.append(chosen)
    for places in torch.stack(cells, dim=1):
        assert len(places.unique()) == 4
    assert torch.equal(policy(observation, memory)[0], cells[0])


def test_a_stop_is_no_cell_that_has_been_looked_at(network, observation):
    policy = learned(network, actions="grid:cells=1+stop", revisit=False)
    with torch.no_grad():
        policy.actor[-1].bias[1] = -100
    memory = None
    for _ in range(3):
        chosen, memory = policy(observation, memory)
        assert (chosen == 0).all()
        policy_stops = policy.actions.looks(chosen, None).stop
        assert not policy_stops.any()
    with torch.no_grad():
        policy.actor[-1].bias[1] = 100
    chosen, _ = policy(observation, memory)
    assert policy.actions.looks(chosen, None).stop.all()


def saved_in(path):
    """The content of a file as another version would have saved it, without a digest."""
    saved = json.loads(path.read_text())
    del saved["sha256"]
    return saved


def test_a_file_calls_nothing_but_policies(tmp_path):
    made = tmp_path / "made"
    saved = {"name": "subprocess:Popen", "arguments": {"args": ["mkdir", str(made)]}}
    (tmp_path / "policy.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match="'subprocess', which no file may import"):
        load_policy(tmp_path)
    assert not made.exists()


def test_what_cannot_be_saved_or_loaded_is_named(network, tmp_path):
    with pytest.raises(ValueError, match="Linear cannot be saved: give it an attribute config"):
        save_policy(nn.Linear(1, 1), tmp_path)
    with pytest.raises(ValueError, match="OraclePolicy cannot be saved: it is told"):
        save_policy(OraclePolicy(), tmp_path)
    save_policy(learned(network), tmp_path)
    path = tmp_path / "policy.json"
    saved = saved_in(path)
    path.write_text(json.dumps(saved | {"name": "psychic"}))
    with pytest.raises(ValueError, match="unknown policy 'psychic'"):
        load_policy(tmp_path)
    path.write_text(json.dumps(saved | {"name": "no_such_module:Policy"}))
    with pytest.raises(ValueError, match=r"may import; .*import_parts\('no_such_module'\)\)$"):
        load_policy(tmp_path)
    path.write_text(json.dumps(saved | {"arguments": {"shapes": {}, "width": 3}}))
    with pytest.raises(ValueError, match="json cannot be built"):
        load_policy(tmp_path)
    with pytest.raises(ValueError, match="activation must be tanh or relu, not 'sine'"):
        learned(network, activation="sine")
    with pytest.raises(ValueError, match="squash must be clamp or tanh, not 'dial'"):
        learned(network, squash="dial")
    with pytest.raises(ValueError, match="only cells of a grid can be left out"):
        learned(network, revisit=False)


class Corner(nn.Module):
    """A policy of one's own, with a weight."""

    def __init__(self, row: float = 0.0):
        super().__init__()
        self.config = {"row": row}
        self.place = nn.Parameter(torch.tensor([row, 1.0]))

    def forward(self, observation, memory):
        return self.place.expand(len(observation["step"]), 2), None


def test_a_policy_of_ones_own_is_saved_by_its_module_and_its_config(network, state, tmp_path):
    policy = Corner(-0.5)
    with torch.no_grad():
        policy.place[1] = 0.25
    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)
    looks, _ = decide(loaded, network, state, None)
    assert looks.location.tolist() == [[-0.5, 0.25]] * 6


def test_a_policy_of_version_01_still_loads(network, tmp_path):
    policy = learned(network, actions="grid:cells=3", encoder={"channels": 8})
    save_policy(policy, tmp_path)
    path = tmp_path / "policy.json"
    saved = saved_in(path)
    saved["arguments"] = {
        "feature_shape": list(network.feature_shape),
        "memory_size": network.memory_size,
        "hidden_sizes": [16],
        "activation": "tanh",
        "output": "grid",
        "grid": 3,
        "revisit": True,
        "recurrent_size": None,
        "encoder": {"channels": 8},
    }
    path.write_text(json.dumps(saved))
    network.save(tmp_path)
    loaded = load_policy(tmp_path)
    loaded.check_fit(network)
    shown = MapsObservation(network.focus_steps)(blank_state(network, 4))
    assert torch.equal(loaded(shown)[0], policy(shown)[0])


def test_looks_that_mean_nothing_are_refused(network, state):
    for wrong, message in (
        (torch.full((6, 2), torch.inf), r"locations must lie in \[-1, 1\]; one is inf"),
        (torch.zeros(5, 2), r"locations must be \(6, 2\)"),
        (Look.at(torch.zeros(6, 2), torch.full((6,), 0.5)), "scales must be at least 1"),
        (Look.at(torch.zeros(6, 2), torch.ones(6, 1)), r"scale of looks must be \(6,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            decide(lambda observation, memory, wrong=wrong: (wrong, None), network, state, None)


LEARNED = {
    "shapes": {"features": [8, 2, 2], "memory": [20], "step": [1]},
    "hidden_sizes": [8],
    "focus_steps": 2,
    "patch_size": 16,
}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("learned", LEARNED | {"focus_steps": {}}, "focus_steps must be a whole number, not {}"),
        ("learned", LEARNED | {"patch_size": 0}, "patch_size must be at least 1, not 0"),
        ("learned", LEARNED | {"observation": 1.5}, "observation must be text, not 1.5"),
        ("learned", LEARNED | {"hidden_sizes": [10**9]}, "hidden_sizes must be at most 10,000"),
        ("learned", LEARNED | {"hidden_sizes": "8"}, "hidden_sizes must be several values"),
        ("learned", LEARNED | {"recurrent_size": -1}, "recurrent_size must be at least 1"),
        ("learned", LEARNED | {"revisit": "yes"}, "revisit must be bool, not 'yes'"),
        ("learned", LEARNED | {"encoder": []}, "encoder must be Mapping, not "),
        ("learned", LEARNED | {"encoder": {"points": 1.5}}, "points must be a whole number"),
        ("learned", LEARNED | {"encoder": {"attention": 0}}, "attention must be bool, not 0"),
        ("learned", LEARNED | {"shapes": None}, "shapes must be Mapping, not None"),
        ("learned", LEARNED | {"shapes": {"step": []}}, r"the shape of step must be \(D,\) or"),
        ("learned", LEARNED | {"shapes": {"step": [0]}}, "the shape of step must be at least 1"),
        ("learned", LEARNED | {"shapes": {"glance": [32]}}, "features"),
        ("learned", {}, "missing"),
        ("recurrent", {"feature_shape": [8, -1, 2]}, "feature_shape must be at least 1, not -1"),
        ("random", {"seed": "one"}, "seed must be a whole number, not 'one'"),
        ("random", {"max_scale": True}, "max_scale must be a finite number, not True"),
        ("gaussian", {"std": -1}, "std must be positive, not -1"),
        ("scan", {"skip_empty": 1}, "skip_empty must be bool, not 1"),
    ],
)
def test_a_policy_of_wrong_arguments_is_refused_by_its_file(tmp_path, name, arguments, message):
    (tmp_path / "policy.json").write_text(json.dumps({"name": name, "arguments": arguments}))
    refusal = rf"policy\.json cannot be built: .*{message}.*; restore it from a copy"
    with pytest.raises(ValueError, match=refusal):
        load_policy(tmp_path)
