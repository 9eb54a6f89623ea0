"""Blobs on their way into a registry: read piece by piece, sent in one request.

A registry of images, without an engine: manifests and blobs in the OCI distribution's protocol.

Many tags of one repository: looked up and added, several at a time.
"""

from __future__ import annotations

import functools
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from fftasks.errors import StoreError, ToolError
from fftasks.http.response import MAX_PAGES, filter_by_type
from fftasks.registry.failures import (
    RequestFailedError,
    make_invalid_response_error,
    parse_json_object,
)
from fftasks.registry.registry_auth import RegistryLogin, format_scope
from fftasks.registry.registry_connection import (
    OpenRequestBody,
    RegistryConnection,
    wrap_network_errors,
)
from fftasks.state_folder import open_regular


class BlobStream:
    """A stream and its length, which is all that requests asks of a body.

    read: returns up to so many bytes; name: for the error if they end too early, else the registry
    would wait for the rest
    """

    def __init__(self, read: Callable[[int], bytes], size: int, name: str) -> None:
        self._read = read
        self._size = self._left = size
        self._name = name

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:  # pragma: no cover  (urllib3 calls read() instead)
        # what has this is a stream for requests
        return iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE), b"")

    def read(self, count: int) -> bytes:
        """Return the next bytes; raise StoreError if they are fewer than the length says."""
        data = self._read(min(count, self._left))
        if self._left and not data:
            raise _make_blob_error(self._name, f"{self._left} bytes are missing at its end")
        self._left -= len(data)
        return data


def upload_blob(
    connection: RegistryConnection, repository: str, digest: str, body: bytes | OpenRequestBody
) -> int:
    """Send a blob and return its size in bytes.

    In one request, from its beginning: registry 2.8 drops an upload that broke off, so that there
    is nothing to go on with, and pieces of a blob would only be more requests.
    """
    scopes = (format_scope(repository, "pull,push"),)
    with connection.request("POST", f"/v2/{repository}/blobs/uploads/", scopes) as answer:
        location = connection.locate(answer)
    url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
    headers = {"Content-Type": "application/octet-stream"}
    with connection.request("PUT", url, scopes, headers=headers, body=body) as answer:
        return int(answer.request.headers["Content-Length"])


def open_blob_file(path: Path) -> OpenRequestBody:
    """Return what opens a file as a body; StoreError if it cannot be read, or gets shorter."""

    @contextmanager
    def open_body() -> Iterator[BlobStream | bytes]:
        try:
            file = open(open_regular(path), "rb")  # noqa: PTH123, SIM115 - a descriptor, closed below
        except OSError as exc:
            raise _make_blob_error(str(path), str(exc)) from exc
        with file:
            yield _make_body(file.read, path.stat().st_size, str(path))

    return open_body


def open_remote_blob(source: RegistryConnection, repository: str, digest: str) -> OpenRequestBody:
    """Return what opens a blob of another registry as a body."""

    @contextmanager
    def open_body() -> Iterator[BlobStream | bytes]:
        scopes = (format_scope(repository, "pull"),)
        with source.request(
            "GET", f"/v2/{repository}/blobs/{digest}", scopes, stream=True
        ) as answer:
            size = answer.headers.get("Content-Length", "")
            if not size.isdigit():
                raise make_invalid_response_error("it does not say how long the blob is")

            def read(count: int) -> bytes:
                with wrap_network_errors():
                    return bytes(answer.raw.read(count, decode_content=False))

            yield _make_body(read, int(size), f"{repository}@{digest}")

    return open_body


def _make_body(read: Callable[[int], bytes], size: int, name: str) -> BlobStream | bytes:
    # requests sends a stream without bytes as one of unknown length
    return BlobStream(read, size, name) if size else b""


def _make_blob_error(name: str, found: str) -> StoreError:
    return StoreError(
        f"registry: the blob {name} cannot be sent",
        found=[found],
        tip="run it again: it is made anew",
    )


