"""Downloads, verified by length and checksum."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ..errors import UserError

REDIRECTS = 10
QUIET_S = 30.0  # longest wait for the next byte from the server
CHUNK = 1 << 16


def fetch(url: str, sha256: str, max_bytes: int, folder: str | Path, deadline_s: float = 3600.0) -> Path:
    """Downloads `url` to `folder` under its own name, unless it is already there with the right checksum.

    It is written to a temporary file, verified and renamed. Raises UserError for a wrong checksum, for more than
    `max_bytes`, for a server that does not respond, drops the connection, redirects in a loop or takes longer than
    `deadline_s`, and for URLs that are not http or https.
    """
    import pooch
    import requests
    from urllib3.exceptions import HTTPError

    parts = urlsplit(url)
    name = Path(parts.path).name
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url} is not an http or https address")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise UserError(f"{url} needs a checksum, and sha256 is {sha256!r}", "give 64 hexadecimal digits")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"{url} does not end in a plain file name")

    def download(url: str, output: str | IO[bytes], _: Any) -> None:
        with requests.Session() as session:
            session.max_redirects = REDIRECTS
            until, size = time.monotonic() + deadline_s, 0
            with session.get(url, stream=True, timeout=QUIET_S) as answer, open(output, "wb") as file:  # type: ignore[arg-type]
                answer.raise_for_status()
                if urlsplit(answer.url).scheme not in ("http", "https"):
                    raise UserError(f"{url} redirects to {answer.url}, which is not http or https")
                promised = int(answer.headers.get("Content-Length") or 0)
                if promised > max_bytes:
                    raise UserError(f"{url} has {promised:,} bytes, more than the {max_bytes:,} allowed")
                while chunk := answer.raw.read1(CHUNK, decode_content=True):  # returns whatever has arrived
                    size += len(chunk)
                    if size > max_bytes:
                        raise UserError(f"{url} sends more than the {max_bytes:,} bytes allowed")
                    if time.monotonic() > until:
                        raise UserError(f"{url} takes longer than {deadline_s:g} s")
                    file.write(chunk)

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pooch.get_logger().setLevel("WARNING")
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, downloader=download))
    except UserError:
        raise
    except (requests.RequestException, HTTPError, ValueError, OSError) as error:
        raise UserError(f"{url} cannot be downloaded ({' '.join(str(error).split())[:300]})") from error
