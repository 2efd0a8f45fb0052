"""The command ``gfnet``."""

import csv
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from gfnet_agents import PipelineConfig, parse_config
from gfnet_cli.commands import COMMANDS
from gfnet_cli.main import parts_of, settings_of
from gfnet_env.settings import all_settings
from gfnet_env.zoo import DEFAULT, FOLDER

from .conftest import SCRIPTS

_FILES = {"train": "train_gfnet", "export": "export_onnx"}
# Experiments need none of these.
_NO_SCRIPTS = {"demo", "pull", "push"}
DIGITS = ("--images", "cluttered-digits:scenes=24", "--device", "cpu")
SMALL = ("--patch-size", 16, "--focus-steps", 2, "--batch-size", 8, "--epochs", 2)


@pytest.fixture
def pictures(digits, tmp_path):
    """A folder of two pictures, and one that is broken."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        pixels = digits[[number]][0].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_text("no picture")
    return folder


@pytest.fixture
def packaged(tmp_path):
    """A copy of the packaged network in the folder ``run``."""
    shutil.copytree(FOLDER / DEFAULT, tmp_path / "run")


def _listed(text):
    """The names of the options that help lists."""
    return set(re.findall(r"^  (?:-h, )?(--[\w.-]+)", text, flags=re.MULTILINE))


def test_help_comes_at_once():
    code = (
        "import sys\nfrom gfnet_cli.main import main\n"
        "for words in (['train-policy', '--help'], ['--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit as stop: assert not stop.code\n"
        "print({'torch', 'numpy', 'rich', 'yaml'} & sys.modules.keys())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *lines, imported = done.stdout.splitlines()
    assert imported == "set()"
    assert max(map(len, lines)) <= 80
    for name, command in COMMANDS.items():
        assert any(line.split() == [name, *command.summary.split()] for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder that is in use")
def test_a_working_directory_that_is_gone_is_named(tmp_path):
    code = (
        f"import os\nos.chdir({str(tmp_path)!r})\nos.rmdir({str(tmp_path)!r})\n"
        "from gfnet_cli.main import main\nmain(['soak', '--out', 'new'])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the working directory is gone; go to another and try again\n"


def test_without_a_command_there_is_help(gfnet):
    assert gfnet().status == 2
    assert gfnet().out == gfnet("--help").out
    assert gfnet("--version").out.startswith("gfnet-env ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, gfnet):
    command = COMMANDS[name]
    settings = list(all_settings(settings_of(command)))
    options = {f"--{each.name.replace('_', '-')}" for each in settings if not each.positional}
    common = {"--help", "--help-all", "--config", "--import", "--plots", "--debug", "--dry-run"}
    common |= {"--recipe"} if command.recipes else set()
    short, everything = gfnet(name, "--help"), gfnet(name, "--help-all")
    assert short.status == everything.status == 0
    assert _listed(everything.out) == options | common
    first = {f"--{each.replace('_', '-')}" for each in command.first}
    needed = {f"--{each.name}" for each in settings if each.required and not each.positional}
    assert _listed(short.out) == ((first | needed) if first else options) | common
    assert len(_listed(short.out) - common) <= 10
    for text in (short.out, everything.out):
        assert text.startswith(f"usage: gfnet {name} ")
        joined = " ".join(text.replace(" \\\n", " ").split())
        assert all(f"gfnet {name} {example}".strip() in joined for example in command.examples)
        assert max(map(len, text.splitlines())) <= 80
        # Everything is explained.
        assert not re.search(r"^  --[\w-]+( [A-Z]+)?$\n  --", text, flags=re.MULTILINE)


# Settings that are text and name no part.
_NO_PARTS = {"weights", "frozen", "device", "address", "providers", "search", "name"}
_NO_PARTS |= {"repo_id", "license", "revision", "log", "tasks"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_that_may_name_a_part_is_known_as_one(name):
    # So that a file of options cannot name code in it.
    parts = parts_of(COMMANDS[name])
    for each in all_settings(settings_of(COMMANDS[name])):
        last = each.name.rpartition(".")[2]
        if each.form[0] is str:
            assert (last in parts) != (last in _NO_PARTS), last


def test_a_file_of_options_runs_no_code(gfnet, tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text(f"encoders: ['os:mkdir:{tmp_path / 'harm'}']\n")
    done = gfnet("check-backbones", "--config", path)
    assert done.status != 0
    assert "'os', which no file may import" in done.err
    assert not (tmp_path / "harm").exists()


def test_scripts_are_the_commands(run, gfnet):
    scripts = {path.stem for path in SCRIPTS.glob("*.py")}
    names = COMMANDS.keys() - _NO_SCRIPTS
    assert scripts == {_FILES.get(name, name.replace("-", "_")) for name in names}
    for name in names:
        script = f"{_FILES.get(name, name.replace('-', '_'))}.py"
        assert f'run("{name}")' in (SCRIPTS / script).read_text()


def test_a_script_does_what_its_command_does(assembled, run, gfnet, tmp_path, monkeypatch):
    counted = gfnet("count-cost", "--run", tmp_path / "run")
    assert counted.status == 0
    assert run("count_cost.py", "--run", tmp_path / "run") == counted.out
    assert f"{assembled.multiply_adds[-1] / 1e6:.3f} M" in counted.out
    assert max(map(len, counted.out.splitlines())) <= 80


def test_a_dry_run_writes_nothing_and_its_settings_can_be_given(gfnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("--run", "new", *DIGITS, *SMALL[:4], "--stage2.num-envs", 4)
    arguments += ("--stage2.timesteps", 40, "--stage1.epochs", 2, "--stage1.batch-size", 8)
    planned = gfnet("train", *arguments, "--dry-run")
    assert planned.status == 0
    assert list(tmp_path.iterdir()) == []
    for line in (
        "# stage 1, images: train 24, val 24, test 24",
        "# stage 1, steps: 6: 2 epochs of 3 steps",
        "# stage 2, looks: 40, in 4 images at once",
        "# stage 3, steps: 4: 4 epochs of 1 steps",
    ):
        assert line in planned.out.splitlines()
    assert "# time: about " in planned.out
    assert re.search(r"# memory: [\d.]+ GiB", planned.out)
    settings = yaml.safe_load(planned.out)
    assert settings["stage2"]["timesteps"] == 40
    (tmp_path / "plan.yaml").write_text(planned.out)
    given = parse_config(PipelineConfig, "", [*map(str, arguments)])
    assert parse_config(PipelineConfig, "", ["--config", "plan.yaml"]) == given.resolved()


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("train-baseline", ("--run", "new", *DIGITS, "--epochs", 1), "# steps, 32×32: 1: 1 epochs"),
        ("evaluate", ("--run", "run", "--out", "new", *DIGITS), "# passes: val 1, test 2"),
        (
            "compare-policies",
            ("--run", "run", "--out", "new", "--policies", "random", "learned", *DIGITS),
            "# policies: random, learned",
        ),
        ("compare-exits", ("--run", "run", "--out", "new", *DIGITS), "# images: val 24, test 24"),
        ("calibrate", ("--run", "run", *DIGITS), "# images: val 24"),
        ("classify", ("--run", "run", "pictures/0.png"), "# images: pictures 1"),
        (
            "compare-algorithms",
            ("--run", "new", "--stage2.timesteps", 40, "--stage2.num-envs", 4, *DIGITS),
            "# runs: 1 learners with 3 seeds each",
        ),
        ("export", ("--run", "run", "--out", "new"), "# cost: this command does not estimate it"),
    ],
)
def test_every_plan_is_made_without_writing(
    name, arguments, shown, packaged, pictures, gfnet, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    planned = gfnet(name, *arguments, "--dry-run")
    assert planned.err == ""
    assert any(line.startswith(shown) for line in planned.out.splitlines())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["trian"], 2, "there is no command 'trian'; did you mean train?"),
        (["train-policy", "--epoch", 3], 2, "there is no option --epoch; did you mean --epochs?"),
        (["train-policy", "more"], 2, "unexpected 'more'"),
        (["train-policy", "--timesteps"], 2, "--timesteps: expected one argument"),
        (["train-policy", "--timesteps", "few"], 2, "must be a whole number, not 'few'"),
        (["train-policy", "--timesteps", 0], 2, "timesteps must be at least 1, not 0"),
        (["train-policy", "--sampling", "some"], 2, "sampling must be all or uncertain"),
        (["calibrate"], 2, "give --run: Run folder of an assembled network"),
        (["classify", "--run", "run"], 2, "give pictures: Picture files"),
        (["train-policy", "--algorithm", "pqo"], 1, "unknown learner 'pqo'; did you mean 'ppo'?"),
        (["train", "--run", "new", "--recipe", "vgg"], 1, "unknown recipe 'vgg'"),
        (["train", "--config", "none.yaml"], 1, "there is no none.yaml in ."),
        (["train", "--import", "nowhere"], 1, "cannot import 'nowhere'"),
        (
            ["evaluate", "--run", "none"],
            1,
            "there is no folder none; give one that holds gfnet.json",
        ),
        (["classify", "a.png", "--run", "run", "--top-k", 99], 1, "knows 10 classes"),
        (["classify", "--run", "run", "empty"], 1, "there is no picture in empty"),
        (["train-classifier", "--run", "run"], 1, "run already exists"),
        (["train-policy", "--images", "folder:none"], 1, "none"),
        (["train-policy", "--device", "tpu"], 1, "no device 'tpu' here"),
    ],
)
def test_mistakes_are_shown_in_a_line(
    arguments, status, shown, packaged, gfnet, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    ended = gfnet(*arguments)
    (line,) = ended.err.splitlines()
    assert line.startswith("error: ")
    assert shown in line
    assert ended.status == status
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        *(["measure-scale", "--out"], ["measure-memory", "--run", "none", "--out"]),
        *(["benchmark", "--out"], ["classify", "none", "--run", "none", "--csv"]),
        ["classify", "none", "--run", "none", "--dry-run", "--csv"],
        ["classify", "none", "--run", "none", "--picture"],
    ],
)
def test_what_can_be_no_file_is_refused_before_any_work(arguments, gfnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "looked.csv" if arguments[-1] == "--csv" else "looked.png"
    (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    for path, shown in ((name, f"{name} is a folder"), (f"file/{name}", "Not a directory")):
        ended = gfnet(*arguments, path)
        assert shown in ended.err
        assert not ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        *(["train", "--run"], ["train-baseline", "--run"], ["train-classifier", "--run"]),
        *(["train-policy", "--run"], ["compare-algorithms", "--run"], ["soak", "--out"]),
        *(["compare-algorithms", "--run", "new", "--out"], ["export", "--run", "none", "--out"]),
    ],
)
def test_what_can_be_no_folder_is_refused_before_any_work(arguments, gfnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for path in ("file", "file/new"):
        ended = gfnet(*arguments, path)
        assert re.search(rf"cannot write {path}: Not a dir|{path} already exists", ended.err)
        assert not ended.out


def test_debug_shows_where_a_mistake_was_found(gfnet, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for arguments in (("evaluate", "--run", "none"), ("train-policy", "--timesteps", 0)):
        ended = gfnet(*arguments, "--debug")
        assert ended.status == 1
        assert "Traceback" in ended.err


def test_our_own_mistakes_keep_their_traceback(gfnet, monkeypatch):
    def fail(_):
        raise AssertionError("never")

    monkeypatch.setattr("gfnet_env.commands.count_cost.part_costs", fail)
    monkeypatch.setattr("gfnet_env.commands.count_cost.load_model", fail)
    ended = gfnet("count-cost", "--run", "any")
    assert ended.status == 1
    assert "Traceback" in ended.err


def test_a_folder_is_classified_into_a_table(assembled, pictures, gfnet, digits, tmp_path):
    # The run of all stages, of which the last one counts.
    (tmp_path / "run").rename(tmp_path / "stage3")
    table = tmp_path / "answers.csv"
    arguments = ("classify", pictures, "--run", tmp_path, "--csv", table, "--top-k", 3)
    ended = gfnet(*arguments)
    assert ended.status == 1
    assert ended.err.startswith(f"error: cannot decode {pictures / 'broken.png'}")
    skipped = gfnet(*arguments, "--skip-unreadable")
    assert skipped.status == 0
    (line,) = skipped.err.splitlines()
    assert line.startswith(f"skipped: cannot decode {pictures / 'broken.png'}")
    assert f"{table} holds the answers for 2 pictures" in skipped.out
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [str(pictures / f"{n}.png") for n in range(2)]
    expected = assembled(digits[:2])
    best = expected.probabilities.topk(3)
    for number, row in enumerate(rows):
        assert [int(row[f"class_{rank}"]) for rank in (1, 2, 3)] == best.indices[number].tolist()
        shares = [float(row[f"probability_{rank}"]) for rank in (1, 2, 3)]
        assert np.allclose(shares, best.values[number], atol=1e-5)
        assert int(row["looks"]) == expected.exit_step[number]
        assert int(row["multiply_adds"]) == expected.multiply_adds[number]
    only = gfnet("classify", pictures / "broken.png", "--run", tmp_path, "--skip-unreadable")
    assert only.status == 1
    # Nothing is written over a picture.
    for option, message in (
        ("--csv", "csv must be a file for a table, not the picture"),
        ("--picture", "is a picture to classify; give another file for the drawing"),
    ):
        ended = gfnet("classify", pictures, "--run", tmp_path, option, pictures / "0.png")
        assert ended.status != 0
        assert message in ended.err


def test_answers_name_several_classes(assembled, pictures, gfnet, tmp_path):
    ended = gfnet("classify", pictures / "0.png", "--run", tmp_path / "run", "--top-k", 2)
    assert re.fullmatch(
        rf"{pictures}/0.png: \d [\d.]+%, \d [\d.]+%, exit at step \d, [\d.]+ M multiply-adds\n",
        ended.out,
    )
