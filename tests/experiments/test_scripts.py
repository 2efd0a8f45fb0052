import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfnet_env import EarlyExitGFNet, zoo
from gfnet_env.benchmarks.report import sheet_format
from gfnet_env.export.runner import Runner
from gfnet_env.images import load_images
from gfnet_env.inference import calibrate
from gfnet_env.zoo import DEFAULT, FOLDER

SCRIPTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    "script",
    sorted(
        path.relative_to(SCRIPTS).as_posix()
        for pattern in ("*.py", "recipes/*.py")
        for path in SCRIPTS.glob(pattern)
    ),
)
def test_every_script_explains_itself(script, run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(script, "--help")
    assert stop.value.code == 0
    called = f"python experiments/{script}" if "/" in script else "gfnet "
    assert capsys.readouterr().out.startswith(f"usage: {called}")


def test_pictures_are_classified_and_drawn(assembled, digits, tmp_path, run):
    pictures = []
    for number, size in enumerate(((128, 128), (128, 128), (200, 150))):
        pixels = digits[[number]][0].permute(1, 2, 0).numpy()
        pictures.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).resize(size).save(pictures[-1])
    answer = run(
        *("classify.py", "--run", tmp_path / "run", "--image-size", 0),
        *("--picture", tmp_path / "looked", "--gif", tmp_path / "looked.gif", *pictures),
    )
    expected = assembled(digits[:2])
    lines = answer.splitlines()
    for row in range(2):
        line = f"{pictures[row]}: {expected.classes[row]} {float(expected.confidence[row]):.1%}, "
        assert lines[row].startswith(line + f"exit at step {expected.exit_step[row]}, ")
    assert lines[2].startswith(str(pictures[2]))
    assert [line.rsplit("/", 1)[1] for line in lines[3:]] == [
        "looked shows where the network looked",
        "looked.gif shows where the network looked",
    ]
    assert (tmp_path / "looked").read_bytes().startswith(b"\x89PNG")
    with Image.open(tmp_path / "looked.gif") as animation:
        # The glance, every look, and the end once more; frames that are alike are one.
        assert 1 < animation.n_frames <= 2 + assembled.model.focus_steps
        assert animation.width > 3 * 256


@pytest.mark.usefixtures("assembled")
def test_pictures_that_cannot_be_read_are_named_and_cost_no_other_its_answer(
    digits, tmp_path, run, capsys
):
    good, bad, missing = (tmp_path / name for name in ("good.png", "bad.png", "missing.png"))
    Image.fromarray(digits[[0]][0].permute(1, 2, 0).numpy()).save(good)
    bad.write_text("no picture")
    with pytest.raises(SystemExit) as ended:
        run("classify.py", "--run", tmp_path / "run", bad, good, missing)
    empty = tmp_path / "empty"
    empty.mkdir()
    printed = capsys.readouterr()
    first, second = printed.err.splitlines()
    assert ended.value.code == 1
    assert first.startswith(f"error: cannot decode {bad}")
    assert second.startswith(f"error: there is no picture {missing}")
    assert printed.out.startswith(f"{good}: ")
    Image.new("RGB", (8, 8)).save(bad)
    with pytest.raises(SystemExit) as ended:
        run("classify.py", "--run", tmp_path / "run", "--image-size", 0, empty, good, bad)
    first, second = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert first.startswith(f"error: there is no picture in {empty}")
    assert second.startswith(f"error: {bad} is 8×8, smaller than the patch")


def test_the_drawing_has_a_format_before_anything_is_classified(tmp_path, run):
    with pytest.raises(SystemExit):
        run("classify.py", "--run", tmp_path, "--picture", "looked.txt", "any.png")
    with pytest.raises(ValueError, match=r"looked\.txt; end it in .png, "):
        sheet_format(Path("looked.txt"))
    assert sheet_format(Path("looked.PNG")) == sheet_format(Path("looked")) == "PNG"


