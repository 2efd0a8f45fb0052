import errno
import json

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


def test_json_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "results.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[1]", "a list")])
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
