"""``gfnet export``: export to ONNX, with a script that needs no torch."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("export")
