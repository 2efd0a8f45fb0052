"""``gfnet count-cost``: multiply-adds, parameters and memory of every part."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("count-cost")