@pytest.mark.usefixtures("assembled")
def test_hidden_files_are_no_pictures(digits, tmp_path, run):
    folder = tmp_path / "pictures"
    picture = Image.fromarray(digits[[0]][0].permute(1, 2, 0).numpy())
    for name in (".ipynb_checkpoints/a.png", "._b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    (folder / "c.png").mkdir()
    with pytest.raises(ValueError, match=r"there is no picture in .*pictures \(.*\.png"):
        run("classify.py", "--run", tmp_path / "run", folder)
    (folder / "sub").mkdir()
    picture.save(folder / "sub" / "d.png")
    lines = run("classify.py", "--run", tmp_path / "run", folder).splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(folder / "sub" / "d.png")]


def test_costs_are_counted_with_a_policy_and_without(assembled, tmp_path, run):
    assembled.model.save(tmp_path / "network")
    with_policy = run("count_cost.py", "--run", tmp_path / "run")
    without = run("count_cost.py", "--run", tmp_path / "network")
    last = f" 3: {assembled.multiply_adds[-1] / 1e6:.3f} M"
    assert last in with_policy
    assert last not in without
    assert "policy" in with_policy
    assert "policy" not in without


def test_a_budget_is_exported(digits, tmp_path, run):
    assembled = EarlyExitGFNet.load(shutil.copytree(FOLDER / DEFAULT, tmp_path / "run"))
    budget = 1.5 * assembled.multiply_adds[0]
    arguments = ("--run", tmp_path / "run", "--out", tmp_path / "out", "--multiply-adds", budget)
    run("export_onnx.py", *arguments)
    assembled.set_budget(multiply_adds=budget)
    runner = Runner(tmp_path / "out")
    assert runner.thresholds == assembled.thresholds
    pixels = np.ascontiguousarray(digits[:3].permute(0, 2, 3, 1).numpy())
    assert runner.classify(list(pixels)).classes.tolist() == assembled(digits[:3]).classes.tolist()
    with pytest.raises(FileExistsError, match="already exists"):
        run("export_onnx.py", *arguments)


def test_tables_are_solved_anew(assembled, tmp_path, run):
    spec = "cluttered-digits:scenes=50"
    arguments = ("--run", tmp_path / "run", "--images", spec, "--method", "searched")
    assert "multiply-adds; thresholds set for" in run("calibrate.py", *arguments)
    calibrated = EarlyExitGFNet.load(tmp_path / "run")
    expected = calibrate(assembled, load_images(spec, "val"), "searched")
    assert calibrated.budgets == expected
    assert calibrated.thresholds in {point.thresholds for point in expected.points}


def test_pictures_are_brought_to_the_size_of_training(assembled, digits, tmp_path, run):
    pixels = digits[[0]][0].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    expected = assembled(digits[:1])
    answer = run("classify.py", "--run", tmp_path / "run", tmp_path / "digit.png")
    assert f"{expected.classes[0]} {float(expected.confidence[0]):.1%}, exit" in answer
    model = assembled.model
    model.trained_on = dataclasses.replace(model.trained_on, image_size=112, crop=0.875)
    assembled.save(tmp_path / "run")
    expected = assembled(digits[:1][..., 8:120, 8:120])
    answer = run("classify.py", "--run", tmp_path / "run", tmp_path / "digit.png")
    assert f"{expected.classes[0]} {float(expected.confidence[0]):.1%}, exit" in answer


@pytest.mark.usefixtures("assembled")
def test_a_packaged_network_has_a_name_of_its_own(tmp_path, run, monkeypatch):
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    spec = "cluttered-digits:scenes=20"
    gfnet = EarlyExitGFNet.load(tmp_path / "run")
    gfnet.model.trained_on = dataclasses.replace(gfnet.model.trained_on, images=spec)
    gfnet.save(tmp_path / "run")
    for name in ("", ".", "..", "../other", "a/b", str(tmp_path / "else")):
        with pytest.raises(SystemExit):
            run("package_network.py", "--run", tmp_path / "run", "--name", name)
    run("package_network.py", "--run", tmp_path / "run", "--name", "digits-2.1")
    assert list(zoo.pretrained()) == ["digits-2.1"]
    with pytest.raises(FileExistsError, match="digits-2.1 already exists"):
        run("package_network.py", "--run", tmp_path / "run", "--name", "digits-2.1")
    run("package_network.py", "--run", tmp_path / "run", "--name", "digits-2.1", "--overwrite")
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["digits-2.1"]
