"""The file from which a person puts an entry's new content into a store; the content is kept there until it arrives."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from airflow_ops.local.settings import write_private


@dataclass(frozen=True)
class EntryFile:
    """The file for one Secret, which belongs to the content that its own was made from.

    A digest of that content is part of its name: what an attempt of last year has left was made from another content,
    has another name, and is not found. The file itself holds the entry and nothing else, because it is put into the
    store as it is.

    Attributes:
        folder: The folder of the environment's rotations.
        purpose: The Secret's key in `global.secrets`.
        present: The Secret's content.
    """

    folder: Path
    purpose: str
    present: dict[str, str] = field(repr=False)

    @property
    def path(self) -> Path:
        """The file, which need not exist."""
        digest = hashlib.sha256(json.dumps(self.present, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{self.purpose}-{digest}.json"

    def read(self) -> dict[str, str] | None:
        """The new content that was made from the present one before; None where there is none, or no whole one."""
        try:
            found = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        whole = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
        return found if whole else None

    def write(self, wanted: dict[str, str]) -> None:
        """Write the new content, so that a reader sees all of it or nothing."""
        write_private(self.path, json.dumps(wanted))

    def discard_others(self) -> list[Path]:
        """Remove what other attempts have left of this Secret; the whole files among what was removed."""
        others = [path for path in sorted(self.folder.glob(f"{self.purpose}[-.]*")) if path != self.path]
        for path in others:
            path.unlink()
        return [path for path in others if path.suffix == self.path.suffix]

    def discard(self) -> None:
        """Remove the file and what other attempts have left."""
        self.discard_others()
        self.path.unlink(missing_ok=True)
