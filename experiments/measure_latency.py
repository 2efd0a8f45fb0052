"""``gfnet measure-latency``: wall time per image, in torch and ONNX Runtime."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("measure-latency")
