"""Client of an OCI registry: manifests, blobs and tags, without a container engine.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
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
    """A stream of known length, as requests needs it for the body of a request."""

    def __init__(self, read: Callable[[int], bytes], size: int, name: str) -> None:
        """Create a stream.

        Args:
            read: Returns at most the given number of bytes.
            size: Length in bytes.
            name: Name of the blob for the error about a stream that is too short. Without the error, the
                registry would wait for the remaining bytes.
        """
        self._read = read
        self._size = self._left = size
        self._name = name

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:  # pragma: no cover - urllib3 calls read()
        # requests regards only iterable objects as streams
        return iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE), b"")

    def read(self, count: int) -> bytes:
        """Return the next bytes; raise StoreError if the stream ends before its length."""
        data = self._read(min(count, self._left))
        if self._left and not data:
            raise _make_blob_error(self._name, f"{self._left} bytes are missing at its end")
        self._left -= len(data)
        return data


def upload_blob(
    connection: RegistryConnection, repository: str, digest: str, body: bytes | OpenRequestBody
) -> int:
    """Send a blob in one request, and return its size in bytes.

    An upload is not resumed: registry 2.8 drops interrupted uploads, so chunks would only be more requests.

    Args:
        connection: The registry.
        repository: Path of the repository.
        digest: Digest of the blob.
        body: Its content, or a function that opens it.

    Raises:
        RequestFailedError: The registry refused the blob.
    """
    scopes = (format_scope(repository, "pull,push"),)
    with connection.request("POST", f"/v2/{repository}/blobs/uploads/", scopes) as answer:
        location = connection.locate(answer)
    url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
    headers = {"Content-Type": "application/octet-stream"}
    with connection.request("PUT", url, scopes, headers=headers, body=body) as answer:
        return int(answer.request.headers["Content-Length"])


def open_blob_file(path: Path) -> OpenRequestBody:
    """Return a function that opens a file as the body of a request.

    The function raises StoreError if the file cannot be read; so does the stream if the file gets shorter.
    """

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
    """Return a function that opens a blob of another registry as the body of a request."""

    @contextmanager
    def open_body() -> Iterator[BlobStream | bytes]:
        scopes = (format_scope(repository, "pull"),)
        with source.request(
            "GET", f"/v2/{repository}/blobs/{digest}", scopes, stream=True
        ) as answer:
            size = answer.headers.get("Content-Length", "")
            if not size.isdigit():
                raise make_invalid_response_error("it has no valid header Content-Length")

            def read(count: int) -> bytes:
                with wrap_network_errors():
                    return bytes(answer.raw.read(count, decode_content=False))

            yield _make_body(read, int(size), f"{repository}@{digest}")

    return open_body


def _make_body(read: Callable[[int], bytes], size: int, name: str) -> BlobStream | bytes:
    # requests would send an empty stream as one of unknown length
    return BlobStream(read, size, name) if size else b""


def _make_blob_error(name: str, found: str) -> StoreError:
    return StoreError(
        f"registry: the blob {name} cannot be sent",
        found=[found],
        tip="run it again: the blob is created again",
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
    """A manifest or an index.

    Attributes:
        media_type: Its media type.
        content: The bytes that the digest is computed from.
        digest: "sha256:<64 hex>".
    """

    media_type: str
    content: bytes
    digest: str


class Registry:
    """Client of one registry; it connects with the first request and must be used by one thread at a time.

    In all methods, `repository` is a path without the host, such as "team/project", and `digest` is
    "sha256:<64 hex>". All methods raise ToolError if a request fails; transient failures are retried first
    (see fftasks.http.retry). Blobs that were sent before an error need not be sent again.

    Attributes:
        host: Host and port of the registry.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
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
        """Create a client.

        Args:
            host: Such as "registry.example.com:5000"; "docker.io" is Docker Hub.
            login: Login from the settings. For other hosts, and if it is None, the logins of Docker's own
                configuration are used.
            insecure: Whether to use plain http; localhost is always contacted by plain http.
            ca_cert: File with CA certificates (PEM) to trust; with it, localhost is contacted by https. For
                other hosts, REQUESTS_CA_BUNDLE is used too.
            say: Shows one line to the user.
            pause: Waits for a number of seconds.
            token_server: Host of a token server in another domain that may receive the password.
        """
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
        """Return the manifest or index of a tag or digest; the content is checked against a digest."""
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
        """Return the digest of the manifest of a tag or digest; None if it was not found."""
        name = self._name(repository, reference)
        scopes = (format_scope(repository, "pull"),)

        def find() -> tuple[bool, str]:
            url = _manifest_url(repository, reference)
            headers = self._connection.look(url, scopes, _ACCEPT)
            return headers is not None, (headers or {}).get("Docker-Content-Digest", "")

        is_there, digest = self._connection.retry_request(
            f"registry: {name} cannot be looked up", find
        )
        if is_there and not digest:  # the header is optional
            return self.read_manifest(repository, reference).digest
        return digest or None

    def list_tags(self, repository: str) -> list[str]:
        """Return all tags of a repository; [] if the repository was not found."""
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
        """Return a small blob after a check of its digest."""
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
        """Open a blob as a file that is read while it is received; it is not retried."""
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
        """Check the permission to push: start an upload and cancel it; raise ToolError if it is refused."""
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
        """Return whether this login has permission to look up a tag, which need not exist."""
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
        """Link a blob of another repository of this registry, so that it need not be sent.

        Args:
            repository: The repository that gets the blob.
            digest: Digest of the blob.
            source: The repository that has the blob.

        Returns:
            Whether it was linked. A registry need not support this, and the login may not be allowed to
            read the source.
        """
        name = self._name(repository, digest)
        scopes = (format_scope(repository, "pull,push"), format_scope(source, "pull"))
        url = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"

        def mount() -> bool:
            try:
                with self._connection.request("POST", url, scopes) as answer:
                    is_done = answer.status_code == 201  # noqa: PLR2004 - 202: an upload was started instead
                    upload = "" if is_done else self._connection.locate(answer)
            except RequestFailedError as exc:
                if exc.status in {400, 401, 403, 404, 405}:
                    return False
                raise
            if upload:
                self._abandon(upload, scopes)
            return is_done

        return self._connection.retry_request(
            f"registry: {name} cannot be linked from {source}", mount
        )

    def send_blob(self, repository: str, digest: str, blob: Path | bytes) -> int:
        """Send a blob if the repository lacks it; a file is read while it is sent.

        Args:
            repository: The repository.
            digest: Digest of the blob.
            blob: The content, or the file that has it.

        Returns:
            The number of bytes that were sent; 0 if the repository has the blob.

        Raises:
            StoreError: The file cannot be read.
        """
        body = blob if isinstance(blob, bytes) else open_blob_file(blob)
        name = self._name(repository, digest)
        return self._send(f"registry: {name} cannot be sent", repository, digest, body)

    def copy_blob(
        self, repository: str, digest: str, source: Registry, source_repository: str
    ) -> int:
        """Copy a blob from another registry in pieces, if the repository lacks it.

        Args:
            repository: The repository that gets the blob.
            digest: Digest of the blob.
            source: The other registry.
            source_repository: Repository in the other registry.

        Returns:
            The number of bytes that were sent; 0 if the repository has the blob.
        """
        body = open_remote_blob(source._connection, source_repository, digest)
        there = source._name(source_repository, digest)
        attempted = f"registry: {there} cannot be copied to {self.host}/{repository}"
        return self._send(attempted, repository, digest, body)

    def write_manifest(self, repository: str, reference: str, manifest: ImageManifest) -> str:
        """Push a manifest and return its digest; the blobs that it names must be in the repository.

        Args:
            repository: The repository.
            reference: A tag, or the digest of the manifest.
            manifest: The manifest.
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

        taken = self._connection.retry_request(f"registry: {name} was not accepted", write)
        if taken != digest:
            raise _make_digest_error(f"registry: {name} was changed by the registry", taken, digest)
        return digest

    def _send(
        self, attempted: str, repository: str, digest: str, body: bytes | OpenRequestBody
    ) -> int:
        # the scopes of the upload, so that one token is used for both requests
        scopes = (format_scope(repository, "pull,push"),)

        def send() -> int:
            if self._connection.look(_blob_url(repository, digest), scopes) is not None:
                return 0
            return upload_blob(self._connection, repository, digest, body)

        return self._connection.retry_request(attempted, send)

    def _abandon(self, upload: str, scopes: tuple[str, ...]) -> None:
        """Cancel an upload; errors are ignored because registries remove old uploads by themselves."""
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
            f"registry: {name} has a different digest", _digest(content), digest
        )


def _make_digest_error(attempted: str, found: str, wanted: str) -> ToolError:
    return ToolError(
        attempted,
        found=[f"{found} instead of {wanted}"],
        tip="check the registry's storage, and the proxies in front of it",
    )


T = TypeVar("T")

_WORKERS = 8
# More tags are looked up in the list of all tags, which may have thousands of entries.
_MAX_SINGLE_LOOKUPS = 16


class RepositoryTags:
    """Looks up and adds many tags of one repository, with several connections at a time.

    In the methods, `repository` is "host[:port]/path". They raise ToolError if a request fails.
    """

    def __init__(self, open_registry: Callable[[str], Registry]) -> None:
        """Create it; `open_registry` returns a new client for a host."""
        self._open = open_registry

    def find(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return the digests of those tags that exist."""
        host, _, path = repository.partition("/")
        if len(tags) > _MAX_SINGLE_LOOKUPS:
            there = set(self._open(host).list_tags(path))
            tags = [tag for tag in tags if tag in there]
        digests = self._map(host, lambda registry, tag: registry.find_digest(path, tag), tags)
        return {tag: digest for tag, digest in zip(tags, digests, strict=True) if digest}

    def add(self, repository: str, digest: str, tags: Sequence[str]) -> None:
        """Add tags to the image with a digest."""
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
