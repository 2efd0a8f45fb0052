"""``gfnet benchmark``: environment steps per second."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("benchmark")
