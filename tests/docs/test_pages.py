"""What the documentation shows is what runs."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

import gfnet_agents.config
import gfnet_agents.recipes
import gfnet_env.command_line
from gfnet_cli.main import main
from gfnet_env.images.folder import _HELD_OUT_SHARE
from gfnet_env.zoo import FOLDER

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PARTS = ROOT / "tests" / "experiments" / "parts"
EXAMPLES = ROOT / "experiments" / "examples"
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *DOCS.rglob("*.md"))}

# Commands of others, the script that an export writes, and examples, which have tests of their own.
OTHERS = (
    *("export", "hf auth", "mkdocs", "pre-commit", "python -m pip", "python -m pytest"),
    *("python exported/classify.py", "python experiments/examples/"),
)
TUTORIAL = "docs/tutorial.md"
# What is run, not only read.
CHEAP = ("classify", "count-cost")


def blocks(path, *languages):
    """The code blocks of a page, each with the number of its first line."""
    text = path.read_text()
    found = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert 2 * len(found) == len(re.findall(r"^ *```", text, re.MULTILINE)), "fences are not seen"
    return [(each.map[0] + 2, each.content) for each in found if each.info in languages]


def pages_with(*languages):
    return [name for name, path in PAGES.items() if blocks(path, *languages)]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """A folder with the runs and the files that pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(PARTS)])
    # Commands decide how errors are shown, for their process.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    # Pages register parts, which no other test should find.
    for registry in gfnet_agents.config.PARTS.values():
        monkeypatch.setattr(registry, "_targets", {**registry._targets})
    for name in ("policy", "photos"):
        shutil.copytree(FOLDER / "cluttered-digits", tmp_path / "runs" / name)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    (tmp_path / "FOLDER").mkdir()
    for name in ("PICTURE", "FOLDER/picture.png", "IN.tif"):
        kind = "TIFF" if name.endswith("tif") else "PNG"
        Image.fromarray(pixels).save(tmp_path / name, kind)


# CI runs the tutorial as a notebook.
@pytest.mark.parametrize("page", [page for page in pages_with("python") if page != TUTORIAL])
def test_python_runs(page):
    names = {"__name__": "page"}
    example = " ".join((EXAMPLES / "reinforce.py").read_text().split())
    for line, code in blocks(PAGES[page], "python"):
        if " ".join(code.split()) not in example:
            # Errors are shown at the lines of the page.
            exec(compile("\n" * (line - 1) + code, page, "exec"), names)


def test_included_files_are_run_by_other_tests():
    tests = (ROOT / "tests" / "experiments").glob("test_*.py")
    tested = " ".join(path.read_text() for path in tests)
    included = [
        Path(name)
        for path in PAGES.values()
        for name in re.findall(r'^--8<-- "(.*\.py)"', path.read_text(), re.MULTILINE)
    ]
    assert len(included) >= 10
    for path in included:
        assert (ROOT / path).is_file()
        assert path.stem in tested


class SettingsRead(Exception):  # noqa: N818
    """The settings of a command were read."""


@pytest.fixture
def only_read(monkeypatch):
    """Commands end once they have read their settings."""
    read = gfnet_env.command_line.read

    def read_and_end(*arguments, **options):
        read(*arguments, **options)
        raise SettingsRead

    for module in (gfnet_env.command_line, gfnet_agents.recipes):
        monkeypatch.setattr(module, "read", read_and_end)


def commands(page):
    """The commands of a page, without continued lines and variables."""
    for _, text in blocks(PAGES[page], "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                yield re.sub(r"^([A-Z_]+=\S+ )+", "", command.strip())


def run(command, monkeypatch):
    words = shlex.split(command.removeprefix("accelerate launch --num_processes 8 -m "))
    if words[0] in ("gfnet", "gfnet_cli"):
        main(words[1:])
    else:
        program, script, *arguments = words
        assert program == "python"
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(ROOT / script), run_name="__main__")


@pytest.mark.parametrize("page", pages_with("bash"))
def test_commands_have_the_options_that_pages_give(page, only_read, monkeypatch):
    for command in commands(page):
        if not command.startswith(OTHERS):
            with pytest.raises(SettingsRead):
                run(command, monkeypatch)


def test_cheap_commands_run(monkeypatch, capsys):
    cheap = {
        command
        for page in pages_with("bash")
        for command in commands(page)
        if command.startswith(tuple(f"gfnet {name} " for name in CHEAP))
    }
    assert len(cheap) >= 3
    for command in sorted(cheap):
        run(command, monkeypatch)
    assert "answers.csv" in {path.name for path in Path().iterdir()}
    assert Path("looked.png").is_file()


def test_what_is_generated_is_committed(monkeypatch):
    generate = runpy.run_path(str(DOCS / "generate.py"))
    for registry in gfnet_agents.config.PARTS.values():
        # Other tests register parts of their own.
        known = {name: registry.find(name) for name in generate["_own"](registry)}
        monkeypatch.setattr(registry, "_targets", known)
    for path, text in generate["pages"]().items():
        assert path.read_text() == text, f"{path.name} is old; run python docs/generate.py"


def test_the_share_of_a_split_is_that_of_the_code():
    assert f"Then {_HELD_OUT_SHARE:.0%} of each class" in PAGES["docs/pictures.md"].read_text()


def test_the_animation_is_drawn(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["looking.py", "--out", "looking.gif", "--scenes", "3"])
    runpy.run_path(str(DOCS / "looking.py"), run_name="__main__")
    with Image.open("looking.gif") as drawn, Image.open(DOCS / "looking.gif") as shown:
        assert drawn.n_frames >= 2
        assert drawn.size == shown.size
    assert (DOCS / "looking.gif").stat().st_size < 1_000_000


def test_the_readme_is_short():
    assert len(PAGES["README.md"].read_text().splitlines()) <= 150
