"""``gfnet evaluate``: accuracy against cost: anytime, budgeted, static."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("evaluate")
