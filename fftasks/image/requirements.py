"""Requirements of an image: the files that pip reads, its command and environment, and its errors.

The files are the requirements file; files that it includes by `-r` and `-c` (relative to the including file,
as in pip); and local packages (`./package`, relative to the top of the context).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fftasks.errors import SettingsError
from fftasks.http.origin import parse_origin

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"(-r|-c|-f|-e|--[a-z-]+)(?:\s*=\s*|\s+|(?<=-[rcfe]))(\S.*)")
_INCLUDES = frozenset({"-r", "--requirement"})
_CONSTRAINTS = frozenset({"-c", "--constraint"})
_EDITABLES = frozenset({"-e", "--editable"})
_FOLDERS = frozenset({"-f", "--find-links"})
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2")


def collect_requirement_files(
    name: str, paths: Mapping[str, object], folder: Path
) -> tuple[str, ...]:
    """Return the sorted paths of the files that `pip install -r name` reads.

    Args:
        name: Path of the requirements file in the context.
        paths: The files of the context, by path.
        folder: The copy of the context.

    Returns:
        The paths, which include `name`; () if there is nothing to install.

    Raises:
        SettingsError: A line names a file that is not in the context, or an editable package.
    """
    if name not in paths:
        return ()
    found: dict[str, None] = {}
    requirements = _collect_from(name, paths, folder, found)
    return tuple(sorted(found)) if requirements else ()


def read_requirement_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and content of each line that is not empty; continued lines are joined."""
    start, whole = 0, ""
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            whole += raw[:-1] + " "
            continue
        line = _COMMENT.sub("", whole + raw).strip()
        if line:
            yield start, line
        start, whole = 0, ""
    if whole.strip():
        yield start, whole.strip()


def _collect_from(
    name: str, paths: Mapping[str, object], folder: Path, found: dict[str, None]
) -> int:
    """Add the files that a requirements file needs to `found`; return its number of requirements."""
    if name in found:
        return 0
    found[name] = None
    count = 0
    text = (folder / name).read_text("utf-8-sig", "replace")
    for number, line in read_requirement_lines(text):
        where = f"{name} line {number}"
        option, value = match.groups() if (match := _OPTION.fullmatch(line)) else ("", "")
        if option in _INCLUDES | _CONSTRAINTS:
            included = _find_in_context(posixpath.dirname(name), value, where, paths)
            inside = sum(_collect_from(path, paths, folder, found) for path in included)
            count += inside if option in _INCLUDES else 0
        elif option in _FOLDERS:
            found.update(
                dict.fromkeys(_find_in_context(posixpath.dirname(name), value, where, paths))
            )
        elif option in _EDITABLES:
            raise SettingsError(
                f"image: {where}: an editable package cannot be installed in an image: {line}",
                tip="write the folder without -e, such as ./package",
            )
        elif not line.startswith("-"):
            found.update(dict.fromkeys(_find_local(line, where, paths)))
            count += 1
    return count


def _find_local(line: str, where: str, paths: Mapping[str, object]) -> list[str]:
    """Return the files of a local package; [] for other requirements. The rule is pip's."""
    target = re.split(r"[\s;\[]", line.removeprefix("file:"), maxsplit=1)[0]
    if "@" in line or not (target.startswith(".") or "/" in target or target.endswith(_ARCHIVES)):
        return []
    return _find_in_context("", target, where, paths)


def _find_in_context(base: str, target: str, where: str, paths: Mapping[str, object]) -> list[str]:
    """Return the file that a line names, or all files of the folder."""
    target = target.strip("\"'")
    if re.match(r"[\w+]+://", target):
        return []  # pip downloads it
    path = posixpath.normpath(posixpath.join(base, target))
    if path in paths:
        return [path]
    inside = [one for one in paths if path == "." or one.startswith(f"{path}/")]
    if not inside:
        raise SettingsError(
            f"image: {where} names {target}, which is not in the context",
            tip="check the path and .dockerignore; it must be in the project's folder",
        )
    return inside


