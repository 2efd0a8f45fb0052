"""``gfnet check-backbones``: build, train, save and load networks of encoders."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("check-backbones")
