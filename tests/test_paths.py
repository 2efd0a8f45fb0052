from pathlib import Path

import pytest

import gfnet_env
from gfnet_env.paths import user_path

LONG = "x" * 300


def test_the_home_folder_is_written_as_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs") == tmp_path / "runs"
    assert user_path(Path("here")) == Path("here")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, TypeError, "a path must be text or a pathlib.Path, not 3"),
        (None, TypeError, "not None"),
        (b"runs", TypeError, "not b'runs'"),
        ("a\0b", ValueError, r"no file can be at 'a\\x00b'"),
        ("~nobody-of-this-name/runs", ValueError, "no file can be at '~nobody-of-this-name/runs'"),
        (LONG, ValueError, "'x+'… is too long for a path"),
    ],
)
def test_what_is_no_path_is_refused(network, path, error, message):
    for use in (
        user_path,
        gfnet_env.EarlyExitGFNet.load,
        gfnet_env.GlanceFocusNetwork.load,
        network.save,
    ):
        with pytest.raises(error, match=message):
            use(path)


def test_a_setting_and_a_spec_are_paths_too():
    with pytest.raises(ValueError, match="is too long for a path"):
        gfnet_env.load_images(f"folder:{LONG}", "test")
    with pytest.raises(ValueError, match="is too long for a path"):
        gfnet_env.GlanceFocusNetwork.build(
            encoder="resnet18", weights=LONG + ".pth", patch_size=32, num_classes=2, focus_steps=1
        )
