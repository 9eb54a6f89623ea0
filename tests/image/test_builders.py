"""Both builders give images that behave the same; one without an engine needs a registry's base only."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from fftasks.errors import SettingsError, ToolError
from fftasks.image import context
from fftasks.image import recipe as image
from fftasks.image.base import BaseImage
from fftasks.image.docker_builder import DockerBuilder
from fftasks.image.oci_builder import OciBuilder
from fftasks.image.push import push_image
from fftasks.image.recipe import ImageNotFoundError, ImageRecipe
from fftasks.registry.oci_registry import Registry
from fftasks.registry.registry_auth import RegistryLogin
from tests.image.test_docker_builder import SECRET, require_wheel, serve_index, write_wheel

FIND = (
    "import os, sys, json, fftasks, cloudpickle, sums, link\n"
    "print(json.dumps([os.getcwd(), fftasks.__file__, os.environ['FFWORKFLOWS'], sums.a,"
    " os.path.isdir('empty'), os.access('run.sh', os.X_OK), os.readlink('link.py')]))"
)


@pytest.fixture
def login(registry) -> RegistryLogin:
    return RegistryLogin(registry.server, registry.username, registry.password)


@pytest.fixture
def base(engine, base_image, registry) -> str:
    name = f"{registry.server}/bases/python:1"
    engine.images.get(base_image).tag(name)
    engine.images.push(name, auth_config=registry.credentials)
    return name


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "sums.py").write_text("a = 1\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link.py").symlink_to("sums.py")
    (folder / "empty").mkdir()
    return folder


class Project:
    """A folder that is built and pushed by one of the builders."""

    def __init__(self, builder, folder, base, engine, registry) -> None:
        self.builder, self.folder, self.base = builder, folder, base
        self.engine, self.registry = engine, registry
        self.log = folder / ".fftasks/logs/image.stage.txt"
        self.repository = f"{registry.server}/built/{folder.parent.name.lower().strip('_')}"

    def make_recipe(self, **fields) -> ImageRecipe:
        copy = self.folder / ".fftasks/context"
        record = context.copy_context(self.folder, copy)
        named = {"name": f"{self.repository}:local", **fields}
        return ImageRecipe(
            record, copy, self.base, "linux/amd64", ("sums.py",), runtime="", **named
        )

    def build(self, **fields) -> dict:
        resolved = self.builder.resolve(
            self.base, "linux/amd64", origin="", log=self.log, update=False
        )
        recipe = self.make_recipe(resolved=resolved, **fields)
        return image.build_image(recipe, build=self.builder.build, log=self.log)

    def push(self, record) -> str:
        made = push_image(record, push=self.builder.push, repository=self.repository, tag="1")
        return made["reference"]

    def run(self, reference: str, program: str) -> str:
        # as a node does: what is not there is fetched
        self.engine.images.pull(reference, auth_config=self.registry.credentials)
        return self.engine.containers.run(
            reference, ["python3", "-c", program], remove=True
        ).decode()


def make_builder(kind, login, folder, **options):
    if kind == "docker":
        return DockerBuilder(login)
    return OciBuilder(lambda host: Registry(host, login), folder / ".fftasks/layers", **options)


@pytest.fixture(params=["docker", "oci"])
def project(request, login, folder, base, engine, registry) -> Project:
    builder = make_builder(request.param, login, folder)
    return Project(builder, folder, base, engine, registry)


@pytest.fixture
def oci(login, folder, base, engine, registry, monkeypatch) -> Project:
    monkeypatch.setattr("fftasks.image.engine._connect", None)  # nobody asks an engine
    return Project(make_builder("oci", login, folder), folder, base, engine, registry)


def test_an_image_of_either_holds_code_runtime_and_requirements(project):
    require_wheel(project.folder)

    reference = project.push(project.build())

    assert json.loads(project.run(reference, FIND)) == [
        "/ffrun", "/opt/fftasks/fftasks/__init__.py", "sums.py", 1, True, True, "sums.py",
    ]  # fmt: skip
    assert project.run(reference, "import tiny; print(tiny.version)") == "1.0\n"


def test_an_edit_sends_one_layer(project):
    require_wheel(project.folder)
    (project.folder / "data.bin").write_bytes(os.urandom(1_000_000))
    before = list_layers(project, project.push(project.build()))
    (project.folder / "sums.py").write_text("a = 2\n")

    reference = project.push(project.build())

    after = list_layers(project, reference)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    assert project.run(reference, "import sums; print(sums.a)") == "2\n"


def list_layers(project, reference) -> list[str]:
    repository, _, digest = reference.partition("/")[2].partition("@")
    manifest = project.registry.get_manifest(repository, digest)
    return [layer["digest"] for layer in manifest["layers"]]


def test_without_requirements_both_give_the_same_image(login, folder, base, engine, registry):
    built, made = (
        Project(make_builder(kind, login, folder), folder, base, engine, registry)
        for kind in ("docker", "oci")
    )

    first = built.build()
    reference = made.push(made.build())

    repository, _, digest = reference.partition("/")[2].partition("@")
    assert registry.get_manifest(repository, digest)["config"]["digest"] == first["output"]
    assert first["inputs"] == made.build()["inputs"]  # so nodes have the same fingerprints


def test_the_same_files_elsewhere_give_the_same_digest(oci, login, tmp_path, engine, registry):
    require_wheel(oci.folder)
    other = tmp_path / "elsewhere"
    shutil.copytree(oci.folder, other, symlinks=True, ignore=shutil.ignore_patterns(".fftasks"))
    for path in other.rglob("*"):
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    before = os.umask(0o077)

    try:
        builder = make_builder("oci", login, other)
        second = Project(builder, other, oci.base, engine, registry).build()
    finally:
        os.umask(before)

    assert oci.build()["output"] == second["output"]


def test_the_base_is_asked_for_once_and_its_layers_are_mounted(oci, monkeypatch):
    resolved = oci.builder.resolve(oci.base, "linux/amd64", origin="", log=oci.log, update=False)
    sent = []
    send = Registry.send_blob
    monkeypatch.setattr(
        Registry, "send_blob", lambda self, *args: sent.append(send(self, *args)) or sent[-1]
    )
    for name in ("read_manifest", "read_blob", "copy_blob"):
        monkeypatch.setattr(Registry, name, None)

    record = image.build_image(
        oci.make_recipe(resolved=resolved), build=oci.builder.build, log=oci.log
    )
    oci.push(record)

    assert sum(sent) < 600_000  # our layers, and not the base's 50 MB
    sent.clear()
    oci.push(record)
    assert sum(sent) == 0


def test_secrets_of_the_index_are_in_no_layer_and_no_log(oci, tmp_path):
    write_wheel(tmp_path / "index/tiny-3.0-py3-none-any.whl", "3.0")
    (oci.folder / "requirements.txt").write_text("tiny\n")

    with serve_index(tmp_path / "index", "127.0.0.1") as url:
        env = {"PIP_INDEX_URL": url, "PIP_TRUSTED_HOST": "127.0.0.1", "OTHER_TOKEN": SECRET}
        reference = oci.push(oci.build(build_env=env))

    everything = oci.log.read_bytes()
    for path in (oci.folder / ".fftasks/layers").iterdir():
        data = path.read_bytes()
        everything += gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    assert SECRET.encode() not in everything
    assert b"tiny" in everything
    assert oci.run(reference, "import tiny; print(tiny.version)") == "3.0\n"


def test_markers_are_those_of_the_image(oci):
    write_wheel(oci.folder / "wheels/tiny-1.0-py3-none-any.whl")
    wheel = "./wheels/tiny-1.0-py3-none-any.whl"
    (oci.folder / "requirements.txt").write_text(
        f"tiny @ {wheel} ; python_version == '3.12' and platform_machine == 'aarch64'\n"
    )

    assert "tiny.py" not in list_requirements(oci, python="3.11")
    assert "tiny.py" in list_requirements(oci, python="3.12", platform="linux/arm64")


def list_requirements(project, *, python, platform="linux/amd64") -> list[str]:
    import tarfile

    from fftasks.image.build_log import open_build_log
    from fftasks.image.layers import LayerCache
    from fftasks.image.wheels import WheelTarget, install_wheels

    recipe = replace(project.make_recipe(), platform=platform)
    blobs = LayerCache(recipe.blobs)
    with open_build_log(project.log, {}) as log:
        target = WheelTarget("sha256:0", platform, python)
        blob = install_wheels(recipe, image.collect_layer_contents(recipe), target, blobs, log)
    with tarfile.open(blobs.path(blob.digest)) as archive:
        return [name.removeprefix("opt/requirements/") for name in archive.getnames()]


def test_programs_ask_for_the_images_python(oci):
    path = write_wheel(oci.folder / "wheels/tiny-1.0-py3-none-any.whl")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("tiny-1.0.dist-info/entry_points.txt", "[console_scripts]\ntiny=tiny:main")
    (oci.folder / "requirements.txt").write_text(f"./wheels/{path.name}\n")
    program = (
        "import shutil, tiny; path = shutil.which('tiny'); print(path, tiny.__cached__)\n"
        "print(open(path).readline().strip())"
    )

    output = oci.run(oci.push(oci.build()), program).splitlines()

    assert output[0].startswith("/opt/requirements/bin/tiny /opt/requirements/__pycache__/tiny.")
    assert output[1] == "#!/usr/bin/env python3"


def test_a_requirement_that_is_nowhere_is_named_with_its_line(oci):
    (oci.folder / "requirements.txt").write_text("# ours\nno-such-thing-at-all\n")

    with pytest.raises(ToolError, match="uv could not") as caught:
        oci.build(build_env={"PIP_NO_INDEX": "1"})

    assert "requirements.txt line 2: no-such-thing-at-all" in str(caught.value)


def test_a_requirement_without_a_wheel_is_one_clear_error(oci, tmp_path):
    (oci.folder / "pkg").mkdir()
    (oci.folder / "pkg/setup.py").write_text("from setuptools import setup; setup(name='pkg')\n")
    (oci.folder / "requirements.txt").write_text("./pkg\n")

    with pytest.raises(ToolError, match=r"requirements\.txt for Python 3") as caught:
        oci.build()

    assert "image.builder to docker" in caught.value.tip
    assert str(oci.log) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "platform", "said"),
    [
        ("bases/python:1", "linux/arm64", "is not made for image.platform linux/arm64"),
        ("bases/python:nope", "linux/amd64", "not found in the registry"),
        ("bases/Upper:1", "linux/amd64", "invalid value of image.base"),
    ],
)
def test_a_base_that_does_not_fit_is_an_error_before_anything_is_made(oci, name, platform, said):
    with pytest.raises((ToolError, SettingsError), match=said):
        oci.builder.resolve(
            f"{oci.registry.server}/{name}",
            platform,
            origin="config/x.yaml:3",
            log=oci.log,
            update=False,
        )


def test_an_index_gives_the_image_of_the_platform(oci, login, registry):
    server = Registry(registry.server, login)
    amd = server.read_manifest("bases/python", "1")
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {"digest": amd.digest, "size": len(amd.content), "mediaType": amd.media_type,
             "platform": {"os": "linux", "architecture": "amd64"}},
        ],
    }  # fmt: skip
    content = json.dumps(index).encode()
    server.write_manifest(
        "bases/python", "many", replace(amd, media_type=index["mediaType"], content=content)
    )
    name = f"{registry.server}/bases/python:many"

    found = oci.builder.resolve(name, "linux/amd64", origin="", log=oci.log, update=False)

    assert found.reference == f"{registry.server}/bases/python@{amd.digest}"
    with pytest.raises(ToolError, match="it is for linux/amd64"):
        oci.builder.resolve(name, "linux/arm64", origin="", log=oci.log, update=False)


def test_a_base_that_only_an_engine_has_is_an_error(oci):
    recipe = oci.make_recipe(resolved=BaseImage("sha256:" + "0" * 64))

    with pytest.raises(ToolError, match="but in no registry"):
        image.build_image(recipe, build=oci.builder.build, log=oci.log)


def test_a_registry_that_has_lost_a_layer_gets_it_again(oci, login):
    (oci.folder / "data.txt").write_text("x")
    oci.push(oci.build())
    (oci.folder / "sums.py").write_text("a = 2\n")
    record = oci.build()
    repository = oci.repository.partition("/")[2]
    manifest = json.loads(read_blob(oci, record["output"]))
    lost = manifest["layers"][-2]["digest"]
    requests.delete(
        f"http://127.0.0.1:{oci.registry.port}/v2/{repository}/blobs/{lost}",
        auth=(login.username, login.password),
        timeout=30,
    ).raise_for_status()

    assert oci.run(oci.push(record), "print(open('data.txt').read())") == "x\n"


def read_blob(project, digest: str) -> bytes:
    return (project.folder / ".fftasks/layers" / digest.removeprefix("sha256:")).read_bytes()


@pytest.mark.parametrize("lost", ["manifest", "layer"])
def test_an_image_that_is_lost_here_is_to_be_made_again(oci, lost):
    record = oci.build()
    blobs = oci.folder / ".fftasks/layers"
    path = blobs / record["output"].removeprefix("sha256:")
    if lost == "layer":
        path = blobs / json.loads(path.read_bytes())["layers"][-1]["digest"].removeprefix("sha256:")
    path.unlink()
    oci.repository += "/lost"

    with pytest.raises(ImageNotFoundError):
        oci.push(record)
