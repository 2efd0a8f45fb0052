import hashlib
import http.server
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102, Imagenette
from torchvision.datasets.imagenet import ARCHIVE_META

from gfnet_env.images import IMAGES, PUBLISHED, load_images

SPLITS = ("train", "val", "test")
WNIDS = ("n01440764", "n02102040")


def write_pictures(*paths):
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number % 256, dtype=np.uint8)).save(path)


def open_splits(name, root):
    return {split: load_images(name, split, image_size=8, data_root=root) for split in SPLITS}


def files(images):
    return {file.name for file in images.files}


def write_tree(root, train=20, val=5):
    write_pictures(
        *(root / "train" / wnid / f"{wnid}_{n}.JPEG" for wnid in WNIDS for n in range(train)),
        *(root / "val" / wnid / f"val_{wnid}_{n}.JPEG" for wnid in WNIDS for n in range(val)),
    )


@pytest.fixture
def imagenette(tmp_path):
    write_tree(tmp_path / "imagenette2")
    return tmp_path


def test_every_published_set_has_its_name():
    assert set(PUBLISHED) <= set(IMAGES)


def test_imagenette_is_tested_on_what_is_published_for_validation(imagenette):
    splits = open_splits("imagenette", imagenette)
    assert [len(images) for images in splits.values()] == [36, 4, 10]
    assert not files(splits["train"]) & files(splits["val"])
    assert all(name.startswith("val_") for name in files(splits["test"]))
    for images in splits.values():
        assert images.class_names == ("tench", "English springer")
        assert images.labels.bincount().tolist() == [len(images) // 2] * 2
        assert images[:2].shape == (2, 3, 8, 8)
    assert open_splits("imagenette", imagenette)["val"].files == splits["val"].files


def test_a_class_that_train_lacks_is_named(imagenette):
    write_pictures(imagenette / "imagenette2" / "val" / "n02979186" / "0.JPEG")
    with pytest.raises(ValueError, match=r"val has the class 'n02979186', which .*train lacks"):
        load_images("imagenette", "test", data_root=imagenette)


def test_imagenet_unpacks_its_archives(tmp_path, monkeypatch):
    torch.save(({WNIDS[0]: ("tench",), WNIDS[1]: ("springer",)}, WNIDS * 5), tmp_path / "meta.bin")
    write_tree(tmp_path / "source", train=10)
    archive = tmp_path / "ILSVRC2012_img_train.tar"
    with tarfile.open(archive, "w") as outer:
        for wnid in WNIDS:
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for path in sorted((tmp_path / "source" / "train" / wnid).iterdir()):
                    inner.add(path, path.name)
            member = tarfile.TarInfo(f"{wnid}.tar")
            member.size = content.tell()
            content.seek(0)
            outer.addfile(member, content)
    (tmp_path / "source" / "val").rename(tmp_path / "val")
    with pytest.raises(OSError, match="ILSVRC2012_img_train.tar is not present .* or is corrupted"):
        load_images("imagenet", "train", data_root=tmp_path)
    assert not (tmp_path / "train").exists()
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(ARCHIVE_META, "train", (archive.name, md5))
    splits = open_splits("imagenet", tmp_path)
    assert [len(images) for images in splits.values()] == [18, 2, 10]
    assert splits["test"].class_names == ("tench", "springer")


def test_imagenet_has_to_be_fetched_by_hand(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"neither .*meta\.bin nor .*devkit.* three archives"
    ):
        load_images("imagenet", data_root=tmp_path)


@pytest.fixture
def flowers(tmp_path, monkeypatch):
    folder = tmp_path / "flowers-102"
    write_pictures(*(folder / "jpg" / f"image_{number:05d}.jpg" for number in range(1, 13)))
    savemat(folder / "imagelabels.mat", {"labels": np.arange(12) % 3 + 1})
    parts = np.arange(1, 13).reshape(3, 4)
    savemat(folder / "setid.mat", dict(zip(("trnid", "valid", "tstid"), parts, strict=True)))
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(Flowers102._file_dict, key, (name, md5))
    return tmp_path


def test_flowers_come_in_three_splits(flowers):
    splits = open_splits("flowers102", flowers)
    assert [images.labels.tolist() for images in splits.values()] == [
        [0, 1, 2, 0],
        [1, 2, 0, 1],
        [2, 0, 1, 2],
    ]
    assert splits["val"].class_names[0] == "pink primrose"
    assert splits["val"].num_classes == 102


def test_pictures_that_are_listed_but_missing_are_noticed(flowers):
    (flowers / "flowers-102" / "jpg" / "image_00002.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 4 pictures are missing, .*image_00002.jpg .*delete"
    ):
        load_images("flowers102", data_root=flowers)


def test_pets_keep_a_part_of_trainval_for_val(tmp_path):
    folder = tmp_path / "oxford-iiit-pet"
    for split, count in (("trainval", 10), ("test", 3)):
        names = [
            (f"{breed}_{split}{n}", label)
            for n in range(count)
            for label, breed in ((1, "Abyssinian"), (2, "basset_hound"))
        ]
        write_pictures(*(folder / "images" / f"{name}.jpg" for name, _ in names))
        (folder / "annotations").mkdir(exist_ok=True)
        lines = [f"{name} {label} 1 1\n" for name, label in names]
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
    splits = open_splits("oxford-iiit-pet", tmp_path)
    assert [len(images) for images in splits.values()] == [18, 2, 6]
    assert splits["test"].class_names == ("Abyssinian", "Basset Hound")
    assert not files(splits["train"]) & files(splits["val"])


@pytest.fixture
def gtsrb(tmp_path):
    folder = tmp_path / "gtsrb"
    training = folder / "GTSRB" / "Training"
    write_pictures(
        *(
            training / f"{label:05d}" / f"{sign:05d}_{number:05d}.ppm"
            for label in range(2)
            for sign in range(10)
            for number in range(3)
        )
    )
    tested = folder / "GTSRB" / "Final_Test" / "Images"
    write_pictures(*(tested / f"{number:05d}.ppm" for number in range(4)))
    rows = [f"{number:05d}.ppm;8;8;0;0;8;8;{number % 2}\n" for number in range(4)]
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    (folder / "GT-final_test.csv").write_text(header + "".join(rows))
    return tmp_path


def test_no_traffic_sign_is_in_two_splits(gtsrb):
    splits = open_splits("gtsrb", gtsrb)
    assert [len(images) for images in splits.values()] == [54, 6, 4]
    signs = [
        {(file.parent.name, file.name[:5]) for file in splits[split].files}
        for split in ("train", "val")
    ]
    assert not signs[0] & signs[1]
    assert splits["test"].labels.tolist() == [0, 1, 0, 1]
    assert splits["test"].class_names == ("00000", "00001")


def test_a_class_of_test_that_train_lacks_is_named(gtsrb):
    with (gtsrb / "gtsrb" / "GT-final_test.csv").open("a") as file:
        file.write("00000.ppm;8;8;0;0;8;8;2\n")
    with pytest.raises(
        ValueError, match="test of gtsrb .* has the class 2, which train with its 2"
    ):
        load_images("gtsrb", "test", data_root=gtsrb)


@pytest.fixture
def archive(imagenette, tmp_path_factory):
    """A whole archive of Imagenette."""
    path = tmp_path_factory.mktemp("archive") / "imagenette2.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(imagenette / "imagenette2", "imagenette2")
    return path


@pytest.fixture
def serve(archive, monkeypatch, serving):
    """Serves as much of the archive as it is told to as Imagenette, and then hangs up."""
    content = archive.read_bytes()
    sent = len(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content[:sent])

        def log_message(self, *_):
            pass

    url = f"{serving(http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler))}/imagenette2.tgz"
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(Imagenette._ARCHIVES, "full", (url, md5))

    def serve_part(share):
        nonlocal sent
        sent = int(share * len(content))

    return serve_part


def test_a_download_that_was_interrupted_is_not_taken_for_the_set(serve, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    serve(0.6)
    with pytest.raises(OSError, match=r"Imagenette is not in .* nothing incomplete is kept: try"):
        load_images("imagenette", data_root=root)
    assert not list(root.iterdir())
    # What a process that was killed while it unpacked leaves behind.
    write_tree(root / ".incomplete-imagenette2-killed" / "imagenette2", train=1, val=1)
    serve(1)
    assert len(load_images("imagenette", data_root=root)) == 36
    assert (root / "imagenette2").is_dir()
    assert len(list(root.iterdir())) == 2


def test_what_cannot_be_reached_is_said(tmp_path, monkeypatch):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port
    url = f"http://127.0.0.1:{port}/imagenette2.tgz"
    monkeypatch.setitem(Imagenette._ARCHIVES, "full", (url, "0" * 32))
    with pytest.raises(OSError, match=r"could not be downloaded \(.*refused.*--data-root"):
        load_images("imagenette", data_root=tmp_path / "data")


def test_published_sets_have_one_parameter(tmp_path):
    with pytest.raises(
        ValueError, match="'gtsrb:side=3' has no parameter 'side'; it has :fit=crop"
    ):
        load_images("gtsrb:side=3", data_root=tmp_path)
