import json
from pathlib import Path

import pytest

from gfnet_agents import (
    RECIPES,
    PipelineConfig,
    PolicyConfig,
    PolicySchedule,
    find_recipe,
    fit,
    parse_config,
    train_gfnet,
    train_policy,
)
from gfnet_env import EarlyExitGFNet
from gfnet_env.images import load_images
from gfnet_env.inference import assembled_in
from gfnet_env.policies import HeatPolicy
from gfnet_env.training import (
    BaselineConfig,
    ClassifierConfig,
    ClassifierSchedule,
    train_baselines,
    train_classifier,
)

DIGITS = "cluttered-digits:scenes=20"


@pytest.fixture
def sets():
    spec = "cluttered-digits:canvas=48,pieces=2,scenes="
    return {
        split: load_images(f"{spec}{count}", split)
        for split, count in (("train", 48), ("val", 20), ("test", 20))
    }


def config(run, **changes):
    short = ClassifierSchedule(epochs=1, batch_size=16)
    values = {
        "run": run,
        "patch_size": 16,
        "focus_steps": 2,
        "stage1": short,
        "stage2": PolicySchedule(algorithm="ppo:n_steps=2,batch_size=8", num_envs=8, epochs=1),
        "stage3": short.replace(learning_rate=1e-4),
        "device": "cpu",
    }
    return PipelineConfig.of(**values | changes)


