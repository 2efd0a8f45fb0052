"""``gfnet compare-policies``: policies: accuracy, gains, windows on the object."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("compare-policies")
