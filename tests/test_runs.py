import dataclasses
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import pytest

from gfnet_env import runs
from gfnet_env.files import read_json, write_json
from gfnet_env.runs import Run, RunControl
from gfnet_env.settings import Flat, Settings


@dataclass(frozen=True, kw_only=True)
class Stage(Settings):
    epochs: int = 1


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    run: Path
    network: Path | None = None
    workers: int = 1
    stage: Stage = field(default_factory=Stage)
    control: Flat[RunControl] = field(default_factory=RunControl)


@dataclass(frozen=True)
class Results:
    accuracy: float

    def to_json(self):
        return dataclasses.asdict(self)


def opened(config, **options):
    return Run.open(config.run, config, config.control, **options)


def begin(config, **options):
    with opened(config, **options) as run:
        return run


@pytest.fixture
def config(tmp_path):
    return Config(run=tmp_path / "deep" / "run")


def test_a_run_begins_goes_on_and_ends(config):
    with opened(config) as run:
        assert run.config == config.to_json()
        assert not run.complete
        run.checkpoints.save(3, {"step": 3})
    with opened(config.replace(resume=True, device="cpu")) as run:
        assert not run.complete
        assert run.checkpoints.load("cpu") == {"step": 3}
        # It was begun with that device.
        assert run.config["device"] == "auto"
        run.finish(Results(0.5))
    assert run.results == {"accuracy": 0.5}
    assert not (run.folder / "checkpoints").exists()
    with opened(config.replace(resume=True)) as run:
        assert run.complete


def test_an_existing_run_is_not_touched_unless_asked(config):
    run = begin(config)
    run.finish(Results(0.5))
    (run.folder / "notes.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"already exists.*--resume.*--overwrite"):
        begin(config)
    assert run.complete
    begin(config.replace(overwrite=True))
    assert not run.complete
    assert (run.folder / "notes.txt").read_text() == "precious"


def test_a_run_that_is_refused_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("precious")
    for name in ("file", "other"):
        for control in ({}, {"resume": True}):
            with pytest.raises(FileExistsError, match=r"already exists|holds no run"):
                begin(Config.of(run=tmp_path / name, **control))
    with pytest.raises(FileExistsError, match="already exists"):
        begin(Config.of(run=tmp_path / "file", overwrite=True))
    with pytest.raises(ValueError, match="has bytes that are no text; give another folder"):
        begin(Config.of(run=tmp_path / "\udcff"))
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "other", "notes.txt"}


def test_a_run_that_did_nothing_leaves_nothing(config):
    def fail(step=None):
        with opened(config) as run:
            if step is not None:
                run.checkpoints.save(step, {"step": step})
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        fail()
    assert not config.run.exists()
    with pytest.raises(ValueError, match="a mistake"):
        fail(step=3)
    assert Run(config.run).checkpoints.load("cpu") == {"step": 3}


def test_who_interrupts_a_run_is_told_how_to_go_on(config):
    said = rf"interrupted; the same command with --resume goes on \({config.run}\)"
    with pytest.raises(KeyboardInterrupt, match=said), opened(config):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match=said), opened(config):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt, match="goes on from step 3"), opened(config):
        raise KeyboardInterrupt("goes on from step 3")


def test_nothing_to_resume_is_begun(config):
    config.run.mkdir(parents=True)
    # What a kill leaves that comes while the first file is written.
    (config.run / ".7-abc-config.json").write_text("{")
    begin(config.replace(resume=True))
    assert read_json(config.run / "config.json")["config"] == config.replace(resume=True).to_json()


def test_what_a_run_was_begun_with_is_named(config):
    begin(config)
    going_on = config.replace(resume=True)
    with pytest.raises(ValueError, match=r"was begun with workers=1, not 2; resume it with"):
        begin(going_on.replace(workers=2))
    with pytest.raises(ValueError, match=r"was begun with stage.epochs=1, not 2"):
        begin(going_on.replace(stage=Stage(epochs=2)))
    begin(going_on.replace(workers=2), may_change={"workers"})
    saved = read_json(config.run / "config.json")
    # A setting that came with a later version has no value here; one that is gone has a meaning.
    del saved["config"]["workers"]
    write_json(config.run / "config.json", saved)
    begin(going_on.replace(workers=2))
    saved["config"]["policy_rate"] = 0.1
    write_json(config.run / "config.json", saved)
    with pytest.raises(ValueError, match="by a version of this library that had the setting 'pol"):
        begin(going_on)
    write_json(config.run / "config.json", {})
    with pytest.raises(ValueError, match="has no 'config'"):
        begin(going_on)


