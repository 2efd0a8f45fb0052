import pytest

from gfnet_env.benchmarks.report import new_figure, plot_as, save_figure


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