_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPT = {"Accept": ", ".join(_MANIFESTS)}


@dataclass(frozen=True)
class ImageManifest:
    """A manifest or an index as a registry keeps it, byte by byte."""

    media_type: str
    content: bytes
    digest: str


class Registry:
    """One registry. It connects when it is first used, and stays connected; for one thread.

    host: "registry.example.com:5000"; docker.io is Docker's own
    login: from the settings; for another host, and without one, Docker's own is used
    insecure: speak plain http, as is done with localhost; ca_cert: trust this CA as well, and
    speak https also with localhost; REQUESTS_CA_BUNDLE is honoured for other hosts
    say: takes a sentence for the user; pause: waits for seconds
    token_server: host of a token server in another domain that may receive the password

    repository: everywhere without the host, "team/project"; digest: "sha256:<64 hex>".
    Every method raises ToolError if the registry does not do it; what may pass is tried again
    before, three times and with a word. What was sent before an error is not sent again after it.
    """

    def __init__(  # noqa: PLR0913  (each is a setting of its own)
        self,
        host: str,
        login: RegistryLogin | None = None,
        *,
        insecure: bool = False,
        ca_cert: Path | None = None,
        say: Callable[[str], None] = print,
        pause: Callable[[float], None] = time.sleep,
        token_server: str = "",
    ) -> None:
        self._connection = RegistryConnection(
            host,
            login,
            insecure=insecure,
            ca_cert=ca_cert,
            say=say,
            pause=pause,
            token_server=token_server,
        )
        self.host = self._connection.host

    def read_manifest(self, repository: str, reference: str) -> ImageManifest:
        """Return the manifest, or the index, of a tag or a digest; a digest is checked."""
        name = self._name(repository, reference)
        scopes = (format_scope(repository, "pull"),)

        def read() -> ImageManifest:
            url = _manifest_url(repository, reference)
            with self._connection.request("GET", url, scopes, headers=_ACCEPT) as answer:
                stated = str(parse_json_object(answer.content).get("mediaType", ""))
                kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
                return ImageManifest(kind or stated, answer.content, _digest(answer.content))

        manifest = self._connection.retry_request(f"registry: {name} cannot be read", read)
        if ":" in reference:
            _check_digest(name, reference, manifest.content)
        return manifest

    def find_digest(self, repository: str, reference: str) -> str | None:
        """Return the digest of a tag's manifest, or a digest that is there; None if it is not."""
        name = self._name(repository, reference)
        scopes = (format_scope(repository, "pull"),)

        def find() -> tuple[bool, str]:
            url = _manifest_url(repository, reference)
            headers = self._connection.look(url, scopes, _ACCEPT)
            return headers is not None, (headers or {}).get("Docker-Content-Digest", "")

        is_there, digest = self._connection.retry_request(
            f"registry: {name} cannot be looked up", find
        )
        if is_there and not digest:  # not every registry says it
            return self.read_manifest(repository, reference).digest
        return digest or None

    def list_tags(self, repository: str) -> list[str]:
        """Return all tags of a repository; none if there is no such repository yet."""
        scopes = (format_scope(repository, "pull"),)
        tags: list[str] = []

        def read(url: str) -> str:
            try:
                with self._connection.request("GET", url, scopes) as answer:
                    tags.extend(
                        filter_by_type(parse_json_object(answer.content).get("tags"), [str]) or []
                    )
                    return self._connection.locate_next_page(answer)
            except RequestFailedError as exc:
                if exc.status == 404:  # noqa: PLR2004
                    return ""
                raise

        url = f"/v2/{repository}/tags/list"
        attempted = f"registry: the tags of {self.host}/{repository} cannot be read"
        seen: set[str] = set()
        while url:
            seen.add(url)
            url = self._connection.retry_request(attempted, functools.partial(read, url))
            if url in seen or len(seen) > MAX_PAGES:
                found = "its list of pages has no end"
                raise ToolError(attempted, found=[found], tip=f"is {self.host} a registry?")
        return tags

    def read_blob(self, repository: str, digest: str) -> bytes:
        """Return a blob that fits into memory, checked against its digest."""
        name = self._name(repository, digest)
        scopes = (format_scope(repository, "pull"),)

        def read() -> bytes:
            with self._connection.request("GET", _blob_url(repository, digest), scopes) as answer:
                return answer.content

        content = self._connection.retry_request(f"registry: {name} cannot be read", read)
        _check_digest(name, digest, content)
        return content

    @contextmanager
    def open_blob(self, repository: str, digest: str) -> Iterator[Any]:
        """Give a file from which a blob can be read while it comes; nothing is tried again then."""
        name = self._name(repository, digest)
        opened = open_remote_blob(self._connection, repository, digest)
        with self._connection.explain(f"registry: {name} cannot be read"), opened() as body:
            yield body

    def has_blob(self, repository: str, digest: str) -> bool:
        """Return whether a repository has a blob."""
        name = self._name(repository, digest)
        scopes = (format_scope(repository, "pull"),)

        def look() -> bool:
            return self._connection.look(_blob_url(repository, digest), scopes) is not None

        return self._connection.retry_request(f"registry: {name} cannot be looked up", look)

    def check_write(self, repository: str) -> None:
        """Start an upload and end it again; raise ToolError if the registry does not let us."""
        scopes = (format_scope(repository, "pull,push"),)

        def start() -> str:
            url = f"/v2/{repository}/blobs/uploads/"
            with self._connection.request("POST", url, scopes) as answer:
                return self._connection.locate(answer)

        name = f"{self.host}/{repository}"
        self._abandon(
            self._connection.retry_request(f"registry: {name} cannot be written", start), scopes
        )

    def is_public(self, repository: str, tag: str) -> bool:
        """Tell whether this login may look up a tag, whether it is there or not."""
        scopes = (format_scope(repository, "pull"),)

        def look() -> bool:
            try:
                self._connection.look(_manifest_url(repository, tag), scopes, _ACCEPT)
            except RequestFailedError as exc:
                if exc.status in {401, 403}:
                    return False
                raise
            return True

        name = f"{self.host}/{repository}"
        return self._connection.retry_request(f"registry: {name} cannot be looked up", look)

    def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        """Give a repository a blob that another one of this registry has; no byte is sent.

        Return whether that was done; a registry need not, and a login may not read the source.
        """
        name = self._name(repository, digest)
        scopes = (format_scope(repository, "pull,push"), format_scope(source, "pull"))
        url = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"

        def mount() -> bool:
            try:
                with self._connection.request("POST", url, scopes) as answer:
                    is_done = answer.status_code == 201  # noqa: PLR2004  (202: send it yourself)
                    upload = "" if is_done else self._connection.locate(answer)
            except RequestFailedError as exc:
                if exc.status in {400, 401, 403, 404, 405}:
                    return False
                raise
            if upload:
                self._abandon(upload, scopes)
            return is_done

        return self._connection.retry_request(
            f"registry: {name} cannot be taken from {source}", mount
        )

    def send_blob(self, repository: str, digest: str, blob: Path | bytes) -> int:
        """Send a blob unless it is there; return how many bytes were sent, 0 if it was.

        A file is read while it is sent. Raises StoreError if it cannot be read.
        """
        body = blob if isinstance(blob, bytes) else open_blob_file(blob)
        name = self._name(repository, digest)
        return self._send(f"registry: {name} cannot be sent", repository, digest, body)

    def copy_blob(
        self, repository: str, digest: str, source: Registry, source_repository: str
    ) -> int:
        """Send a blob from another registry unless it is there; return how many bytes were sent.

        It goes from one to the other piece by piece.
        """
        body = open_remote_blob(source._connection, source_repository, digest)
        there = source._name(source_repository, digest)
        attempted = f"registry: {there} cannot be copied to {self.host}/{repository}"
        return self._send(attempted, repository, digest, body)

    def write_manifest(self, repository: str, reference: str, manifest: ImageManifest) -> str:
        """Put a manifest under a tag or its digest, and return its digest.

        What it names must be there already.
        """
        name = self._name(repository, reference)
        scopes = (format_scope(repository, "pull,push"),)
        headers = {"Content-Type": manifest.media_type}
        digest = _digest(manifest.content)

        def write() -> str:
            url = _manifest_url(repository, reference)
            with self._connection.request(
                "PUT", url, scopes, headers=headers, body=manifest.content
            ) as answer:
                return answer.headers.get("Docker-Content-Digest", digest)

        taken = self._connection.retry_request(f"registry: {name} was not taken", write)
        if taken != digest:
            raise _make_digest_error(f"registry: {name} was changed by the registry", taken, digest)
        return digest

    def _send(
        self, attempted: str, repository: str, digest: str, body: bytes | OpenRequestBody
    ) -> int:
        # the scopes of the sending itself, so that one token does for both
        scopes = (format_scope(repository, "pull,push"),)

        def act() -> int:
            if self._connection.look(_blob_url(repository, digest), scopes) is not None:
                return 0
            return upload_blob(self._connection, repository, digest, body)

        return self._connection.retry_request(attempted, act)

    def _abandon(self, upload: str, scopes: tuple[str, ...]) -> None:
        """End an upload that was started and is not wanted; registries forget it anyway, later."""
        with suppress(RequestFailedError), self._connection.request("DELETE", upload, scopes):
            pass

    def _name(self, repository: str, reference: str) -> str:
        return f"{self.host}/{repository}{'@' if ':' in reference else ':'}{reference}"


