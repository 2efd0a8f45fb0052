"""``gfnet package-network``: put a network where pretrained() finds it."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("package-network")
