import dataclasses
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from gfnet_env import runs
from gfnet_env.training.config import RunControl


@dataclass(frozen=True, kw_only=True)
class Run(RunControl):
    run: Path
    network: Path | None = None


def test_an_existing_run_is_not_touched_unless_asked(tmp_path):
    run = runs.create_run(tmp_path / "deep" / "run")
    (run / "results.json").write_text("precious")
    with pytest.raises(FileExistsError, match=r"already exists.*--overwrite"):
        runs.create_run(run)
    assert runs.create_run(run, overwrite=True) == run
    assert (run / "results.json").read_text() == "precious"


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(FileExistsError, match="already exists"):
        runs.create_run(tmp_path / "run")


def test_a_run_of_runs_keeps_them_only_where_it_goes_on(tmp_path):
    part, other = tmp_path / "run" / "part", tmp_path / "run" / "other"
    begun = Run(run=tmp_path / "run")
    runs.begin_or_resume(begun, (), [part])
    for folder in (part, other):
        folder.mkdir()
        (folder / "results.json").write_text("{}")
    with pytest.raises(FileExistsError, match="already exists"):
        runs.begin_or_resume(begun, (), [part])
    runs.begin_or_resume(dataclasses.replace(begun, resume=True), {"resume"}, [part])
    assert part.is_dir()
    runs.begin_or_resume(dataclasses.replace(begun, overwrite=True), (), [part])
    assert not part.exists()
    assert (other / "results.json").is_file()


def test_a_run_goes_on_where_it_was_moved_with_what_it_is_made_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.begin_or_resume(Run(run=Path("all/two"), network=Path("all/one")), (), [])
    shutil.move("all", "moved")

    def goes_on(run, network):
        return runs.resume_run(Path(run), Run(run=run, network=network), {"run"})

    assert goes_on(Path("moved/two"), Path("moved/one"))
    assert goes_on(tmp_path / "moved" / "two", tmp_path / "moved" / "one")
    for other in (Path("moved/other"), None):
        with pytest.raises(ValueError, match="was begun with network='all/one', not"):
            goes_on(Path("moved/two"), other)


def test_what_a_run_goes_on_with_is_not_stale(tmp_path):
    assert {"network.json", "agent.zip"} <= set(runs.stale_files(tmp_path, [None, tmp_path / "a"]))
    assert runs.stale_files(tmp_path, [None, tmp_path / "a" / ".."]) == ()


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
