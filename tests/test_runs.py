from importlib import metadata
from pathlib import Path

import pytest

from gfnet_env import runs


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


def test_provenance_names_versions_and_commit():
    provenance = runs.provenance()
    assert provenance["versions"]["torch"] == metadata.version("torch")
    in_checkout = (Path(__file__).parent.parent / ".git").exists()
    assert len(provenance["commit"].rstrip("+")) == 40 if in_checkout else not provenance["commit"]


def test_devices_by_name():
    assert runs.resolve_device("cpu").type == "cpu"
    assert runs.resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="no device 'abacus' here"):
        runs.resolve_device("abacus")
