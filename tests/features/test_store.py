import copy
import pickle
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.features.store import RecordStore

COUNT, SIZE = 40, 1234


def records(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def opened(folder, **changes):
    values = {"description": {"of": "noise"}, "count": COUNT, "record_bytes": SIZE}
    return RecordStore(folder, **values | changes)


def test_what_was_written_is_there_and_nothing_else(folder):
    store, numbers, written = opened(folder), np.array([7, 2, 39]), records(3)
    assert store.is_new
    store.write(numbers, written)
    for each in (store, opened(folder)):
        found, there = each.read(np.arange(COUNT))
        assert np.flatnonzero(there).tolist() == [2, 7, 39]
        np.testing.assert_array_equal(found[numbers], written)
    assert not opened(folder).is_new


@given(
    writes=st.lists(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=9), max_size=5),
    asked=st.lists(st.integers(0, COUNT - 1), max_size=20),
)
def test_a_store_is_a_table_of_the_latest_records(tmp_path_factory, writes, asked):
    store = opened(tmp_path_factory.mktemp("store"))
    table = {}
    for seed, numbers in enumerate(writes):
        written = records(len(numbers), seed)
        store.write(np.array(numbers), written)
        table |= dict(zip(numbers, written, strict=True))
    found, there = store.read(np.array(asked, dtype=np.int64))
    assert there.tolist() == [number in table for number in asked]
    for number, record in zip(asked, found, strict=True):
        if number in table:
            np.testing.assert_array_equal(record, table[number])


def test_zeros_are_a_record_too(folder):
    store = opened(folder)
    store.write(np.array([3]), np.zeros((1, SIZE), dtype=np.uint8))
    found, there = store.read(np.array([3, 4]))
    assert there.tolist() == [True, False]
    assert not found[0].any()


def test_what_a_kill_leaves_of_a_record_is_not_there(folder):
    store, numbers = opened(folder), np.arange(COUNT)
    store.write(numbers, records(COUNT))
    whole = (folder / "records.bin").read_bytes()
    size = len(whole) // COUNT
    for kept in (1, 8, 9, 600, size - 10):
        cut = bytearray(whole)
        cut[5 * size + kept : 6 * size] = bytes(size - kept)
        (folder / "records.bin").write_bytes(cut)
        found, there = opened(folder).read(numbers)
        assert np.flatnonzero(~there).tolist() == [5]
        np.testing.assert_array_equal(found[there], records(COUNT)[there])


def test_a_damaged_record_can_be_written_again(folder):
    store, one = opened(folder), np.array([5])
    store.write(one, records(1))
    content = bytearray((folder / "records.bin").read_bytes())
    content[-(COUNT - 5) * len(content) // COUNT + 300] ^= 16
    (folder / "records.bin").write_bytes(content)
    store = opened(folder)
    assert not store.read(one)[1].any()
    store.write(one, records(1))
    found, there = store.read(one)
    assert there.all()
    np.testing.assert_array_equal(found, records(1))


def test_what_was_never_written_takes_no_place(folder):
    store = opened(folder, count=10**6)
    sizes = [(folder / name).stat().st_size for name in ("records.bin", "marks.bin")]
    assert RecordStore.most_bytes(10**6, SIZE) == sum(sizes) > 10**9
    assert store.bytes_on_disk < 10**5
    store.write(np.array([10**6 - 1]), records(1))
    assert 0 < store.bytes_on_disk < 10**5
    assert store.read(np.array([10**6 - 1]))[1].all()


def test_a_kill_before_the_mark_leaves_a_record_to_be_written_again(folder):
    store, numbers = opened(folder), np.arange(COUNT)
    store.write(numbers, records(COUNT))
    marks = bytearray((folder / "marks.bin").read_bytes())
    marks[5] = 0
    (folder / "marks.bin").write_bytes(marks)
    store = opened(folder)
    found, there = store.read(numbers)
    assert np.flatnonzero(~there).tolist() == [5]
    np.testing.assert_array_equal(found[there], records(COUNT)[there])
    # A mark with nothing behind it is not believed.
    fresh = opened(folder.with_name("fresh"))
    (folder.with_name("fresh") / "marks.bin").write_bytes(bytes([1]) * COUNT)
    assert not fresh.read(numbers)[1].any()


def test_copies_share_the_file(folder):
    store = opened(folder)
    twins = copy.deepcopy(store), pickle.loads(pickle.dumps(store))
    store.write(np.array([1]), records(1))
    for twin in twins:
        found, there = twin.read(np.array([1]))
        assert there.all()
        np.testing.assert_array_equal(found, records(1))


def test_records_of_another_kind_are_named(folder):
    opened(folder)
    with pytest.raises(ValueError, match=r"another kind: their of is 'noise', not 'music'"):
        opened(folder, description={"of": "music"})


@pytest.mark.parametrize("name", ["records.bin", "marks.bin"])
def test_a_file_that_was_cut_off_is_named_and_left_alone(folder, name):
    opened(folder).write(np.arange(COUNT), records(COUNT))
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for _ in range(2):
        message = rf"{name} is damaged: it has {len(whole) - 1} bytes instead of {len(whole)}"
        with pytest.raises(ValueError, match=message):
            opened(folder)
    assert path.read_bytes() == whole[:-1]
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is damaged: it has no bytes"):
        opened(folder)
    path.write_bytes(whole)
    assert opened(folder).read(np.arange(COUNT))[1].all()


def test_a_description_that_is_damaged_is_named(folder):
    opened(folder)
    (folder / "store.json").write_text("{")
    with pytest.raises(ValueError, match=r"store\.json is not valid JSON"):
        opened(folder)


def test_a_kill_while_a_store_is_made_leaves_one_that_can_be_made(folder):
    folder.mkdir()
    (folder / "records.bin").write_bytes(b"")
    store = opened(folder)
    assert not store.read(np.arange(COUNT))[1].any()


def test_a_full_disk_is_named_and_loses_nothing(folder):
    store = opened(folder)
    store.write(np.array([0]), records(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files may not grow, nor be written, beyond this; as on a full disk, writing fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*records\.bin: .*Nothing that was there"):
            store.write(np.array([0, 30]), records(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found, there = store.read(np.array([0, 30]))
    assert there.tolist() == [True, False]
    np.testing.assert_array_equal(found[:1], records(1))
