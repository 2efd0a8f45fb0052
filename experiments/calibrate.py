"""``gfnet calibrate``: solve a network's table of budgets again."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("calibrate")
