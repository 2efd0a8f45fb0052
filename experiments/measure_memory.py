"""``gfnet measure-memory``: peak memory at several image resolutions."""

from gfnet_cli.main import run

if __name__ == "__main__":
    run("measure-memory")
