"""``gfnet train``: all three stages and the evaluation in sequence."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("train")
