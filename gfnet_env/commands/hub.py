"""Upload networks to the Hugging Face Hub, and download them."""

from dataclasses import dataclass
from pathlib import Path

from gfnet_env.files import is_file
from gfnet_env.hub import Shareable, download
from gfnet_env.inference import EarlyExitGFNet, assembled_in
from gfnet_env.models import GlanceFocusNetwork, StaticNetwork
from gfnet_env.policies.learned import LearnedPolicy
from gfnet_env.runs import check_free
from gfnet_env.settings import Positional, Settings

# What a folder may hold, by the file that tells it.
KINDS: dict[str, type[Shareable]] = {
    "gfnet.json": EarlyExitGFNet,
    "network.json": GlanceFocusNetwork,
    "static.json": StaticNetwork,
    "policy.json": LearnedPolicy,
}


@dataclass(frozen=True, kw_only=True)
class PushConfig(Settings):
    """What to upload, and where to."""

    repo_id: Positional[str]
    """Repository, USER/NAME; it is made if there is none."""
    run: Path
    """Run folder of a network, or of all stages, of which the last one counts."""
    license: str | None = None
    """Licence of the weights: mit, apache-2.0, …"""
    private: bool = False
    """Whether a new repository is private."""


@dataclass(frozen=True, kw_only=True)
class PullConfig(Settings):
    """What to download, and where to."""

    repo_id: Positional[str]
    """Repository, USER/NAME."""
    run: Path
    """Folder for the network."""
    revision: str | None = None
    """Branch, tag or commit; by default main."""
    overwrite: bool = False
    """Whether the folder may be replaced."""


def push(config: PushConfig) -> None:
    """Upload what a folder holds, with a model card."""
    folder = assembled_in(config.run)
    part = _kind(folder).load(folder)
    print(part.push_to_hub(config.repo_id, license=config.license, private=config.private or None))


def pull(config: PullConfig) -> None:
    """Download a part, check that it loads, and save it into a folder."""
    check_free(config.run, overwrite=config.overwrite)
    folder = download(config.repo_id, revision=config.revision)
    kind = _kind(folder)
    kind.load(folder).save(config.run)
    print(f"{config.run}: {kind.__name__}")


def _kind(folder: Path) -> type[Shareable]:
    """What a folder holds.

    Raises:
        FileNotFoundError: It holds nothing that can be shared.
    """
    for name, kind in KINDS.items():
        if is_file(folder / name):
            return kind
    raise FileNotFoundError(
        f"{folder} holds none of {', '.join(KINDS)}; give the folder of a network or a policy"
    )
