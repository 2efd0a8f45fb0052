import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from gfnet_env.env.vector import GlanceFocusVectorEnv
from gfnet_env.images import ArrayImages, PictureImages, batches, load_images, open_folder, pictures
from gfnet_env.images.threads import Threads
from gfnet_env.looks import Look, ViewConfig

SIZES = [(460, 1130), (1130, 460), (200, 3000), (97, 97), (700, 900)]
# All of the pictures above but the last, which is larger than that.
LIMIT = 1_880_000


class NoisePictures(PictureImages):
    """Grey noise, of one size or of sizes of their own; counts what is read."""

    def __init__(self, sizes, fixed_size=None, **options):
        super().__init__(**options)
        self.labels = torch.zeros(len(sizes), dtype=torch.int64)
        self.fixed_size = fixed_size
        self.all_sizes = torch.tensor(sizes)
        self.read, self.together = [], []

    def _sizes(self, indices):
        return self.all_sizes[torch.from_numpy(indices)]

    def _read(self, indices):
        self.read += indices.tolist()
        self.together.append(len(indices))
        pictures = [
            torch.from_numpy(
                np.random.default_rng(index).integers(
                    0, 256, (1, *self.all_sizes[index].tolist()), dtype=np.uint8
                )
            )
            for index in indices.tolist()
        ]
        return torch.stack(pictures) if self.fixed_size else pictures


def noise(count=12, **options):
    return NoisePictures([(9, 11)] * count, (9, 11), **options)


def everything(images):
    return torch.stack([images.picture(index) for index in range(len(images))])


@pytest.mark.parametrize("slots", [0, 1, 3, 5, 12, 50])
def test_what_is_kept_never_changes_what_is_seen(slots):
    reference = everything(noise())
    in_memory = ArrayImages(reference)
    images = noise(memory_limit=slots * 99)
    rng = np.random.default_rng(0)
    for _ in range(40):
        chosen = rng.integers(0, 12, rng.integers(0, 8))
        looks = Look.at(torch.rand(len(chosen), 2) * 2 - 1, 1 + torch.rand(len(chosen)))
        assert torch.equal(images[chosen], reference[chosen])
        assert torch.equal(images.overview(chosen, 4), in_memory.overview(chosen, 4))
        assert torch.equal(images.window(chosen, looks, 4), in_memory.window(chosen, looks, 4))


def test_pictures_that_fit_are_read_once():
    images = noise()
    for chosen in ([3, 3, 1], [1, 2], range(12), range(12)):
        images.overview(chosen, 4)
    assert sorted(images.read) == list(range(12))


def test_a_batch_that_does_not_fit_keeps_what_does():
    images = noise(memory_limit=4 * 99)
    for _ in range(3):
        images.overview(range(6), 4)
    assert sorted(images.read) == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5]
    mixed = NoisePictures([(9, 11)] * 6, memory_limit=4 * 99)
    for _ in range(3):
        mixed.overview(range(6), 4)
    assert sorted(mixed.read) == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5]


def test_the_pictures_looked_at_longest_ago_are_dropped():
    images = NoisePictures([(9, 11)] * 4, memory_limit=3 * 99)
    for index in (0, 1, 2, 0, 3, 0, 1):
        images.overview([index], 4)
    assert images.read == [0, 1, 2, 3, 1]


def test_a_picture_larger_than_the_limit_drops_no_other():
    images = NoisePictures([(9, 11), (100, 100)], memory_limit=200)
    for index in (0, 1, 0, 1):
        images.overview([index], 4)
    assert images.read == [0, 1, 1]


