"""The page that runs a network in a browser."""

import base64
import hashlib
import io
import json
import shutil
import tarfile
import urllib.request

import numpy as np
import pytest
from PIL import Image

import gfnet_env
from gfnet_env.commands.demo import DemoConfig, demo, server
from gfnet_env.demo import runtime, write_demo
from gfnet_env.demo.runtime import runtime_files
from gfnet_env.export.onnx import exported_files
from gfnet_env.images.picture import load_picture
from gfnet_env.zoo import FOLDER

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture
def served(serving):
    """Serves a folder; its address."""
    return lambda folder: serving(server(folder, 0))


@pytest.fixture
def registry(tmp_path, monkeypatch, served):
    """A registry with a package whose files hold their own names; the archive."""
    archive = tmp_path / "npm" / "onnxruntime-web" / "-" / runtime._ARCHIVE
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as package:
        for name in runtime._FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            package.addfile(entry, io.BytesIO(name.encode()))
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime, "_SHA512", digest)
    monkeypatch.setattr(runtime, "REGISTRY", served(tmp_path / "npm"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return archive


def test_the_runtime_is_downloaded_once_and_checked(registry, tmp_path):
    expected = {name: name.encode() for name in runtime._FILES}
    assert runtime_files() == expected
    registry.rename(tmp_path / "elsewhere.tgz")
    assert runtime_files() == runtime_files(tmp_path / "elsewhere.tgz") == expected
    kept = tmp_path / "cache" / "gfnet-env" / registry.name
    kept.write_bytes(kept.read_bytes() + b"!")
    with pytest.raises(ValueError, match=r"is damaged or no onnxruntime-web .*; remove it, or"):
        runtime_files()
    with pytest.raises(FileNotFoundError, match=f"there is no {tmp_path.name} in"):
        runtime_files(tmp_path)
    kept.unlink()
    with pytest.raises(OSError, match=r"cannot be downloaded .*404.*give it with --runtime"):
        runtime_files()


def test_a_port_in_use_is_named_before_the_work(tmp_path, served):
    port = int(served(tmp_path).rpartition(":")[2])
    config = DemoConfig(run=FOLDER / "cluttered-digits", out=tmp_path / "page", port=port)
    with pytest.raises(
        OSError, match=f"cannot serve at port {port}: .*; give another --port, or 0"
    ):
        demo(config)
    assert not config.out.exists()


@pytest.fixture(scope="module")
def _graphs():
    """What the packaged network is exported as."""
    return exported_files(gfnet_env.pretrained("cluttered-digits"))


@pytest.fixture
def exported(_graphs, monkeypatch):
    """Pages share one export, since tracing is slow."""
    monkeypatch.setattr("gfnet_env.demo.exported_files", lambda gfnet: _graphs)


@pytest.mark.usefixtures("exported", "registry")
def test_the_folder_holds_all_that_the_page_asks_for(tmp_path, served, capsys):
    out = tmp_path / "page"
    run = FOLDER / "cluttered-digits"
    demo(DemoConfig(run=run, out=out, examples=3, serve=False))
    assert capsys.readouterr().out == f"{out} is ready for any web server\n"
    about = json.loads((out / "demo.json").read_text())
    gfnet = gfnet_env.pretrained("cluttered-digits")
    points = gfnet.budgets.points
    assert about["budgets"][0] == points[0].to_json()
    assert about["budgets"][-1] == points[-1].to_json()
    chosen = np.array(about["budgets"][about["budget"]]["thresholds"])
    assert np.abs(chosen - gfnet.thresholds).max() < 0.2
    test = gfnet_env.load_images("cluttered-digits", "test")
    for example in about["examples"]:
        pixels = np.asarray(Image.open(out / example["file"]))
        alike = np.flatnonzero(test.labels.numpy() == int(example["label"]))
        assert any((test[[number]][0, 0].numpy() == pixels[..., 0]).all() for number in alike)
    address = served(out)
    types = {"demo.js": "text/javascript", "ort.wasm.min.mjs": "text/javascript"}
    types |= {"ort-wasm-simd-threaded.wasm": "application/wasm", "index.html": "text/html"}
    for name, kind in types.items():
        with urllib.request.urlopen(f"{address}/{name}") as answer:
            assert answer.headers.get_content_type() == kind
    with pytest.raises(FileExistsError, match="already exists"):
        demo(DemoConfig(run=run, out=out, serve=False))


@pytest.fixture(scope="module")
def browser():
    """Chromium without a screen."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser):
    """An empty page; nothing may be printed to its console."""
    opened = browser.new_page()
    said = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    opened.close()
    assert said == []


def _ask(page, action):
    """The class and the exit step that the page shows after an action."""
    page.evaluate("delete document.querySelector('#answer').dataset.class")
    action()
    page.wait_for_selector("#answer[data-class]")
    found = page.evaluate("({...document.querySelector('#answer').dataset})")
    return [int(found[name]) for name in ("class", "step")]


def _spend(page, number):
    page.evaluate(
        "number => { const budget = document.querySelector('#budget'); budget.value = number;"
        " budget.dispatchEvent(new Event('input')); }",
        number,
    )


@pytest.mark.usefixtures("exported")
def test_a_browser_gives_the_answers_of_python(page, served, tmp_path):
    gfnet = gfnet_env.pretrained("cluttered-digits")
    test = gfnet_env.load_images("cluttered-digits", "test")
    numbers = range(30)
    write_demo(gfnet, tmp_path / "page", test, numbers)
    budgets = json.loads((tmp_path / "page" / "demo.json").read_text())["budgets"]
    page.goto(served(tmp_path / "page"))
    page.wait_for_selector("#answer[data-class]")
    for number in (len(budgets) // 4, len(budgets) // 2):
        _spend(page, number)
        gfnet.set_thresholds(budgets[number]["thresholds"])
        expected = gfnet(test, numbers)
        assert len(expected.exit_step.unique()) > 1
        for row in numbers:
            button = page.locator("#examples button").nth(row)
            found = _ask(page, button.click)
            assert found == [int(expected.classes[row]), int(expected.exit_step[row])]
    # At the largest budget, and by the button beyond every exit.
    _spend(page, 0)
    page.wait_for_selector("#answer[data-step='0']")
    page.click("#more")
    page.wait_for_selector("#answer[data-step='1']")
    assert page.locator("#steps li.beyond").count() == 1
    _spend(page, len(budgets) - 1)
    page.wait_for_selector(f"#answer[data-step='{gfnet.model.focus_steps}']")


@pytest.mark.usefixtures("exported")
def test_a_picture_of_ones_own_is_brought_to_the_size_of_training(page, served, tmp_path):
    gfnet = gfnet_env.pretrained("cluttered-digits")
    test = gfnet_env.load_images("cluttered-digits", "test")
    write_demo(gfnet, tmp_path / "page", test, [])
    page.goto(served(tmp_path / "page"))
    page.wait_for_function("document.querySelector('#answer').textContent == 'Choose a picture.'")
    pixels = np.random.default_rng(0).integers(0, 256, (150, 260, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    _spend(page, 0)
    found = _ask(page, lambda: page.set_input_files("#file", tmp_path / "own.png"))
    brought = load_picture(tmp_path / "own.png", gfnet.model.trained_on.image_size)
    expected = gfnet(np.ascontiguousarray(brought.transpose(2, 0, 1))[None])
    assert found == [int(expected.classes[0]), 0]
    (tmp_path / "broken.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "broken.png")
    page.wait_for_selector("#error:not([hidden])")
    assert "no picture that the browser can read" in page.inner_text("#error")
