import json

import pytest
import torch

from gfnet_env.checkpoints import Checkpoints

CPU = torch.device("cpu")


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.load(CPU) is None
    for step in (5, 90, 1000):
        checkpoints.save(step, {"step": step, "model": {"weight": torch.full((4,), float(step))}})
    return checkpoints


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_the_latest_two_are_kept(checkpoints):
    assert names(checkpoints) == [
        *("000000090.json", "000000090.pt", "000001000.json", "000001000.pt")
    ]
    loaded = checkpoints.load(CPU)
    assert loaded["step"] == 1000
    assert torch.equal(loaded["model"]["weight"], torch.full((4,), 1000.0))
    checkpoints.clear()
    assert not checkpoints.folder.exists()
    checkpoints.clear()


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["000001000.pt", "000001000.json"])
@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_damage_is_found_and_the_one_before_offered(checkpoints, file, how):
    damage(checkpoints.folder / file, how)
    with pytest.raises(ValueError, match=r"000001000\.pt is damaged.*000000090\.pt .* is whole"):
        checkpoints.load(CPU)
    # As the message says.
    (checkpoints.folder / "000001000.json").unlink()
    assert checkpoints.load(CPU)["step"] == 90


def test_damage_without_a_way_out_is_said(checkpoints):
    for path in checkpoints.folder.glob("*.pt"):
        damage(path, "flipped")
    with pytest.raises(ValueError, match="none before it; begin anew"):
        checkpoints.load(CPU)


def test_what_a_kill_left_is_no_checkpoint_and_goes(checkpoints):
    (checkpoints.folder / "000002000.pt").write_bytes(b"half of a")
    (checkpoints.folder / ".17-abc-000002000.pt").write_bytes(b"half of a")
    assert checkpoints.load(CPU)["step"] == 1000
    checkpoints.save(1001, {"step": 1001})
    assert [name for name in names(checkpoints) if name.endswith(".pt")] == [
        *("000001000.pt", "000001001.pt")
    ]


def test_no_code_is_run_on_loading(checkpoints, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    checkpoints.save(2000, {"step": Harmful()})
    # An attacker who changes the file can change its digest too.
    assert json.loads((checkpoints.folder / "000002000.json").read_text())["step"] == 2000
    with pytest.raises(ValueError, match="more than tensors and plain values; loading those would"):
        checkpoints.load(CPU)
    assert not (tmp_path / "harm").exists()
