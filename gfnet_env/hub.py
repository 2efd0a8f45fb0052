"""Share trained parts on the Hugging Face Hub, as safetensors and JSON."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Self

from gfnet_env.files import write_text
from gfnet_env.paths import user_path
from gfnet_env.settings import checked

# Nothing else of a repository is downloaded.
_READ = ("*.json", "*.safetensors")
# What asks, for the hub.
_LIBRARY = "gfnet-env"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


class Shareable:
    """A part that ``save`` writes into a folder and ``load`` reads."""

    def save(self, folder: str | Path) -> None:
        """Write it into a folder."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""
        raise NotImplementedError

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,  # noqa: A002
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload with gfnet-env",
    ) -> str:
        """Upload what ``save`` writes, and a model card.

        The configuration names what the network was trained on, such as the path of a folder.

        Args:
            repo_id: Repository, ``user/name``; it is made if there is none.
            license: Licence of the weights, for the card: ``mit``, ``apache-2.0``, …
            private: Whether a new repository is private; by default as its owner's settings say.
            token: Access token; by default the one of ``hf auth login`` or of ``HF_TOKEN``.
            commit_message: First line of the commit.

        Returns:
            The address of the commit.

        Raises:
            ConnectionError: The hub cannot be reached.
            huggingface_hub.errors.HfHubHTTPError: The hub refuses it, for example without a token.
            ValueError: The name is none of a repository, an argument has another type, or the part
                cannot be saved.
        """
        from huggingface_hub import HfApi

        from gfnet_env.model_card import model_card

        checked("license", license, str | None)
        checked("token", token, str | None)
        checked("private", private, bool | None)
        checked("commit_message", commit_message, str)
        if not _REPOSITORY.fullmatch(checked("repo_id", repo_id, str)):
            raise ValueError(f"{repo_id!r} names no repository; write USER/NAME")
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            write_text(Path(folder) / "README.md", model_card(self, repo_id, license))
            hub = HfApi(
                token=token, library_name=_LIBRARY, library_version=metadata.version(_LIBRARY)
            )
            with _reached():
                hub.create_repo(repo_id, private=private, exist_ok=True)
                commit = hub.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    commit_message=commit_message,
                    # What an earlier part had, but this one has not.
                    delete_patterns=list(_READ),
                )
        return str(commit.commit_url)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """Load a part from a folder or from the hub, onto the CPU.

        Args:
            name: A folder, or a repository ``user/name``; a folder of that name comes first.
            revision: Branch, tag or commit of a repository; by default ``main``.
            token: Access token for private repositories.

        Raises:
            FileNotFoundError: There is neither such a folder nor such a repository, or a file is
                missing.
            huggingface_hub.errors.HfHubHTTPError: The hub does not give it.
            ValueError: A file is damaged, or does not hold such a part.
        """
        return cls.load(download(name, revision=revision, token=token))


def download(name: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of a saved part, from the hub if there is no such folder here.

    Raises like ``Shareable.from_pretrained``.
    """
    checked("revision", revision, str | None)
    checked("token", token, str | None)
    folder = user_path(name)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{folder} is a folder, which has no revision {revision!r}; omit it")
        return folder
    if not _REPOSITORY.fullmatch(str(name)):
        raise FileNotFoundError(
            f"there is no folder {folder}, and it names no repository; give a folder or USER/NAME"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        with _reached():
            files = snapshot_download(
                str(name),
                revision=revision,
                token=token,
                allow_patterns=list(_READ),
                library_name=_LIBRARY,
                library_version=metadata.version(_LIBRARY),
            )
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"there is neither a folder nor a repository {name}; check the name, and log in (hf "
            "auth login) if it is private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"there is no folder {name}, and the hub cannot be reached; check the network"
        ) from error
    return Path(files)


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    """Says what is wrong where libraries below the hub's raise errors of their own."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise ValueError(
            "the access token has letters that no token has; copy it again, or log in (hf auth "
            "login)"
        ) from error
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ConnectionError(f"cannot reach the hub ({error}); check the network") from error
