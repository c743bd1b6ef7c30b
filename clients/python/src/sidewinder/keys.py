"""Keys for daemons that encrypt (CURVE)."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Tuple, Union

_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_LINE = re.compile(r'\s*(public|secret)-key\s*=\s*"([^"]*)"')


class Keys:
    """server_key: the daemon's public key, or the file that has it. keys: this client's own file, made by
    `sidewinder keygen` (`NAME.key_secret`). Raises ValueError for what is no key, OSError for what can't be read.
    """

    def __init__(self, server_key: "str | os.PathLike[str]", keys: "str | os.PathLike[str]") -> None:
        text = os.fspath(server_key)
        self.server = text if _KEY.fullmatch(text) else _load(text)[0]
        self.public, self.secret = _load(keys)
        if not self.secret:
            raise ValueError(f"{os.fspath(keys)}: has no secret key; give the .key_secret file that lies beside it")


def _load(file: Union[str, "os.PathLike[str]"]) -> Tuple[str, str]:
    """The public key, and the secret one or \"\"."""
    path = Path(file)
    found = dict(match.groups() for match in map(_LINE.match, path.read_text().splitlines()) if match)
    if not all(_KEY.fullmatch(key) for key in found.values()) or "public" not in found:
        raise ValueError(f"{path}: is no certificate; give the one that sidewinder keygen made")
    if "secret" in found and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"{path}: has a secret key, and others than its owner may use the file; chmod 600 it")
    return found["public"], found.get("secret", "")