def _manifest_url(repository: str, reference: str) -> str:
    return f"/v2/{repository}/manifests/{reference}"


def _blob_url(repository: str, digest: str) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _check_digest(name: str, digest: str, content: bytes) -> None:
    if _digest(content) != digest:
        raise _make_digest_error(
            f"registry: {name} came as something else", _digest(content), digest
        )


def _make_digest_error(attempted: str, found: str, wanted: str) -> ToolError:
    return ToolError(
        attempted,
        found=[f"{found} instead of {wanted}"],
        tip="look at the registry's storage, and at the proxies before it",
    )


T = TypeVar("T")

_WORKERS = 8
_MAX_SINGLE_LOOKUPS = (
    16  # so many are looked up one by one, where a list of all tags may have thousands
)


class RepositoryTags:
    """The tags of a repository; `find` is a stages.pins.FindTags, `add` a stages.pins.AddTags.

    open_registry: gives the registry of a host; a connection is for one thread
    Both raise ToolError if the registry does not do it.
    """

    def __init__(self, open_registry: Callable[[str], Registry]) -> None:
        self._open = open_registry

    def find(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return the digest of each tag that is there."""
        host, _, path = repository.partition("/")
        if len(tags) > _MAX_SINGLE_LOOKUPS:
            there = set(self._open(host).list_tags(path))
            tags = [tag for tag in tags if tag in there]
        digests = self._map(host, lambda registry, tag: registry.find_digest(path, tag), tags)
        return {tag: digest for tag, digest in zip(tags, digests, strict=True) if digest}

    def add(self, repository: str, digest: str, tags: Sequence[str]) -> None:
        """Give an image more tags."""
        host, _, path = repository.partition("/")
        manifest = self._open(host).read_manifest(path, digest)
        self._map(host, lambda registry, tag: registry.write_manifest(path, tag, manifest), tags)

    def _map(self, host: str, act: Callable[[Registry, str], T], tags: Sequence[str]) -> list[T]:
        mine = threading.local()

        def do(tag: str) -> T:
            if not hasattr(mine, "registry"):
                mine.registry = self._open(host)
            return act(mine.registry, tag)

        if len(tags) <= 1:
            return [do(tag) for tag in tags]
        with ThreadPoolExecutor(min(_WORKERS, len(tags))) as pool:
            return list(pool.map(do, tags))
