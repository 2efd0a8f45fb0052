import copy
import pickle
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfnet_env.features.store import EntryStore

COUNT, WORDS = 40, 155


def entries(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, (count, WORDS), dtype=np.uint64)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def opened(folder, **changes):
    values = {"description": {"of": "noise"}, "count": COUNT, "words": WORDS}
    return EntryStore(folder, **values | changes)


def test_what_was_written_is_there_and_nothing_else(folder):
    store, numbers, written = opened(folder), np.array([7, 2, 39]), entries(3)
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
def test_a_store_is_a_table_of_the_latest_entries(tmp_path_factory, writes, asked):
    store = opened(tmp_path_factory.mktemp("store"))
    table = {}
    for seed, numbers in enumerate(writes):
        written = entries(len(numbers), seed)
        store.write(np.array(numbers), written)
        table |= dict(zip(numbers, written, strict=True))
    found, there = store.read(np.array(asked, dtype=np.int64))
    assert there.tolist() == [number in table for number in asked]
    for number, entry in zip(asked, found, strict=True):
        if number in table:
            np.testing.assert_array_equal(entry, table[number])


def test_zeros_are_an_entry_too(folder):
    store = opened(folder)
    store.write(np.array([3]), np.zeros((1, WORDS), dtype=np.uint64))
    found, there = store.read(np.array([3, 4]))
    assert there.tolist() == [True, False]
    assert not found[0].any()


def test_what_a_kill_leaves_of_an_entry_is_not_there(folder):
    store, numbers = opened(folder), np.arange(COUNT)
    store.write(numbers, entries(COUNT))
    whole = (folder / "entries.bin").read_bytes()
    size = len(whole) // COUNT
    for kept in (1, 8, 9, 600, size - 10):
        cut = bytearray(whole)
        cut[5 * size + kept : 6 * size] = bytes(size - kept)
        (folder / "entries.bin").write_bytes(cut)
        found, there = opened(folder).read(numbers)
        assert np.flatnonzero(~there).tolist() == [5]
        np.testing.assert_array_equal(found[there], entries(COUNT)[there])


