"""The trained network that is part of the package."""

from pathlib import Path

from gfnet_env.models import GlanceFocusNetwork

FOLDER = Path(__file__).parent / "cluttered_digits"


def packaged_network() -> GlanceFocusNetwork:
    """The network for ``cluttered-digits``; its JSON says how it was trained and how good it is."""
    return GlanceFocusNetwork.load(FOLDER)
