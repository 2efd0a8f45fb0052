"""A page that runs a saved network in a browser."""

import http.server
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from gfnet_env.demo import write_demo
from gfnet_env.inference import EarlyExitGFNet, assembled_in
from gfnet_env.matching import ImageOptions
from gfnet_env.runs import check_free
from gfnet_env.settings import AtLeast, AtMost, Flat, Settings


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Settings):
    """Which network, and where the page goes."""

    run: Path
    """Run folder of an assembled network, or of all stages."""
    out: Path = Path("demo")
    """Folder for the page, which any web server can serve."""
    examples: Annotated[int, AtLeast(0)] = 12
    """Number of pictures of test to choose from, drawn at random."""
    serve: bool = True
    """Whether to serve it to browsers on this machine, until Ctrl-C."""
    port: Annotated[int, AtLeast(0), AtMost(65535)] = 8000
    """Port to serve it at; 0 takes a free one."""
    runtime: Path | None = None
    """Archive of onnxruntime-web, as npm pack writes it; by default it is downloaded once."""
    images: Flat[ImageOptions] = field(default_factory=ImageOptions)
    overwrite: bool = False
    """Whether an existing folder may be written into."""


def demo(config: DemoConfig) -> None:
    """Write the page, and serve it."""
    check_free(config.out, overwrite=config.overwrite)
    # Before the work: the port may be in use.
    with server(config.out, config.port) if config.serve else nullcontext() as serving:
        gfnet = EarlyExitGFNet.load(assembled_in(config.run))
        images = config.images.open(gfnet.model, "test")
        drawn = np.random.default_rng(0).permutation(len(images))[: config.examples]
        write_demo(gfnet, config.out, images, drawn.tolist(), config.runtime)
        print(f"{config.out} is ready for any web server")
        if serving is not None:
            print(f"open http://127.0.0.1:{serving.server_port} (Ctrl-C ends it)", flush=True)
            try:
                serving.serve_forever()
            except KeyboardInterrupt:
                print("ended")


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of a folder for browsers on this machine; port 0 is a free one.

    Raises:
        OSError: The port is in use, or this user may not use it.
    """
    handler = partial(_Handler, directory=str(folder))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot serve at port {port}: {error.strerror}; give another --port, or 0"
        ) from error


class _Handler(http.server.SimpleHTTPRequestHandler):
    # Browsers run modules and WebAssembly of these types only; not every system knows them.
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        """Say nothing about requests."""
