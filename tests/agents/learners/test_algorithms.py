import io
import pickle
import sys
import zipfile

import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from gfnet_agents.learners import LEARNERS, StableBaselinesLearner, build_learner, choose_actions
from gfnet_agents.learners.sb3.algorithms import PPOLearner


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_the_same_seed_learns_the_same(name, make_env, learn, weights):
    one, again, other = (
        weights(learn(name, make_env(), seed=seed, timesteps=48)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_every_algorithm_counts_the_steps_of_the_environment(algorithm, make_env, learn):
    name, actions = algorithm
    env = make_env(actions)
    taken, step = 0, env.step

    def count(actions):
        nonlocal taken
        taken += 8
        return step(actions)

    env.step = count
    learner = learn(name, env)
    # Random search leaves out what comes after the episodes that it asked for.
    assert 0.5 * taken <= learner.steps <= taken
    assert learner.steps >= 48
    assert learner.mean_return != 0
    if name in ("ppo", "sac", "ars", "dqn"):
        assert {"rollout/ep_rew_mean", "time/fps"} <= learner.metrics.keys()


@pytest.mark.parametrize("name", ["ppo", "sac", "ars"])
def test_going_on_reads_the_weights_and_never_the_pickles(
    name, make_env, small, learn, weights, tmp_path
):
    learner = learn(name, make_env(), timesteps=48)
    learner.save(tmp_path)
    whole = (tmp_path / "agent.zip").read_bytes()

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickled part was loaded",))

    def rewrite(change):
        with (
            zipfile.ZipFile(io.BytesIO(whole)) as original,
            zipfile.ZipFile(tmp_path / "agent.zip", "w") as copy,
        ):
            for part in original.namelist():
                copy.writestr(part, change(part, original.read(part)))

    sprung = io.BytesIO()
    torch.save(Trap(), sprung)
    rewrite(lambda part, content: sprung.getvalue() if part == "policy.pth" else content)
    resumed = small(name, make_env(), seed=9)
    with pytest.raises(ValueError, match=r"agent\.zip does not fit"):
        resumed.load(tmp_path)
    rewrite(lambda part, content: pickle.dumps(Trap()) if part == "data" else content)
    resumed.load(tmp_path)
    assert resumed.steps == 0
    assert torch.equal(weights(learner), weights(resumed))
    if name == "ppo":
        assert resumed.agent.policy.optimizer.state_dict()["state"]
    if name == "sac":
        assert learner.agent.log_ent_coef != 0
        assert torch.equal(learner.agent.log_ent_coef, resumed.agent.log_ent_coef)
    if name == "ars":
        assert torch.equal(learner.agent.weights, resumed.agent.weights)


def test_weights_of_another_agent_are_refused(make_env, small, tmp_path):
    small("ppo", make_env()).save(tmp_path)
    for other in (
        small("ppo", make_env(), policy_kwargs={"net_arch": [8]}),
        small("sac", make_env()),
    ):
        with pytest.raises(ValueError, match=r"agent\.zip does not fit"):
            other.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no agent\.zip in .*nowhere"):
        other.load(tmp_path / "nowhere")


def test_actions_that_an_algorithm_does_not_take_are_named(make_env):
    with pytest.raises(
        ValueError,
        match="'maskable-ppo' does not take continuous actions, but grid ones; continuous ones are "
        "taken by ppo, ppo-gfnet, a2c, trpo, recurrent-ppo, sac, td3, ddpg, tqc, crossq, ars",
    ):
        build_learner("maskable-ppo", make_env(), seed=0, device="cpu", timesteps=9)
    with pytest.raises(
        ValueError, match="'sac' .* taken by ppo, ppo-gfnet, a2c, maskable-ppo, dqn, qr-dqn"
    ):
        choose_actions("sac", "grid:cells=3+stop")
    assert choose_actions("dqn", None).spec == "grid:cells=7"
    assert choose_actions("ppo", None).spec == "continuous"
    assert choose_actions("sac", "zoom+stop").space.shape == (4,)


@pytest.mark.parametrize("seed", [None, 5])
def test_a_reset_without_a_seed_takes_the_learners(make_env, seed):
    def drawn(learner_seed):
        env = make_env()
        build_learner("ppo-gfnet", env, seed=learner_seed, device="cpu", timesteps=48)
        return env.reset(seed=seed)[1]["index"].tolist()

    assert drawn(0) == drawn(0)
    assert (drawn(0) == drawn(1)) == (seed is not None)


def test_settings_are_checked_before_anything_is_made(make_env, small):
    learner, settings = LEARNERS.parse(
        'ppo:learning_rate=1e-3,policy_kwargs={"net_arch":[64,32],"log_std_init":-2},n_steps=6'
    )
    assert learner is PPOLearner
    networks = {"net_arch": [64, 32], "log_std_init": -2}
    assert settings == {"learning_rate": 1e-3, "policy_kwargs": networks, "n_steps": 6}
    assert LEARNERS.parse("sac:ent_coef=auto_0.1")[1] == {"ent_coef": "auto_0.1"}
    assert LEARNERS.parse("sac:ent_coef=0.1")[1] == {"ent_coef": 0.1}
    for spec, message in (
        ("ppo:clip=2", "'ppo:clip=2' has no parameter 'clip'; it has :learning_rate,n_steps,batch"),
        ("ppo:env=2", "has no parameter 'env'"),
        (
            "ppo:learning_rate=fast",
            "learning_rate of .* must be a finite number or",
        ),
        ("ppo:n_steps=1.5", "n_steps of .* must be a whole number"),
        ("ppo:n_steps=2,n_steps=3", "given n_steps twice"),
        ("chance", "unknown learner 'chance'; known: ppo, ppo-gfnet, a2c, .*; or give module"),
    ):
        with pytest.raises(ValueError, match=message):
            LEARNERS.parse(spec)
    with pytest.raises(ValueError, match="PPO has no setting clip, tau; it has batch_size, clip_r"):
        PPOLearner(make_env(), seed=0, timesteps=9, tau=1, clip=2)
    with pytest.raises(ValueError, match="PPO refuses its settings {'learning_rate': 'fast'}"):
        PPOLearner(make_env(), seed=0, timesteps=9, learning_rate="fast")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "ppo:n_epochs=0",
            r"refuses its settings {'n_epochs': 0}: n_epochs must be in \[1, 1000\]",
        ),
        ("ppo:n_epochs=1180591620717411303424", "must be a whole number of 64 bits"),
        ("ppo:gamma=7", r"gamma must be in \[0, 1\], not 7"),
        ("trpo:batch_size=0", "batch_size must be at least 1, not 0"),
        ("td3:train_freq=0", "train_freq must be in"),
        ('sac:train_freq=[1,"episode"]', "train_freq must be in steps of all environments"),
        ('ppo:policy_kwargs={"net_arch":[-1]}', "PPO refuses .* layers need at least 1 unit"),
        ('sac:policy_kwargs={"net_arch":{"pi":[8],"qf":[0]}}', "layers need at least 1 unit"),
        ("tqc:top_quantiles_to_drop_per_net=25", "must be at least 0 and below 25, not 25"),
        ("tqc:top_quantiles_to_drop_per_net=-1", "must be at least 0 and below 25, not -1"),
        ("sac:target_update_interval=0", "target_update_interval must be at least 1"),
        ("ppo:n_steps=1099511627776", "PPO refuses its settings"),
        ("ddpg:n_steps=3", "has no parameter 'n_steps'"),
    ],
)
def test_settings_that_no_learning_survives_are_refused(spec, message, make_env):
    with pytest.raises(ValueError, match=message):
        build_learner(spec, make_env(), seed=0, device="cpu", timesteps=48)