def test_all_stages_run_and_are_not_run_again(sets, tmp_path, capsys):
    run = tmp_path / "run"
    assert train_gfnet(config(run, stages=(1,)), sets) is None
    results = json.loads((run / "results.json").read_text())
    assert list(results["stages"]) == ["stage1"]
    weights = run / "stage1" / "network.safetensors"
    before = weights.read_bytes()

    gfnet = train_gfnet(config(run, resume=True), sets)
    assert weights.read_bytes() == before
    assert isinstance(gfnet, EarlyExitGFNet)
    assert gfnet.model.trained_on.policy == str(run / "stage2")
    again = json.loads((run / "results.json").read_text())
    assert again["stages"]["stage1"] == results["stages"]["stage1"]
    patches = {name: stage["patches"] for name, stage in again["stages"].items()}
    assert patches == {"stage1": "random", "stage2": "learned", "stage3": "learned"}
    for stage in again["stages"].values():
        assert len(stage["accuracy"]) == 3
        assert stage["seconds"] > 0
    assert (run / "evaluation" / "results.json").is_file()
    environment_steps = json.loads((run / "stage2" / "results.json").read_text())
    assert environment_steps["environment_steps"] == 48 * 2
    said = " ".join(capsys.readouterr().out.split())
    assert "These figures count: they are of the final network, from stage3" in said
    assert "static" not in said, "there is none"

    longer = ClassifierSchedule(epochs=2, batch_size=16, learning_rate=1e-4)
    with pytest.raises(ValueError, match=r"begun with stage3.epochs=1, not 2"):
        train_gfnet(config(run, resume=True, stage3=longer), sets)
    with pytest.raises(FileExistsError, match="already exists"):
        train_gfnet(config(run), sets)

    for stage, wrong, message in (
        ("stage2", {"policies": {"random": {"accuracy": [0.5]}}}, "no accuracy of learned looks"),
        ("stage2", {"policies": {"learned": {"accuracy": "high"}}}, "damaged .* accuracy must be"),
        ("stage1", {"accuracy": {"random": 0.5}}, "damaged .* accuracy.random must be"),
        ("stage1", {"images": 20}, "no accuracy of learned or heat or random looks"),
    ):
        (run / stage / "results.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=rf"{stage}.results\.json .*{message}"):
            train_gfnet(config(run, resume=True), sets)


def test_a_mined_network_needs_no_other_stage_and_may_have_them(sets, tmp_path):
    run = tmp_path / "run"
    mined = ClassifierSchedule(epochs=1, batch_size=16, windows="mined")
    options = {"stage1": mined, "classifier": "evidence", "glance_size": 32}
    gfnet = train_gfnet(config(run, stages=(1,), **options), sets)
    assert isinstance(gfnet.policy, HeatPolicy)
    assert (run / "evaluation" / "results.json").is_file()
    assert assembled_in(run) == run / "stage1"
    short = {"epochs": 1, "batch_size": 16}
    learned = {"algorithm": "ppo:n_steps=2,batch_size=8", "num_envs": 8, "epochs": 1}
    gfnet = fit(
        sets,
        tmp_path / "all",
        patch_size=16,
        focus_steps=2,
        stage2={**learned, "begin_from": "heat"},
        stage3={**short, "learning_rate": 1e-4},
        device="cpu",
        **options | {"stage1": {**short, "windows": "mined"}},
    )
    assert gfnet.policy.config["actions"] == "peak:reach=1.0"
    results = json.loads((tmp_path / "all" / "results.json").read_text())
    patches = {name: stage["patches"] for name, stage in results["stages"].items()}
    assert patches == {"stage1": "heat", "stage2": "learned", "stage3": "learned"}


def test_settings_that_fit_does_not_know_are_named(sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in ({"patchsize": 16}, {"stage1": {"epoch": 1}}):
        with pytest.raises(ValueError, match="no setting .*; did you mean '(patch_size|epochs)'"):
            fit(sets, **wrong)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(f"folder:{tmp_path / 'nothing'}")
    with pytest.raises(ValueError, match="images must be text, not None"):
        fit(None)
    with pytest.raises(ValueError, match="run must be a path, not 5"):
        fit(sets, run=5)
    assert list(tmp_path.iterdir()) == []


def test_what_a_stage_lacks_is_said(sets, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no folder .*stage1"):
        train_gfnet(config(tmp_path / "run", stages=(2,)), sets)
    with pytest.raises(ValueError, match=r"stages must be some of 1, 2 and 3, not \(4,\)"):
        config(tmp_path, stages=(4,))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="launch train_classifier"):
        train_gfnet(config(tmp_path / "other"), sets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "nope"}, "unknown encoder 'nope'"),
        ({"frozen": ("nope",)}, "no part 'nope' to freeze"),
        ({"stage2": PolicySchedule(algorithm="nope")}, "unknown learner 'nope'"),
        ({"stage2": PolicySchedule(algorithm="ppo:n_epochs=0")}, "n_epochs must be in"),
        ({"stage2": PolicySchedule(focus_steps=5)}, r"focus_steps must be in 1\.\.2"),
        ({"stage2": PolicySchedule(begin_from="heat")}, "the network has no where-map"),
        ({"accumulation": 2, "stage3": ClassifierSchedule(batch_size=15)}, "a batch of 15 cannot"),
        ({"stage3": ClassifierSchedule(windows="mined")}, "leave out windows"),
    ],
)
def test_mistakes_in_any_stage_are_found_before_the_first(changes, message, sets, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        train_gfnet(config(run, **changes), sets)
    assert not run.exists()
    run.mkdir()
    (run / "results.json").write_text("precious")
    with pytest.raises(ValueError, match=message):
        train_gfnet(config(run, overwrite=True, **changes), sets)
    assert [(path.name, path.read_text()) for path in run.iterdir()] == [
        ("results.json", "precious")
    ]


_TRAININGS = [
    (train_gfnet, PipelineConfig),
    (train_classifier, ClassifierConfig),
    (train_baselines, BaselineConfig),
    (lambda config, sets=None: train_policy(config, image_sets=sets), PolicyConfig),
]


@pytest.mark.parametrize(("train", "kind"), _TRAININGS)
def test_images_that_are_not_there_leave_no_run(train, kind, sets, network, tmp_path):
    network.save(tmp_path / "network")
    values = {"network": tmp_path / "network"} if kind is PolicyConfig else {}
    values |= {"run": tmp_path / "run", "device": "cpu"}
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        train(kind.of(**values, images=f"folder:{tmp_path / 'nowhere'}"))
    for split in sets:
        others = {name: images for name, images in sets.items() if name != split}
        with pytest.raises(ValueError, match=f"lack the split {split}; give train, val, test, not"):
            train(kind.of(**values), others)
    # No images are none at all, not those of the settings.
    with pytest.raises(ValueError, match="lack the split train; give train, val, test, not none"):
        train(kind.of(**values), {})
    assert not (tmp_path / "run").exists()


def test_the_authors_schedules():
    schedules = {
        name: (recipe.stage1.epochs, recipe.stage1.learning_rate, recipe.stage1.encoder_loss or 1)
        for name, recipe in RECIPES.items()
    }
    assert schedules["resnet"] == schedules["densenet"] == (60, 0.01, 1)
    assert schedules["mobilenetv3"] == (90, 0.005, 5)
    assert schedules["efficientnet"] == (30, 0.005, 5)
    assert schedules["regnet"] == (60, 0.02, 1)
    for name in ("resnet", "densenet", "mobilenetv3", "efficientnet", "regnet"):
        recipe = find_recipe(name)
        assert recipe.stage1.weight_decay == (5e-5 if name == "regnet" else 1e-4)
        assert bool(recipe.stage1.freeze_global_encoder) == (
            name in ("mobilenetv3", "efficientnet")
        )
        assert (recipe.stage1.optimiser, recipe.stage1.batch_size) == ("sgd", 256)
        assert recipe.stage1.classifier_learning_rate == 0.1
        assert recipe.stage3.classifier_learning_rate == 0.01
        assert recipe.stage2.steps(images=1000, focus_steps=4) == 15 * 1000 * 4
        assert (recipe.stage2.sampling, recipe.stage2.exits) == ("all", "never")
    with pytest.raises(ValueError, match="unknown recipe 'vgg'; known: default, photographs"):
        find_recipe("vgg")


def test_the_command_line_wins_over_the_recipe(capsys):
    def parse(kind, *arguments):
        return parse_config(kind, "", ["--run", "there", *arguments])

    parsed = parse(ClassifierConfig)
    assert parsed == ClassifierConfig(run=Path("there"))
    parsed = parse(ClassifierConfig, "--recipe", "regnet", "--epochs", "3", "--frozen", "a", "b")
    assert (parsed.schedule.epochs, parsed.schedule.learning_rate) == (3, 0.02)
    assert parsed.options.frozen == ("a", "b")
    third = parse(ClassifierConfig, "--recipe=regnet", "--policy", "runs/policy")
    assert third.schedule.classifier_learning_rate == 0.01
    assert third.policy == Path("runs/policy")
    assert parse(BaselineConfig, "--recipe", "photographs").schedule.batch_size == 16
    resnet = RECIPES["resnet"].stage2
    parsed = parse(PolicyConfig, "--recipe", "resnet", "--algorithm", "ppo-gfnet:gamma=0.5")
    assert parsed.schedule == resnet.replace(algorithm="ppo-gfnet:gamma=0.5")
    short = parse(PolicyConfig, "--recipe", "resnet", "--timesteps", "1000")
    assert short.schedule.steps(images=500, focus_steps=4) == 1000
    short = parse(PipelineConfig, "--recipe", "resnet", "--stage2.timesteps", "1000")
    assert short.stage2.steps(images=500, focus_steps=4) == 1000
    whole = parse(PipelineConfig, "--recipe", "photographs", "--stage3.epochs", "7")
    assert whole.stage1 == RECIPES["photographs"].stage1
    assert whole.stage3 == RECIPES["photographs"].stage3.replace(epochs=7)
    with pytest.raises(SystemExit):
        parse(PolicyConfig, "--timesteps", "1000", "--epochs", "2")
    assert "give timesteps or epochs, not both" in capsys.readouterr().err
    # What happens to be the default is given all the same.
    assert parse(PolicyConfig, "--recipe", "resnet", "--sampling", "uncertain").schedule == (
        resnet.replace(sampling="uncertain")
    )


def test_the_run_that_is_continued_wins_over_the_recipe(sets, tmp_path):
    begun = PolicyConfig.of(
        run=tmp_path / "begun",
        timesteps=48,
        num_envs=4,
        sampling="uncertain",
        oracle_images=0,
        curve_points=0,
        device="cpu",
    )
    train_policy(begun, image_sets={name: load_images(DIGITS, name) for name in sets})
    given = ["--recipe", "resnet", "--continue-from", str(tmp_path / "begun"), "--reward", "sparse"]
    schedule = parse_config(PolicyConfig, "", given).schedule
    assert (schedule.algorithm, schedule.sampling, schedule.num_envs) == ("ppo", "uncertain", 4)
    assert (schedule.timesteps, schedule.epochs, schedule.reward) == (48, None, "sparse")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"replay_gib": 0.0}, "replay_gib must be positive"),
    ],
)
def test_wrong_settings_of_stage_2_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        PolicySchedule(**change)
