"""``gfnet tune``: search the settings of a stage for the best accuracy."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("tune")