@pytest.mark.parametrize("name", ["ppo", "td3"])
def test_learning_that_diverges_says_so(name, make_env, small):
    learner = small(name, make_env(), timesteps=192, learning_rate=1e12)
    kept = []
    with pytest.raises(
        ValueError, match=r"has diverged after \d+ steps: .* lower its learning_rate"
    ):
        learner.learn(lambda: kept.append(learner.policy()))
    weights = (value for policy in kept for value in policy.parameters())
    assert all(value.isfinite().all() for value in weights)


def test_networks_are_set_one_by_one(make_env, small):
    policy = small("sac", make_env(), policy_kwargs={"net_arch": [16]}).policy()
    assert policy.config["hidden_sizes"] == [16]
    sizes = {"features_extractor_kwargs": {"channels": 4, "points": 2, "width": 3}}
    policy = small("crossq", make_env(), policy_kwargs=sizes).policy()
    assert sizes["features_extractor_kwargs"].items() <= policy.config["encoder"].items()


def test_the_authors_schedule_is_one_step_on_one_episode_of_each(make_env):
    env = make_env()
    learner = build_learner("ppo-gfnet:gamma=0.5", env, seed=0, device="cpu", timesteps=48)
    agent = learner.agent
    assert (agent.n_steps, agent.batch_size, agent.n_epochs) == (3, 24, 1)
    assert (agent.gamma, agent.gae_lambda, agent.ent_coef) == (0.5, 1.0, 0.01)
    assert agent.policy.log_std.exp().tolist() == pytest.approx([0.2, 0.2])
    learner.learn(lambda: None)
    assert agent._n_updates == 2


