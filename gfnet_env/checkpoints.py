"""Checkpoints, which are written completely or not at all, and checked against a digest."""

import hashlib
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from gfnet_env.contracts import explained
from gfnet_env.files import read_json, write_bytes, write_json

_KEPT = 2


class Checkpoints:
    """The latest checkpoints of a run, in a folder of their own.

    A checkpoint is ``STEP.pt``, which torch reads without running pickled code, and ``STEP.json``,
    which holds its digest. The digest is written last: a file without one is no checkpoint.

    Args:
        folder: Folder of the checkpoints, made when the first one is saved; nothing else belongs
            there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint and remove all but the latest two.

        Args:
            step: Number of optimiser steps taken.
            state: Tensors, numbers, strings, and lists and dicts of such.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        # Not copied: it may hold a replay memory.
        content = buffer.getbuffer()
        name = f"{step:09d}"
        write_bytes(self.folder / f"{name}.pt", content)
        digest = hashlib.sha256(content).hexdigest()
        write_json(self.folder / f"{name}.json", {"step": step, "sha256": digest})
        self._remove(but=self._names()[-_KEPT:])

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The latest checkpoint, or None where there is none.

        Raises:
            ValueError: The checkpoint is truncated or changed; the message names the one before it.
                Or it holds more than ``save`` writes.
        """
        names = self._names()
        if not names:
            return None
        content = self._read(names[-1])
        if content is None:
            raise ValueError(self._damaged(names))
        with explained(f"{self.folder / names[-1]}.pt is no checkpoint"):
            state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
            return dict(state)

    def restore(self, device: torch.device, put: Callable[[dict[str, Any]], object]) -> None:
        """Give the latest checkpoint, if there is one, to a function that goes on from it.

        Raises:
            ValueError: See ``load``; or what it holds does not fit, so that the function fails.
        """
        state = self.load(device)
        if state is not None:
            advice = "; go on as the run was begun, with the same version, or begin anew"
            with explained(f"the last checkpoint in {self.folder} does not fit", advice):
                put(state)

    def clear(self) -> None:
        """Remove all checkpoints."""
        if self.folder.is_dir():
            self._remove()
            self.folder.rmdir()

    def _remove(self, but: Collection[str] = ()) -> None:
        """Remove files, also those that a kill left half-written; each digest before its file."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.suffix != ".json"):
            if path.stem not in but:
                path.unlink(missing_ok=True)

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json") if path.stem.isdecimal())

    def _read(self, name: str) -> bytes | None:
        """The content of a checkpoint, or None if it is damaged."""
        try:
            digest = read_json(self.folder / f"{name}.json").get("sha256")
            content = (self.folder / f"{name}.pt").read_bytes()
        except (ValueError, FileNotFoundError):
            return None
        return content if hashlib.sha256(content).hexdigest() == digest else None

    def _damaged(self, names: list[str]) -> str:
        problem = (
            f"the checkpoint {self.folder / names[-1]}.pt is damaged: it, or the digest in the "
            ".json beside it, was truncated or changed"
        )
        whole = [name for name in names[:-1] if self._read(name) is not None]
        if not whole:
            return f"{problem}. There is none before it; begin anew with overwrite"
        return (
            f"{problem}. {self.folder / whole[-1]}.pt before it is whole: remove "
            f"{names[-1]}.json and resume to go on from there"
        )
