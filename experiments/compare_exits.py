"""``gfnet compare-exits``: ways to stop looking, at equal cost."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("compare-exits")