@pytest.mark.parametrize("name", ["ppo", "torch-ppo"])
def test_few_steps_are_passed_over_twice(name, make_env):
    few, many = (
        build_learner(name, make_env(), seed=0, device="cpu", timesteps=steps)
        for steps in (19_999, 20_000)
    )
    kept = [getattr(each, "agent", each) for each in (few, many)]
    found = [vars(each).get("n_epochs", vars(each).get("_n_epochs")) for each in kept]
    assert found == [2, 1]


class Patient(PPO):
    """One's own, with an argument more than the algorithm that it derives from."""

    def __init__(self, *arguments, patience: int = 1, **others):
        super().__init__(*arguments, **others)
        self.patience = patience


class PatientLearner(PPOLearner, algorithm=Patient):
    pass


class Bare(StableBaselinesLearner, algorithm=Patient):
    pass


def test_an_algorithm_of_ones_own(make_env, tmp_path, monkeypatch):
    learner = PatientLearner(make_env(), seed=0, timesteps=96, patience=3)
    assert (learner.agent.patience, learner.agent.gamma) == (3, 0)
    with pytest.raises(ValueError, match=r"Patient has no setting calm; it has .*n_epochs.*patien"):
        PatientLearner(make_env(), seed=0, timesteps=9, calm=1)
    bare = Bare(make_env(), seed=0, timesteps=96, n_steps=8, batch_size=8)
    assert (bare.agent.n_steps, bare.agent.gamma) == (8, 0.99)

    lines = [
        "from gfnet_agents.learners.sb3.algorithms import A2CLearner",
        "class Own(A2CLearner): pass",
        "def nothing(): pass",
    ]
    (tmp_path / "module_of_ones_own.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    own = "module_of_ones_own:Own:gamma=0.5"
    with pytest.raises(ValueError, match="which no file may import"):
        LEARNERS.parse(own, trusted=False)
    made = build_learner(own, make_env("grid"), seed=0, device="cpu", timesteps=96)
    assert made.agent.gamma == 0.5
    assert LEARNERS.parse(own, trusted=False)[0].action_spaces == (spaces.Box, spaces.Discrete)
    with pytest.raises(ValueError, match="'module_of_ones_own:nothing' is no learner"):
        LEARNERS.parse("module_of_ones_own:nothing")
    with pytest.raises(ValueError, match="no learner 'module_of_ones_own:Other' to import"):
        LEARNERS.parse("module_of_ones_own:Other")
    with pytest.raises(ValueError, match="no learner 'no_such_module:Own' to import"):
        LEARNERS.parse("no_such_module:Own")
    sys.modules.pop("module_of_ones_own")
