"""``gfnet measure-scale``: time and memory as pictures, sides and classes grow."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("measure-scale")
