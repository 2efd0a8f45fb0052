import numpy as np
import pytest

from gfnet_env import ArrayImages, EarlyExitGFNet
from gfnet_env.benchmarks.report import answers_sheet, new_figure, plot_as, save_figure
from gfnet_env.policies import CenterPolicy


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64), (400, 800), (96, 96)])
def test_a_sheet_has_the_shape_of_its_pictures(height, width, tiny_network):
    images = ArrayImages(np.zeros((6, 3, height, width), dtype=np.uint8), np.zeros(6, dtype=int))
    some = np.arange(6)
    answers = {"": EarlyExitGFNet(tiny_network, CenterPolicy())(images, some)}
    sheet = answers_sheet(tiny_network, images, some, answers)
    blue = np.asarray(sheet)
    share = (blue.max(axis=2) < 128).mean()
    assert share > 0.5, "most of it is pictures"
    assert sheet.width >= 6 * 160


def test_plots_are_written_in_other_formats_too(tmp_path):
    def drawn():
        figure = new_figure(2, 2)
        figure.subplots().plot([0, 1], [1, 0])
        save_figure(figure, tmp_path / "curves.png")
        return {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}

    assert drawn().keys() == {".png"}
    try:
        plot_as(["svg", "pdf"])
        first = drawn()
        assert first.keys() == {".png", ".svg", ".pdf"}
        assert first[".pdf"].startswith(b"%PDF")
        assert b"<svg" in first[".svg"]
        # No time of writing is in them.
        assert drawn()[".pdf"] == first[".pdf"]
    finally:
        plot_as([])
    with pytest.raises(ValueError, match="plots can be written as svg and pdf too, not as 'jpg'"):
        plot_as(["jpg"])
