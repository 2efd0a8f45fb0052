"""``gfnet train-baseline``: static networks of several resolutions, to compare with."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("train-baseline")