# Pictures that have sizes of their own are taken for coloured before they are read.
@pytest.mark.parametrize(("fixed_size", "channels"), [(None, 3), ((9, 11), 1)])
def test_pictures_are_read_ahead_where_three_batches_fit(fixed_size, channels):
    images = NoisePictures([(9, 11)] * 20, fixed_size, memory_limit=3 * 3 * channels * 99)
    images.prefetch([0, 1, 2])
    images.prefetch([2, 3])
    assert images.read == [0, 1, 2, 3]
    # The first call finds out how large the pictures of a set of one size are.
    images.prefetch(range(20))
    assert images.read == [0, 1, 2, 3]


# What Python 3.12 says of any fork beside a thread.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("fixed_size", [None, (9, 11)])
def test_a_forked_process_sees_what_its_parent_does(fixed_size, forked):
    images = NoisePictures([(9, 11)] * 12, fixed_size, workers=2, memory_limit=4 * 99)
    reference, over = everything(noise()), threading.Event()

    def look(seed):
        rng = np.random.default_rng(seed)
        for number in range(30):
            chosen = rng.integers(0, 12, 3)
            shown = images.overview(chosen, ViewConfig(size=9))
            expected = ArrayImages(reference[chosen]).overview(range(3), 9)
            assert torch.equal(shown, expected), number

    def look_on():
        while not over.is_set():
            look(0)

    thread = threading.Thread(target=look_on)
    thread.start()
    assert [forked(lambda: look(1)) for _ in range(3)] == [0, 0, 0]
    over.set()
    thread.join()


@pytest.mark.parametrize("fixed_size", [None, (9, 11)])
def test_threads_see_what_one_alone_sees(fixed_size):
    images = NoisePictures([(9, 11)] * 12, fixed_size, workers=2, memory_limit=4 * 99)
    reference = everything(noise())
    wrong = []

    def look(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            chosen = rng.integers(0, 12, 3)
            images.prefetch(chosen[:1])
            if not torch.equal(
                images.overview(chosen, ViewConfig(size=9))[:, :, :, 0],
                ArrayImages(reference[chosen]).overview(range(3), 9)[:, :, :, 0],
            ):
                wrong.append(chosen)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_few_large_pictures_are_decoded_at_once(monkeypatch):
    """Whatever the batch: 256 pictures of 2048×2048 take 3 GiB."""
    monkeypatch.setattr(pictures, "_READ_BYTES", 2 * 3 * 99)
    for memory_limit in (0, 5 * 99, 12 * 99):
        images = noise(memory_limit=memory_limit)
        order = np.random.default_rng(0).permutation(12)
        images.prefetch(order)
        assert torch.equal(images[order], everything(noise())[order])
        assert set(images.together) == {2}


class SharedPictures(PictureImages):
    """Floats in memory of its own, which it shows."""

    def __init__(self, pixels, fixed_size, memory_limit):
        super().__init__(memory_limit=memory_limit)
        self.pixels, self.labels = pixels, torch.arange(len(pixels)) % 5
        self.fixed_size, self.normalised = fixed_size, True

    def _read(self, indices):
        return self.pixels[int(indices[0]) : int(indices[-1]) + 1]


@pytest.mark.parametrize("fixed_size", [None, (16, 16)])
@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_a_set_keeps_the_memory_that_it_shows(fixed_size, memory_limit, tiny_network):
    pixels = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images = SharedPictures(pixels.clone(), fixed_size, memory_limit)
    env = GlanceFocusVectorEnv(
        2, model=tiny_network, images=images, features="live:keep_glances=true"
    )
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.sample())
    assert images.pixels.equal(pixels)


