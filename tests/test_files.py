import contextlib
import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import nn

from gfnet_env import files


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"accuracy": 1})

    def disk_is_full(temporary):
        temporary.write_text("half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*results\.json: No space left.*make room"):
        files.write_atomically(path, disk_is_full)
    assert json.loads(path.read_text()) == {"accuracy": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write .*run/results\.json.*choose another folder"):
        files.write_json(tmp_path / "run" / "results.json", {})
    assert (tmp_path / "run").read_text() == "a file"


def test_a_check_finds_what_cannot_be_written_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_files(None, tmp_path / "file", tmp_path / "new" / "folder" / "file")
    files.check_writable(tmp_path / "new")
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a file"):
        files.check_files(tmp_path)
    with pytest.raises(OSError, match=r"cannot write .*file/new: Not a directory.*choose another"):
        files.check_files(tmp_path / "file" / "new" / "results.json")
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "link", Path(os.devnull)):
        with pytest.raises(FileExistsError, match=f"{path} is a link or a device; give the name"):
            files.check_files(path)


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    files.write_text(tmp_path / f"{'a' * 250}.json", "{}")
    files.replace_files(tmp_path / ("b" * 255), {"file": b""})


def test_a_name_that_is_no_text_does_not_cost_a_file(tmp_path):
    files.write_text(tmp_path / "table.csv", os.fsdecode(b"caf\xe9.png") + ",犬")
    assert (tmp_path / "table.csv").read_bytes() == "caf\\udce9.png,犬".encode()


def test_json_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "results.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(("{", "not valid JSON"), ("[1]", "a list"), ('{"a": NaN}', "NaN is no JSON")),
        *(("[" * 10**5, "not valid JSON"), (f'{{"a": {"9" * 5000}}}', "not valid JSON")),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "it has 'b' twice"),
    ],
)
def test_reading_json_says_what_is_wrong(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        files.read_json(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match=r"no other\.json"):
        files.read_json(tmp_path / "other.json")


@pytest.fixture
def saved(tmp_path):
    files.save_module(tmp_path, "part", nn.Linear(3, 2), {"size": 3})
    return tmp_path


def test_a_flipped_byte_is_noticed(saved):
    path = saved / "part.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"part\.safetensors is damaged"):
        files.load_weights(saved, "part", nn.Linear(3, 2))


def test_weights_of_another_shape_are_refused_by_name(saved):
    with pytest.raises(ValueError, match=r"weight: \(2, 3\) instead of \(2, 4\)"):
        files.load_weights(saved, "part", nn.Linear(4, 2))


def test_missing_files_are_named(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        files.load_config(tmp_path / "nowhere", "part")
    (saved / "part.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no part\.safetensors"):
        files.load_weights(saved, "part", nn.Linear(3, 2))


@dataclass
class Config:
    size: int


class OldConfig(Config):
    @classmethod
    def from_json(cls, saved):
        return cls(saved["size"] + 1)


def test_configurations_are_read_as_what_they_were(saved):
    assert files.load_config(saved, "part") == {"size": 3}
    assert files.load_config(saved, "part", Config) == Config(3)
    assert files.load_config(saved, "part", OldConfig) == OldConfig(4)
    files.write_json(saved / "part.json", {"sizes": 3})
    with pytest.raises(ValueError, match="does not describe a part"):
        files.load_config(saved, "part", Config)


def test_a_configuration_that_was_changed_is_noticed(saved):
    path = saved / "part.json"
    path.write_text(path.read_text().replace("3", "4", 1))
    for read in (files.load_config, lambda *names: files.load_weights(*names, nn.Linear(3, 2))):
        with pytest.raises(ValueError, match=r"part\.json is damaged, or was changed"):
            read(saved, "part")
    # Those of version 0.1 have no digest.
    files.write_json(path, {"size": 4})
    assert files.load_config(saved, "part") == {"size": 4}


def test_digests_of_all_weights_in_a_folder(saved):
    (saved / "left.safetensors").write_bytes(b"of a run before")
    files.save_module(saved, "other", nn.Linear(1, 1), {})
    digests = files.weights_digests(saved)
    assert sorted(digests) == ["other", "part"]
    assert len(digests["part"]) == 64


class Killed(BaseException):
    """A kill: it goes through every handler, and nothing is done to the disk from then on."""


class Kill:
    """Kills what is run within it once it has touched the files in a folder so many times."""

    events = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")

    def __init__(self):
        self.folder, self.left = None, 0
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.folder is None or event not in self.events:
            return
        if str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if self.left < 0:
                raise Killed

    @contextlib.contextmanager
    def after(self, touches, folder):
        self.folder, self.left = str(folder), touches
        try:
            yield
        except Killed:
            pass
        finally:
            self.folder = None

    @property
    def struck(self):
        return self.left < 0


@pytest.fixture(scope="module")
def kill():
    return Kill()


OLD = {"network.json": b"old", "network.safetensors": b"old weights", "policy.json": b"old too"}
NEW = {"network.json": b"new", "network.safetensors": b"new weights", "gfnet.json": b"added"}


def held(folder):
    found = {}
    for name in {**OLD, **NEW}:
        with contextlib.suppress(FileNotFoundError):
            found[name] = files.read_bytes(folder / name)
    return found


@pytest.mark.parametrize("old", [{}, OLD])
def test_a_kill_at_any_moment_leaves_all_files_old_or_all_new(tmp_path, kill, old):
    seen = []
    for touches in range(100):
        folder = tmp_path / str(touches)
        if old:
            files.replace_files(folder, old)
            (folder / "tensorboard").mkdir()
            (folder / "results.json").write_text("precious")
        with kill.after(touches, folder):
            files.replace_files(folder, NEW)
        now = held(folder)
        assert now in (old, {**old, **NEW})
        seen.append(now != old)
        # Whatever is written next goes on from there, and none of it is lost.
        files.write_bytes(folder / "gfnet.json", b"changed")
        assert held(folder) == {**now, "gfnet.json": b"changed"}
        files.replace_files(folder, NEW)
        assert held(folder) == {**old, **NEW}
        visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        assert visible == {*old, *NEW, *(["tensorboard", "results.json"] if old else [])}
        if not kill.struck:
            break
    # It was killed at many steps, some before the one that counts and some after it.
    assert touches > 10
    assert seen == sorted(seen)
    assert {*seen} == {False, True}


def test_a_full_disk_leaves_the_files_that_were_there(tmp_path, monkeypatch):
    files.replace_files(tmp_path, OLD)

    def disk_is_full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(OSError, match=r"cannot write .*No space left.*make room"):
        files.replace_files(tmp_path, NEW)
    assert held(tmp_path) == OLD
    assert {path.name for path in tmp_path.iterdir()} == {*OLD}


_HALF = """
import os, signal, sys
from pathlib import Path
from gfnet_env import files
files._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
files.replace_files(Path(sys.argv[1]), {"network.json": b"half"})
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows does not say whether a process is gone")
def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    def left():
        return [path for path in tmp_path.iterdir() if path.name.endswith("-files")]

    root = Path(files.__file__).parent.parent
    subprocess.run([sys.executable, "-c", _HALF, tmp_path], cwd=root)
    assert len(left()) == 1
    # A process that is still running goes on writing.
    other = tmp_path / f".{os.getppid()}-0123abcd-files"
    other.mkdir()
    files.write_json(tmp_path / "results.json", {})
    assert left() == [other]
    files.replace_files(tmp_path, NEW)
    assert left() == [other]
