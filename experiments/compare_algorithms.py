"""``gfnet compare-algorithms``: learners, with several seeds each."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("compare-algorithms")
