"""``gfnet train-classifier``: stages 1 and 3: encoders and classifier."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("train-classifier")