_PIP_OPTIONS = {
    "PIP_NO_CACHE_DIR": "1",
    "PIP_NO_INPUT": "1",  # a build cannot ask for a password
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",  # otherwise Debian's Python refuses to install
    "PYTHONDONTWRITEBYTECODE": "1",  # otherwise the compiled library of the base is added
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
    # messages of uv
    r"|Because (?:there (?:is|are) no versions? of )?([A-Za-z0-9][A-Za-z0-9._-]*)"
)
_PIP_ERRORS = (
    (r"No module named pip", "the base has no pip: use a base with pip, or empty the requirements"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError|invalid peer certificate",
        (
            "the certificate of the index is not trusted in the base: set image.ca_cert to a file"
            " with your certificates"
        ),
    ),
    (
        (
            r"40[137] (Client Error|Error|Unauthorized|Forbidden|Proxy)|HTTP error 40[137]"
            r"|status client error \(40[137]"
        ),
        "the index refused the credentials: set them in image.build_env, as in PIP_INDEX_URL",
    ),
    (
        (
            r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Connection"
            r" refused|dns error|tcp connect error|ConnectTimeout|ReadTimeout|Network is unreachable"
            r"|Connection broken|ProxyError"
        ),
        (
            "the index cannot be reached: check the network, or set your own index or proxy in"
            " image.build_env (PIP_INDEX_URL, HTTPS_PROXY)"
        ),
    ),
    (
        r"No space left on device",
        "the engine's disk is full: `docker system df` shows what uses it",
    ),
    (r"ResolutionImpossible|conflicting dependencies", "loosen one of the versions in conflict"),
    (
        r"requires a different Python|Requires-Python",
        "use another version, or another image.base",
    ),
    (
        (
            r"error: command '?\S*(gcc|cc|clang|cargo)|Failed building wheel|Failed to build"
            r"|subprocess-exited-with-error"
        ),
        (
            "it has no wheel for this base and is built from source: use a version that has one, or"
            " a base with a compiler"
        ),
    ),
    (
        r"No matching distribution found|not found in the package registry|no versions? of",
        "check the name and the version, and the URL and login of your own index in image.build_env",
    ),
)


def make_pip_command(name: str) -> list[str]:
    """Return the command that installs a requirements file; its working folder is the context."""
    options = ["--no-cache-dir", "--no-compile"]  # compiled afterwards, without times
    return ["python3", "-m", "pip", "install", *options, "--requirement", name]


def make_pip_environment(build_env: Mapping[str, str], certificates: str) -> dict[str, str]:
    """Return the environment of pip.

    Args:
        build_env: Setting image.build_env, which overrides other values.
        certificates: Path of a file with certificates in the container, or "".

    Raises:
        SettingsError: See check_index_urls.
    """
    check_index_urls(build_env)
    trusted = dict.fromkeys(_CERTIFICATES, certificates) if certificates else {}
    return {**_PIP_OPTIONS, **trusted, **build_env}


def check_index_urls(environment: Mapping[str, str]) -> None:
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


def explain_pip_failure(said: Sequence[str], files: Mapping[str, str]) -> tuple[list[str], str]:
    """Find the requirements that pip or uv could not install, and a suggested fix.

    Args:
        said: Lines of the output of pip or uv.
        files: Name -> text of the requirements files.

    Returns:
        The requirements with file and line, and the suggested fix.
    """
    errors = [line for line in said if re.match(r"\s*(ERROR|error|cause)\b", line)]
    failed = list(_find_lines(errors or said, files))
    text = "\n".join(said)
    tip = next((tip for pattern, tip in _PIP_ERRORS if re.search(pattern, text)), "")
    return failed, tip or "the log has the complete output"


def _find_lines(errors: Iterable[str], files: Mapping[str, str]) -> Iterable[str]:
    names = {
        _normalize(group)
        for line in errors
        for match in _FAILED.finditer(line)
        for group in match.groups()
        if group
    }
    for file, text in files.items():
        for number, line in read_requirement_lines(text):
            match = _NAME.match(line)
            if match and _normalize(match.group()) in names:
                yield f"{file} line {number}: {line}"


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~\[;]", name)[0]).rstrip("-.").lower()
