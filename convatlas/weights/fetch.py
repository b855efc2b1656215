"""Downloads, verified by length and checksum.

A download may take as long as it needs while the server sends: SLOWEST bytes a second in every QUIET_S seconds, from
the look-up of the server's name on. It runs in a thread: a look-up cannot be given a time, nor sockets one for all.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Thread
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from ..errors import UserError
from ..files.atomic import replacing, unwritable

REDIRECTS = 10
QUIET_S = 30.0
SLOWEST = 1000  # bytes a second: 500 MB take six days
POLL_S = 0.1
CHUNK = 1 << 16
DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}|sha1:[0-9a-f]{40}|md5:[0-9a-f]{32}")

Progress = Callable[[int, int], object]  # called with the bytes that have come, and all of them (0: not known)


def fetch(
    url: str,
    digest: str | None,
    max_bytes: int,
    folder: str | Path,
    deadline_s: float | None = None,
    name: str = "",
    progress: Progress | None = None,
) -> Path:
    """Downloads `url` to `folder` under `name`, or its own, unless it is already there with the right digest.

    `digest` is "sha256:" and 8 to 64 digits, as many as are published, or "sha1:" or "md5:" and all of them; None if
    none is published, and then a file that is there is taken as it is. It is written to a temporary file, verified and
    renamed. Raises UserError for a wrong digest, for more than `max_bytes`, for a server that sends too slowly (see
    above), drops the connection, redirects in a loop or takes longer than `deadline_s`, look-ups and redirects
    included, and for URLs that are not http or https.
    """
    import requests
    from urllib3.exceptions import HTTPError

    name = name or Path(urlsplit(url).path).name
    if not is_web(url):
        raise UserError(f"{url} is not an http or https address")
    if digest is not None and not DIGEST.fullmatch(digest):
        raise UserError(
            f"{url} needs a digest, and {digest!r} is none", "give sha256:, sha1: or md5:, and its hexadecimal digits"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"{url} does not end in a plain file name")
    file = Path(folder) / name
    if file.is_file() and (digest is None or has_digest(file, digest)):
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(file, error) from error
    with replacing(file) as new:
        try:
            Download(url, new, max_bytes).finish(deadline_s, progress)
        except (requests.RequestException, HTTPError, ValueError, OSError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{url} cannot be downloaded ({' '.join(str(error).split())[:300]})") from error
        if digest is not None and not has_digest(new, digest):
            raise UserError(f"{url} does not have the digest {digest}", "it has changed there, or on its way")
    return file


def has_digest(file: Path, digest: str) -> bool:
    """Whether a file has a digest such as "sha256:0676ba61", of which the first digits suffice, or "md5:..."."""
    kind, _, digits = digest.partition(":")
    return digest_of(file, kind).startswith(digits)


def digest_of(file: Path, kind: str = "sha256") -> str:
    return digests_of(file, [kind])[kind]


def digests_of(file: Path, kinds: Collection[str]) -> dict[str, str]:
    """Digests of each kind (sha256, sha1, md5), in hexadecimal digits; the file is read once."""
    hashes = {kind: hashlib.new(kind) for kind in kinds}
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            for digest in hashes.values():
                digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in hashes.items()}


class Download(Thread):
    """A URL being written to a file."""

    def __init__(self, url: str, output: Path, max_bytes: int):
        super().__init__(daemon=True)
        self.url, self.output, self.max_bytes = url, output, max_bytes
        self.size, self.promised, self.abandoned = 0, 0, False
        self.error: Exception | None = None

    def finish(self, deadline_s: float | None, progress: Progress | None = None) -> None:
        """Waits until all is written. Raises what went wrong, and UserError once it is too late or too slow."""
        self.start()
        began = since = time.monotonic()
        size = 0
        try:
            while self.is_alive():
                self.join(POLL_S if deadline_s is None else min(POLL_S, deadline_s))
                if progress is not None:
                    progress(self.size, self.promised)
                now = time.monotonic()
                if deadline_s is not None and now - began > deadline_s and self.is_alive():
                    raise UserError(f"{self.url} takes longer than {deadline_s:g} s", "try again later")
                if now - since > QUIET_S and self.is_alive():
                    if self.size - size < QUIET_S * SLOWEST:
                        raise UserError(
                            f"{self.url} has sent {self.size - size:,} bytes in {QUIET_S:g} s", "try again later"
                        )
                    since, size = now, self.size
        finally:
            self.abandoned = True
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            with self.output.open("wb") as file:
                self.write(file)
        except Exception as error:  # raised by `finish`
            self.error = error

    def write(self, file: IO[bytes]) -> None:
        import requests

        with requests.Session() as session, followed(session, self.url) as answer:
            answer.raise_for_status()
            self.promised = int(answer.headers.get("Content-Length") or 0)
            if self.promised > self.max_bytes:
                raise UserError(f"{self.url} has {self.promised:,} bytes, more than the {self.max_bytes:,} allowed")
            while chunk := answer.raw.read1(CHUNK, decode_content=True):  # returns whatever has arrived
                self.size += len(chunk)
                if self.abandoned:
                    return
                if self.size > self.max_bytes:
                    raise UserError(f"{self.url} sends more than the {self.max_bytes:,} bytes allowed")
                file.write(chunk)


def followed(session: Any, url: str) -> Any:
    """The answer at the end of the redirects; what comes with a redirect is not read."""
    import requests

    session.get_redirect_target = lambda _: None  # requests would read what comes with it
    for _ in range(REDIRECTS + 1):
        answer = session.get(url, stream=True, timeout=QUIET_S)
        if not answer.is_redirect:
            return answer
        answer.close()
        url = urljoin(url, answer.headers["location"])
        if not is_web(url):
            raise requests.exceptions.InvalidSchema(f"it redirects to {url[:100]!r}, which is not http or https")
    raise requests.TooManyRedirects(f"Exceeded {REDIRECTS} redirects")


def is_web(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)