def test_a_damaged_entry_can_be_written_again(folder):
    store, one = opened(folder), np.array([5])
    store.write(one, entries(1))
    content = bytearray((folder / "entries.bin").read_bytes())
    content[-(COUNT - 5) * len(content) // COUNT + 300] ^= 16
    (folder / "entries.bin").write_bytes(content)
    store = opened(folder)
    assert not store.read(one)[1].any()
    store.write(one, entries(1))
    found, there = store.read(one)
    assert there.all()
    np.testing.assert_array_equal(found, entries(1))


def changed(folder, change):
    """Which entries of a full store are missing after a change to the words of its file."""
    opened(folder).write(np.arange(COUNT), entries(COUNT))
    path = folder / "entries.bin"
    lines = np.frombuffer(path.read_bytes(), dtype=np.uint64).reshape(COUNT, 1 + WORDS).copy()
    change(lines)
    path.write_bytes(lines.tobytes())
    found, there = opened(folder).read(np.arange(COUNT))
    np.testing.assert_array_equal(found[there], entries(COUNT)[there])
    return np.flatnonzero(~there).tolist()


@given(st.tuples(st.integers(0, WORDS - 1), st.integers(0, WORDS - 1)), st.integers(0, 63))
def test_swapped_words_are_seen(tmp_path_factory, positions, bit):
    first, second = positions
    store, one = opened(tmp_path_factory.mktemp("store")), np.array([5])
    entry = entries(1)
    # Words that differ as little as possible.
    entry[0, first] = entry[0, second] ^ np.uint64(1 << bit)
    store.write(one, entry)
    path = store.folder / "entries.bin"
    lines = np.fromfile(path, dtype=np.uint64).reshape(COUNT, 1 + WORDS)
    lines[5, [1 + first, 1 + second]] = lines[5, [1 + second, 1 + first]]
    lines.tofile(path)
    assert opened(store.folder).read(one)[1].all() == (first == second)


def test_shifted_words_are_seen(folder):
    def shift(lines):
        lines[5, 1:] = np.roll(lines[5, 1:], 1)
        # As where bytes are lost, and zeros follow.
        lines[6, 20:] = np.append(lines[6, 21:], np.uint64(0))
        lines[7].view(np.uint8)[8:] = np.roll(lines[7].view(np.uint8)[8:], 1)

    assert changed(folder, shift) == [5, 6, 7]


def test_misplaced_entries_are_seen(folder):
    def misplace(lines):
        lines[[3, 8]] = lines[[8, 3]]
        lines[20:30] = lines[21:31]
        lines[39] = lines[0]

    assert changed(folder, misplace) == [3, 8, *range(20, 30), 39]


def test_one_flipped_bit_is_seen_wherever_it_is(folder):
    def flip(lines):
        for number, line in enumerate(lines[1:], start=1):
            line[number % 16 * 10] ^= np.uint64(1 << (number * 7 % 64))

    assert changed(folder, flip) == list(range(1, COUNT))


def test_zeros_fill_what_shorter_entries_leave(folder):
    store, one = opened(folder), np.array([5])
    store.write(one, entries(1))
    store.write(one, entries(1)[:, :20])
    found, there = store.read(one)
    assert there.all()
    np.testing.assert_array_equal(found[:, :20], entries(1)[:, :20])
    assert not found[:, 20:].any()


def test_what_was_never_written_takes_no_place(folder):
    store = opened(folder, count=10**6)
    sizes = [(folder / name).stat().st_size for name in ("entries.bin", "marks.bin")]
    assert EntryStore.most_bytes(10**6, WORDS) == sum(sizes) > 10**9
    assert store.bytes_on_disk < 10**5
    store.write(np.array([10**6 - 1]), entries(1))
    assert 0 < store.bytes_on_disk < 10**5
    assert store.read(np.array([10**6 - 1]))[1].all()


def test_a_kill_before_the_mark_leaves_an_entry_to_be_written_again(folder):
    store, numbers = opened(folder), np.arange(COUNT)
    store.write(numbers, entries(COUNT))
    marks = bytearray((folder / "marks.bin").read_bytes())
    marks[5] = 0
    (folder / "marks.bin").write_bytes(marks)
    store = opened(folder)
    found, there = store.read(numbers)
    assert np.flatnonzero(~there).tolist() == [5]
    np.testing.assert_array_equal(found[there], entries(COUNT)[there])
    # A mark with nothing behind it is not believed.
    fresh = opened(folder.with_name("fresh"))
    (folder.with_name("fresh") / "marks.bin").write_bytes(bytes([1]) * COUNT)
    assert not fresh.read(numbers)[1].any()


def test_copies_share_the_file(folder):
    store = opened(folder)
    twins = copy.deepcopy(store), pickle.loads(pickle.dumps(store))
    store.write(np.array([1]), entries(1))
    for twin in twins:
        found, there = twin.read(np.array([1]))
        assert there.all()
        np.testing.assert_array_equal(found, entries(1))


def test_entries_of_another_kind_are_named(folder):
    opened(folder)
    with pytest.raises(ValueError, match=r"another kind: their of is 'noise', not 'music'"):
        opened(folder, description={"of": "music"})


@pytest.mark.parametrize("name", ["entries.bin", "marks.bin"])
def test_a_file_that_was_cut_off_is_named_and_left_alone(folder, name):
    opened(folder).write(np.arange(COUNT), entries(COUNT))
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
    (folder / "entries.bin").write_bytes(b"")
    store = opened(folder)
    assert not store.read(np.arange(COUNT))[1].any()


def test_a_full_disk_is_named_and_loses_nothing(folder):
    store = opened(folder)
    store.write(np.array([0]), entries(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files may not grow, nor be written, beyond this; as on a full disk, writing fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*entries\.bin: .*Nothing that was there"):
            store.write(np.array([0, 30]), entries(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found, there = store.read(np.array([0, 30]))
    assert there.tolist() == [True, False]
    np.testing.assert_array_equal(found[:1], entries(1))
