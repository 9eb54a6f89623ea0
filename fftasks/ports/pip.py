"""pip in the image that is being made: its command and environment, and what failures mean, also uv's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from fftasks.errors import SettingsError
from fftasks.ports.credentials import parse_origin
from fftasks.stages.requirements import read_lines

_QUIET = {
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",  # nobody is there to type a password
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # Debian's own Python refuses otherwise; it is our image
    "PYTHONDONTWRITEBYTECODE": "1",  # else the base's whole library gets a second copy, compiled
}
_CERTIFICATES = (
    "PIP_CERT",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)

_PASSWORD_OVER_HTTP = re.compile(r"http://[^/\s]*@([^/?#\s@]*)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FAILED = re.compile(
    r"(?:satisfies the requirement|No matching distribution found for|Failed building wheel for"
    r"|Failed to build|Could not build wheels for|HTTP error [^']* while getting|Invalid requirement:"
    r"|Cannot install|No such file or directory:)\s+['\"]?([A-Za-z0-9][A-Za-z0-9._-]*)"
    r"|\(from ([A-Za-z0-9][A-Za-z0-9._-]*)"
    # uv's words
    r"|Because (?:there (?:is|are) no versions? of )?([A-Za-z0-9][A-Za-z0-9._-]*)"
)
_MEANINGS = (
    (r"No module named pip", "the base has no pip: use a base with pip, or empty the requirements"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError|invalid peer certificate",
        (
            "the index is behind a certificate that the base does not know: set image.ca_cert to a file"
            " with your certificates"
        ),
    ),
    (
        (
            r"40[137] (Client Error|Error|Unauthorized|Forbidden|Proxy)|HTTP error 40[137]"
            r"|status client error \(40[137]"
        ),
        "the index wants other credentials: put them into image.build_env, as in PIP_INDEX_URL",
    ),
    (
        (
            r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Connection"
            r" refused|dns error|tcp connect error|ConnectTimeout|ReadTimeout|Network is unreachable"
            r"|Connection broken|ProxyError"
        ),
        (
            "the index cannot be reached from where pip runs: check the network, or name your own index"
            " or proxy in image.build_env (PIP_INDEX_URL, HTTPS_PROXY)"
        ),
    ),
    (r"No space left on device", "the engine's disk is full: `docker system df` says of what"),
    (r"ResolutionImpossible|conflicting dependencies", "loosen one of the versions in conflict"),
    (
        r"requires a different Python|Requires-Python",
        "another version, or another image.base, fits",
    ),
    (
        (
            r"error: command '?\S*(gcc|cc|clang|cargo)|Failed building wheel|Failed to build"
            r"|subprocess-exited-with-error"
        ),
        (
            "it has no wheel for this base and is built from source: ask for a version that has one, or"
            " use a base with a compiler"
        ),
    ),
    (
        r"No matching distribution found|not found in the package registry|no versions? of",
        "check the name and the version; with an index of your own also its URL and login, image.build_env",
    ),
)


def make_command(name: str) -> list[str]:
    """Return the command that installs a requirements file; it is run where the context is."""
    options = ["--no-cache-dir", "--no-compile"]  # compiled afterwards, without times
    return ["python3", "-m", "pip", "install", *options, "--requirement", name]


def make_environment(build_env: Mapping[str, str], certificates: str) -> dict[str, str]:
    """Return pip's environment; build_env has the last word.

    certificates: path, in the container, of a file with certificates, or "".
    Raises SettingsError as check_indexes does.
    """
    check_indexes(build_env)
    trusted = dict.fromkeys(_CERTIFICATES, certificates) if certificates else {}
    return {**_QUIET, **trusted, **build_env}


def check_indexes(environment: Mapping[str, str]) -> None:
    """Raise SettingsError for the password of a package index that would be sent over plain HTTP.

    PIP_TRUSTED_HOST permits plain HTTP for its hosts, as in pip; uv ignores this variable. Proxies are not
    checked, because few of them use TLS.
    """
    trusted = environment.get("PIP_TRUSTED_HOST", "").lower().split()
    for name, value in environment.items():
        if name.upper().endswith("_PROXY"):
            continue
        for server in _PASSWORD_OVER_HTTP.findall(value):
            try:
                origin = parse_origin(f"http://{server}")
            except ValueError:
                raise SettingsError(f"image: a URL in {name} has an invalid host") from None
            if origin.is_protected or {origin.host, f"{origin.host}:{origin.port}"} & {*trusted}:
                continue
            raise SettingsError(
                f"image: a password in {name} would be sent to {origin} without encryption",
                found=["everyone on the network between the builder and the index could read it"],
                tip="use https://, or add the host to PIP_TRUSTED_HOST in image.build_env if you trust"
                " the network",
            )


def explain(said: Sequence[str], files: Mapping[str, str]) -> tuple[list[str], str]:
    """Return the requirements that pip failed at, with file and line, and what to do.

    said: pip's output; files: name -> text of the requirements files.
    """
    errors = [line for line in said if re.match(r"\s*(ERROR|error|cause)\b", line)]
    guilty = list(_find_lines(errors or said, files))
    text = "\n".join(said)
    tip = next((tip for pattern, tip in _MEANINGS if re.search(pattern, text)), "")
    return guilty, tip or "the log has all of what pip said"


def _find_lines(errors: Iterable[str], files: Mapping[str, str]) -> Iterable[str]:
    names = {
        _normalise(group)
        for line in errors
        for match in _FAILED.finditer(line)
        for group in match.groups()
        if group
    }
    for file, text in files.items():
        for number, line in read_lines(text):
            match = _NAME.match(line)
            if match and _normalise(match.group()) in names:
                yield f"{file} line {number}: {line}"


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~\[;]", name)[0]).rstrip("-.").lower()