def test_a_fork_and_a_copy_have_threads_of_their_own():
    threads = Threads(2)
    assert threads.map(abs, [-1, -2, -3]) == [1, 2, 3]
    for other in (copy.deepcopy(threads), pickle.loads(pickle.dumps(threads))):
        assert other.lock is not threads.lock
        assert other.map(abs, [-1, -2, -3]) == [1, 2, 3]
    # What a child of os.fork() runs first; Python 3.12 warns of the fork itself.
    lock = threads.lock
    with lock:
        Threads._renew_all()
        assert threads.map(abs, [-1, -2]) == [1, 2]
    with pytest.raises(ValueError, match="workers must be at least 0, not -1"):
        Threads(-1)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Noise of five sizes, one of them larger than the limit of memory."""
    root = tmp_path_factory.mktemp("mixed")
    for number, size in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        path = root / "test" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)
    (root / "train").symlink_to(root / "test")
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_all_shapes_are_seen_whole_and_at_their_own_resolution(mixed, workers):
    images = open_folder(mixed, "test", workers=workers, memory_limit=LIMIT)
    numbers = [int(file.stem) for file in images.files]
    whole = [torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in images.files]
    assert images.sizes(range(5)).tolist() == [list(SIZES[number]) for number in numbers]
    view = ViewConfig(size=96)
    for _ in range(2):
        overviews = images.overview(range(5), view)
        for row, corner in enumerate([(-1, -1), (1, 1), (-1, 1), (1, -1), (1, 1)]):
            expected = functional.interpolate(
                whole[row][None], (96, 96), mode="bilinear", antialias=True
            )
            assert torch.equal(overviews[row], expected[0])
            window = images.window([row], Look.at(torch.tensor([corner]).float()), view)[0]
            height, width = whole[row].shape[1:]
            top, left = (height - 96) * (corner[0] > 0), (width - 96) * (corner[1] > 0)
            assert torch.equal(window, whole[row][:, top : top + 96, left : left + 96])
    # A look larger than the picture shows all of it, and so cannot miss anything.
    all_of_it = Look.at(torch.zeros(5, 2), torch.full((5,), 40.0))
    assert torch.equal(images.window(range(5), all_of_it, view), overviews)
    with pytest.raises(ValueError, match="is 97×97, smaller than the patch of 98×98"):
        images.overview(range(5), 98)


def test_a_mixed_folder_comes_in_batches(mixed):
    images = load_images(f"folder:{mixed}", "test", memory_limit=LIMIT)
    for batch in batches(images, 2):
        assert images.overview(batch.indices, 32).shape == (len(batch.labels), 3, 32, 32)


def test_a_padded_overview_keeps_the_shape(mixed):
    images = open_folder(mixed, "test")
    padded = images.overview(range(5), ViewConfig(size=64, aspect="pad"))
    for row, file in enumerate(images.files):
        height, width = SIZES[int(file.stem)]
        scale = 64 / max(height, width)
        shown = (round(height * scale), round(width * scale))
        seen = (padded[row] > 0).any(dim=0)
        rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
        assert len(rows) == shown[0]
        assert len(columns) == shown[1]
        middle = (rows.float().mean() - 31.5, columns.float().mean() - 31.5)
        assert max(map(abs, middle)) <= 1
        picture = images.picture(row)[None]
        expected = functional.interpolate(picture, shown, mode="bilinear", antialias=True)[0]
        box = padded[row][:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert torch.equal(box, expected)


def test_a_set_without_a_size_makes_no_batch(mixed):
    images = open_folder(mixed, "test")
    with pytest.raises(ValueError, match=r"sizes of their own.*overview\(\)"):
        images[:2]
    assert len(images.digest()) == 64
    first, again, other = (NoisePictures([(9, 11), (5, 5 + more)]).digest() for more in (0, 0, 1))
    assert first == again != other


def test_grey_pictures_take_one_channel(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    Image.fromarray(grey).save(tmp_path / "train" / "a" / "0.png")
    Image.fromarray(np.stack([grey, grey, grey], axis=2)).save(tmp_path / "train" / "b" / "1.png")
    images = open_folder(tmp_path, "train", memory_limit=4 * 20 * 30)
    first, second = images.overview([0, 1], 20)
    assert torch.equal(first, second)
    # Both fit only because one of them is kept as one channel.
    for file in images.files:
        file.unlink()
    assert torch.equal(images.picture(0), images.picture(1))