def test_a_run_of_runs_keeps_them_only_where_it_goes_on(config):
    part, other = config.run / "part", config.run / "other"
    begin(config, parts=[part])
    for folder in (part, other):
        folder.mkdir()
        (folder / "results.json").write_text("{}")
    begin(config.replace(resume=True), parts=[part])
    assert part.is_dir()
    (config.run / "log.csv").write_text("step,name,value\n")
    begin(config.replace(overwrite=True), parts=[part])
    assert not part.exists()
    assert not (config.run / "log.csv").exists()
    assert (other / "results.json").is_file()


def test_what_could_be_taken_for_the_results_of_a_new_run_is_removed(config):
    names = ("network.json", "agent.zip", "curve.json")

    def left(**options):
        begin(config.replace(overwrite=True), **options)
        found = [name for name in names if (config.run / name).exists()]
        for name in names:
            (config.run / name).write_text("of an earlier run")
        return found

    left()
    assert left() == ["curve.json"]
    assert left(files=["curve.json"]) == []
    # What a run goes on with stays until it is replaced.
    own = config.run / ".." / config.run.name
    assert left(inputs=[None, own], files=["curve.json"]) == ["network.json", "agent.zip"]
    assert left(inputs=[config.run / "elsewhere"]) == ["curve.json"]


def test_a_run_goes_on_where_it_was_moved_with_what_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin(Config(run="all/two", network="all/one"))
    shutil.move("all", "moved")

    def go_on(run, network):
        begin(Config.of(run=run, network=network, resume=True))

    go_on("moved/two", "moved/one")
    go_on(tmp_path / "moved" / "two", tmp_path / "moved" / "one")
    for other in ("moved/other", None):
        with pytest.raises(ValueError, match="was begun with network='all/one', not"):
            go_on("moved/two", other)


def test_two_runs_do_not_share_a_folder(config):
    with opened(config) as run:
        run.checkpoints.save(1, {})
        for changes in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(FileExistsError, match="another process is at work in"):
                begin(config.replace(**changes))
        assert run.checkpoints.load("cpu") == {}
    begin(config.replace(overwrite=True))


def test_a_folder_that_is_removed_or_replaced_is_left_alone(config):
    with opened(config) as run:
        shutil.rmtree(run.folder)
        with pytest.raises(
            FileNotFoundError, match="was removed or replaced while this run was at"
        ):
            run.save_checkpoint(1, {})
        assert not run.folder.exists()
        # Another run begins where it was.
        with opened(config) as other:
            with pytest.raises(FileNotFoundError, match="was removed or replaced"):
                run.finish(Results(0.5))
            assert not other.complete
            other.finish(Results(0.7))
    assert run.results == {"accuracy": 0.7}


_HOLD = """
import sys
from pathlib import Path
from gfnet_env.runs import Run, RunControl
with Run.open(Path(sys.argv[1]), RunControl(), RunControl()):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_kill_sets_the_folder_free(config):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, config.run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(runs.__file__).parent.parent,
    )
    assert holder.stdout.readline() == b"open\n"
    with pytest.raises(FileExistsError, match="another process is at work in"):
        begin(config.replace(overwrite=True))
    holder.kill()
    holder.communicate()
    begin(config.replace(overwrite=True))


def test_folders_that_may_be_written_into(tmp_path):
    runs.check_free(tmp_path)
    runs.check_free(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="give another folder, or --overwrite"):
        runs.check_free(tmp_path)
    runs.check_free(tmp_path, overwrite=True)
    with pytest.raises(FileExistsError, match="already exists"):
        runs.check_free(tmp_path / "file", overwrite=True)


def test_provenance_names_versions_and_commit():
    provenance = runs.provenance()
    assert provenance["versions"]["torch"] == metadata.version("torch")
    in_checkout = (Path(__file__).parent.parent / ".git").exists()
    assert provenance == {"command": provenance["command"], **runs.provenance(command=False)}
    assert len(provenance["commit"].rstrip("+")) == 40 if in_checkout else not provenance["commit"]


def test_devices_by_name():
    assert runs.resolve_device("cpu").type == "cpu"
    assert runs.resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="no device 'abacus' here"):
        runs.resolve_device("abacus")
