"""Images as a real engine builds them."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import resource
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import docker
import pytest

from fftasks.errors import SettingsError, StoreError, ToolError
from fftasks.image import context
from fftasks.image import docker_layers as assembly
from fftasks.image import docker_layers as installation
from fftasks.image import recipe as image
from fftasks.image.base import BaseImage
from fftasks.image.build_log import BuildLog
from fftasks.image.docker_builder import DockerBuilder
from fftasks.image.recipe import CONTAINER_COMMAND, ImageRecipe
from fftasks.registry.registry_auth import RegistryLogin
from tests.services.serving import serve

SECRET = "hunter2-correct-horse"


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "sums.py").write_text("a = 1\n")
    return folder


@pytest.fixture
def log(folder) -> Path:
    return folder / ".fftasks/logs/image.stage.txt"


@pytest.fixture
def make_recipe(folder, engine, base_image):
    def make(**fields) -> ImageRecipe:
        copy = folder / ".fftasks/context"
        settings = {
            "base": base_image,
            "platform": "linux/amd64",
            "workflows": ("sums.py",),
            "runtime": "",
        }
        return ImageRecipe(context.copy_context(folder, copy), copy, **{**settings, **fields})

    return make


@pytest.fixture
def build(make_recipe, log, engine):
    made = []

    def build_image(**fields):
        record = image.build_image(make_recipe(**fields), build=DockerBuilder().build, log=log)
        made.extend([record["output"], *find_requirements(log)])
        return engine.images.get(record["output"])

    yield build_image
    remove(engine, made)


@pytest.fixture
def make_base(engine, base_image):
    """Give a function that makes a base with more instructions."""
    made = []

    def make(*lines: str) -> str:
        dockerfile = "\n".join([f"FROM {base_image}", *lines]).encode()
        name = f"fftasks-test/special:{len(made)}"
        engine.images.build(fileobj=io.BytesIO(dockerfile), tag=name, rm=True)
        made.append(name)
        return name

    yield make
    remove(engine, made)


def remove(engine, images) -> None:
    from docker.errors import APIError

    for name in images:
        with suppress(APIError):  # another test's image is made of it
            engine.images.remove(name, force=True)


def run(engine, made, *command: str, **options) -> str:
    output = engine.containers.run(made.id, list(command) or None, remove=True, **options)
    return output.decode()


def write_wheel(path: Path, version: str = "1.0") -> Path:
    """Write a wheel of a package `tiny` that pip installs without any index."""
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def require_wheel(folder: Path, version: str = "1.0") -> None:
    wheel = write_wheel(folder / f"wheels/tiny-{version}-py3-none-any.whl", version)
    (folder / "requirements.txt").write_text(f"./wheels/{wheel.name}\n")


def read_everything(engine, made) -> bytes:
    """Return all that a stranger who has the image can read: layers, configuration, history."""
    data = b"".join(made.save())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [archive.extractfile(info).read() for info in archive if info.isfile()]
    return b"\0".join([*members, json.dumps([made.attrs, made.history()]).encode()])


# what is in it


def test_container_finds_code_runtime_and_workflows(folder, build, engine):
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link.py").symlink_to("sums.py")
    (folder / "empty").mkdir()
    made = build()
    program = (
        "import os, sys, json, fftasks, cloudpickle, sums, link\n"
        "names = 'FFWORKFLOWS', 'PYTHONPATH'\n"
        "print(json.dumps([os.getcwd(), fftasks.__file__, cloudpickle.__file__,"
        " [os.environ[n] for n in names], sums.a, os.path.isdir('empty'),"
        " os.access('run.sh', os.X_OK), os.readlink('link.py')]))"
    )

    assert json.loads(run(engine, made, "python3", "-c", program)) == [
        "/ffrun",
        "/opt/fftasks/fftasks/__init__.py",
        "/opt/fftasks/cloudpickle/__init__.py",
        ["sums.py", "/opt/fftasks"],
        1,
        True,
        True,
        "sums.py",
    ]
    assert made.attrs["Config"]["Cmd"] == list(CONTAINER_COMMAND)
    assert not made.attrs["Config"]["Entrypoint"]


@pytest.mark.parametrize("with_requirements", [False, True])
def test_settings_of_the_base_are_kept_but_its_entry_point(
    folder, build, make_base, engine, with_requirements
):
    base = make_base(
        'ENV PYTHONPATH=/base X="a b"', 'ENTRYPOINT ["/bin/false"]', 'CMD ["x"]', "USER nobody"
    )
    if with_requirements:
        require_wheel(folder)

    made = build(base=base)

    config = made.attrs["Config"]
    assert {"PYTHONPATH=/opt/fftasks:/base", "X=a b"} < set(config["Env"])
    assert config["User"] == "nobody"
    assert not config["Entrypoint"]
    assert run(engine, made, "python3", "-c", "import sums, os; print(os.getuid())") == "65534\n"


def test_dockerfile_of_the_user_is_a_file_like_any_other(folder, build, engine):
    (folder / "Dockerfile").write_text("FROM nothing\n")
    (folder / "code.tar").write_text("no archive\n")

    made = build()

    assert run(engine, made, "cat", "Dockerfile", "code.tar") == "FROM nothing\nno archive\n"
    assert (folder / "Dockerfile").read_text() == "FROM nothing\n"


def test_names_of_all_kinds_arrive(folder, build, engine):
    names = ["with space", "line\nbreak", "é", os.fsdecode(b"\xff\xfe"), "x" * 200, "$HOME", "[a]*"]
    for name in names:
        (folder / name).write_text("")
    program = "import os; print(*(os.fsencode(name).hex() for name in os.listdir()))"

    output = run(engine, build(), "python3", "-c", program)

    found = {os.fsdecode(bytes.fromhex(name)) for name in output.split()}
    assert found == {*names, "sums.py"}


def test_workflows_are_named_as_they_are(folder, build, engine):
    names = ('a "b" $c\\d.py', "é.py", "sums.py")
    for name in names:
        (folder / name).write_text("")

    made = build(workflows=names)

    assert f"FFWORKFLOWS={':'.join(names)}" in made.attrs["Config"]["Env"]


# what is made again


def test_same_inputs_give_the_same_image(build):
    assert build().id == build().id


def test_code_edit_makes_the_last_layer_only(folder, build, log):
    require_wheel(folder)
    before = build().attrs["RootFS"]["Layers"]
    (folder / "sums.py").write_text("a = 2\n")

    after = build().attrs["RootFS"]["Layers"]

    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    assert "requirements: unchanged" in log.read_text()


def test_another_folder_and_another_day_give_the_same_image(
    folder, build, engine, log, tmp_path, base_image
):
    require_wheel(folder)
    (folder / "data.bin").write_bytes(os.urandom(300_000))
    first = build(name="fftasks-test/same:1")
    remove(engine, [first.id, *find_requirements(log)])
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns(".fftasks"))
    for path in other.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    before = os.umask(0o077)

    try:
        copy = other / ".fftasks/context"
        recipe = ImageRecipe(
            context.copy_context(other, copy),
            copy,
            base_image,
            "linux/amd64",
            ("sums.py",),
            runtime="",
        )
        second = image.build_image(recipe, build=DockerBuilder().build, log=log)["output"]
    finally:
        os.umask(before)

    assert "requirements: made" in log.read_text()  # both times
    assert second == first.id


def test_compiled_modules_hold_no_time(folder, build, engine):
    require_wheel(folder)
    program = (
        "import tiny, pathlib; p = pathlib.Path(tiny.__cached__);"
        " print(p.read_bytes()[4:8], int(p.stat().st_mtime), tiny.version)"
    )

    assert (
        run(engine, build(), "python3", "-c", program)
        == r"b'\x01\x00\x00\x00' 315532800 1.0" + "\n"
    )


def test_what_pip_takes_away_is_away(folder, build, engine, make_base):
    wheel = write_wheel(folder / "old/tiny-1.0-py3-none-any.whl")
    data = base64.b64encode(wheel.read_bytes()).decode()
    base = make_base(
        f"RUN echo {data} | base64 -d > /tmp/{wheel.name}"
        f" && python3 -m pip install --no-index --no-compile /tmp/{wheel.name} && rm /tmp/{wheel.name}"
    )
    shutil.rmtree(folder / "old")
    require_wheel(folder, "2.0")
    program = (
        "import glob, tiny; print(tiny.version,"
        " [p[-14:] for p in glob.glob('/usr/local/lib/python3*/dist-packages/tiny-*')])"
    )

    assert run(engine, build(base=base), "python3", "-c", program) == "2.0 ['-2.0.dist-info']\n"


def test_engine_that_wants_all_layers_gets_them(folder, build, engine, monkeypatch):
    require_wheel(folder)
    send, tries = assembly._send, []

    def refuse(client, configuration, parts, below, log):
        tries.append(below)
        if not below:  # as one that keeps images in containerd
            return "", "layer not found"
        return send(client, configuration, parts, below, log)

    monkeypatch.setattr(assembly, "_send", refuse)

    assert run(engine, build(), "python3", "-c", "import tiny, sums; print(sums.a)") == "1\n"
    assert "" in tries
    assert tries[-1]


def test_image_can_have_a_name(build, engine):
    made = build(name="fftasks-test/named:1")

    assert engine.images.get("fftasks-test/named:1").id == made.id


# requirements


def test_requirements_are_installed_below_the_code(folder, build, engine, log):
    require_wheel(folder)

    made = build()

    assert run(engine, made, "python3", "-c", "import tiny; print(tiny.version)") == "1.0\n"
    assert "WARNING" not in log.read_text()
    left = run(
        engine, made, "python3", "-c", "import os; print(os.listdir('/'), os.listdir('/tmp'))"
    )
    assert "fftasks-build" not in left
    assert "[]" in left


def test_change_of_a_local_package_is_installed(folder, build, engine):
    require_wheel(folder)
    build()
    require_wheel(folder, "2.0")

    assert run(engine, build(), "python3", "-c", "import tiny; print(tiny.version)") == "2.0\n"


@contextmanager
def serve_index(folder: Path, address: str) -> Iterator[str]:
    """Serve a folder of wheels as an index that wants a password; give its URL with it."""
    wanted = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()

    class Index(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b""
            if self.headers["Authorization"] != wanted:
                self.send_response(401)
            elif self.path.endswith(".whl"):
                body = (folder / Path(self.path).name).read_bytes()
                self.send_response(200)
            else:
                links = "".join(f'<a href="/{f.name}">{f.name}</a>' for f in folder.iterdir())
                body = links.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    with serve(Index, address) as port:
        yield f"http://me:{SECRET}@{address}:{port}/simple"


@pytest.fixture
def gateway(engine) -> str:
    """Give the address under which containers reach this machine."""
    config = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
    return config.get("Gateway") or config["Subnet"].rpartition(".")[0] + ".1"


def test_secrets_of_pip_are_in_no_layer_history_or_log(
    folder, build, engine, log, tmp_path, gateway, monkeypatch
):
    write_wheel(tmp_path / "index/tiny-3.0-py3-none-any.whl", "3.0")
    (folder / "requirements.txt").write_text("tiny\n")
    (tmp_path / "ca.pem").write_text(f"# {SECRET}\n")
    config = {"proxies": {"default": {"ftpProxy": f"http://me:{SECRET}@proxy:1"}}}
    (Path(os.environ["DOCKER_CONFIG"]) / "config.json").write_text(json.dumps(config))

    with serve_index(tmp_path / "index", gateway) as url:
        env = {"PIP_INDEX_URL": url, "PIP_TRUSTED_HOST": gateway, "OTHER_TOKEN": SECRET}
        made = build(build_env=env, ca_cert=tmp_path / "ca.pem")

    below = engine.images.get(find_requirements(log)[0])
    everything = read_everything(engine, made) + json.dumps(below.attrs).encode()
    assert run(engine, made, "python3", "-c", "import tiny; print(tiny.version)") == "3.0\n"
    assert b"tiny" in everything
    assert SECRET.encode() not in everything
    assert base64.b64encode(SECRET.encode())[:16] not in everything
    assert SECRET not in log.read_text()


def find_requirements(log) -> list[str]:
    return re.findall(rf"{installation.REQUIREMENTS_REPOSITORY}:\w+", log.read_text())


def test_wrong_password_of_the_index_is_said_and_not_shown(
    folder, make_recipe, log, tmp_path, gateway
):
    write_wheel(tmp_path / "index/tiny-3.0-py3-none-any.whl", "3.0")
    (folder / "requirements.txt").write_text("# ours\ntiny\n")

    with serve_index(tmp_path / "index", gateway) as url:
        env = {"PIP_INDEX_URL": url.replace(SECRET, "wrong-one"), "PIP_TRUSTED_HOST": gateway}
        with pytest.raises(ToolError, match=r"image\.build_env") as caught:
            image.build_image(make_recipe(build_env=env), build=DockerBuilder().build, log=log)

    assert "requirements.txt line 2: tiny" in str(caught.value)
    assert str(log) in str(caught.value)
    assert "wrong-one" not in str(caught.value) + log.read_text()


def test_failed_pip_leaves_nothing(folder, make_recipe, log, engine):
    (folder / "requirements.txt").write_text("tiny==1.0\n")
    containers, tags = list_state(engine)

    recipe = make_recipe(build_env={"PIP_NO_INDEX": "1"})

    for _ in range(2):
        with pytest.raises(ToolError, match="pip could not install"):
            image.build_image(recipe, build=DockerBuilder().build, log=log)

    assert list_state(engine) == (containers, tags)


def test_interrupted_pip_leaves_no_container(folder, make_recipe, log, engine, monkeypatch):
    require_wheel(folder)
    before = list_state(engine)

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(installation._Container, "execute", interrupt)

    with pytest.raises(KeyboardInterrupt):
        image.build_image(
            make_recipe(build_env={"PIP_X": "1"}), build=DockerBuilder().build, log=log
        )

    assert list_state(engine) == before


def list_state(engine) -> tuple[set[str], set[str]]:
    containers = {
        found.id
        for found in engine.containers.list(all=True, ignore_removed=True)
        if "time.sleep(86400)" in str(found.attrs["Config"]["Entrypoint"])
    }
    return containers, {
        tag
        for found in engine.images.list(installation.REQUIREMENTS_REPOSITORY)
        for tag in found.tags
    }


def test_pip_that_was_killed(folder, make_recipe):
    require_wheel(folder)
    recipe = make_recipe()
    log = BuildLog(folder / "log", io.StringIO())

    error = installation._make_pip_error(recipe, image.collect_layer_contents(recipe), 137, log)

    assert "memory" in error.tip


def test_certificates_that_are_not_there(folder, make_recipe, log, tmp_path):
    require_wheel(folder)
    recipe = make_recipe(ca_cert=tmp_path / "gone.pem", build_env={"PIP_Y": "1"})

    with pytest.raises(SettingsError, match=r"image\.ca_cert"):
        image.build_image(recipe, build=DockerBuilder().build, log=log)


# what goes wrong


def test_base_that_is_nowhere(make_recipe, log):
    recipe = make_recipe(base="localhost:1/nothing:1", base_origin="config/prod.yaml line 3")

    with pytest.raises(ToolError) as caught:
        image.build_image(recipe, build=DockerBuilder().build, log=log)

    assert "'localhost:1/nothing:1' is not here and cannot be fetched" in str(caught.value)
    assert "image.base (set in config/prod.yaml line 3)" in str(caught.value)
    assert "connection refused" in str(caught.value)


def test_base_that_its_registry_does_not_have(make_recipe, log, registry):
    login = RegistryLogin(registry.server, registry.username, registry.password)
    recipe = make_recipe(base=f"{registry.server}/nothing:1")

    with pytest.raises(ToolError, match="cannot be fetched") as caught:
        image.build_image(recipe, build=DockerBuilder(login).build, log=log)

    assert "manifest unknown" in str(caught.value)


def test_broken_login_of_docker_does_not_keep_a_base_from_being_asked_for(
    make_recipe, log, registry
):
    (Path(os.environ["DOCKER_CONFIG"]) / "config.json").write_text('{"credsStore": "missing"}')
    recipe = make_recipe(base=f"{registry.server}/nothing:1")

    with pytest.raises(ToolError, match="cannot be fetched"):
        image.build_image(recipe, build=DockerBuilder().build, log=log)

    assert "cannot be read" in log.read_text()


def test_base_that_is_no_name(make_recipe, log):
    recipe = make_recipe(base="Not A Name", base_origin="config/prod.yaml line 3")

    with pytest.raises(SettingsError, match=r"prod\.yaml line 3"):
        image.build_image(recipe, build=DockerBuilder().build, log=log)


def test_base_for_another_platform(make_recipe, log, engine, base_image):
    engine.images.get(base_image).tag("localhost:1/other-platform", "1")
    recipe = make_recipe(base="localhost:1/other-platform:1", platform="linux/arm64")

    try:
        with pytest.raises(ToolError, match="is not made for image") as caught:
            image.build_image(recipe, build=DockerBuilder().build, log=log)
    finally:
        engine.images.remove("localhost:1/other-platform:1")

    assert "it is for linux/amd64" in str(caught.value)


@pytest.mark.parametrize("platform", ["linux/x86_64", "linux/amd64/v2", ""])
def test_platform_in_other_words(build, platform):
    assert build(platform=platform).attrs["Architecture"] == "amd64"


def test_base_from_a_registry_is_fetched_with_the_login(
    make_recipe, log, engine, base_image, registry
):
    name = f"{registry.server}/base:1"
    engine.images.get(base_image).tag(name)
    engine.images.push(name, auth_config=registry.credentials)
    engine.images.remove(name)
    login = RegistryLogin(registry.server, registry.username, registry.password)

    record = image.build_image(make_recipe(base=name), build=DockerBuilder(login).build, log=log)

    assert record["base"] == engine.images.get(base_image).id
    remove(engine, [record["output"], name])


def test_base_is_resolved_once_and_fetched_again_by_what_it_was(
    make_recipe, log, engine, base_image, registry
):
    name = f"{registry.server}/moving:1"
    publish(engine, base_image, name, registry)
    port = DockerBuilder(RegistryLogin(registry.server, registry.username, registry.password))

    def resolve(*, update=False):
        return port.resolve(name, "linux/amd64", origin="", log=log, update=update)

    first = resolve()
    other = engine.api.commit(engine.containers.create(base_image, "x").id, changes=["ENV Y=1"])
    publish(engine, other["Id"], name, registry)
    engine.images.remove(name)
    built = image.build_image(make_recipe(base=name, resolved=first), build=port.build, log=log)
    second = resolve(update=True)

    assert first == BaseImage(engine.images.get(base_image).id, first.reference)
    assert first.reference.startswith(f"{registry.server}/moving@sha256:")
    assert built["base"] == built["inputs"]["base"] == first.image
    assert second.image == other["Id"]
    remove(engine, [built["output"], name, first.reference, other["Id"]])


def publish(engine, made, name, registry) -> None:
    engine.images.get(made).tag(name)
    engine.images.push(name, auth_config=registry.credentials)


def test_base_that_was_resolved_and_is_gone(make_recipe, log):
    recipe = make_recipe(resolved=BaseImage("sha256:" + "0" * 64))

    with pytest.raises(ToolError, match="was not found any more") as caught:
        image.build_image(recipe, build=DockerBuilder().build, log=log)

    assert "--update-base" in caught.value.tip


def test_base_that_only_the_engine_has_is_its_id(log, engine, base_image):
    resolve = DockerBuilder().resolve

    found = resolve(base_image, "linux/amd64", origin="", log=log, update=True)

    assert found.image == engine.images.get(base_image).id


def test_base_without_python(folder, make_recipe, log, engine):
    with io.BytesIO() as data:
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("empty"))
        engine.api.import_image_from_data(data.getvalue(), "fftasks-test/no-python", "1")
    require_wheel(folder)

    with pytest.raises(ToolError, match="cannot start python3") as caught:
        image.build_image(
            make_recipe(base="fftasks-test/no-python:1"), build=DockerBuilder().build, log=log
        )

    assert "image.base" in caught.value.tip
    engine.images.remove("fftasks-test/no-python:1")


def test_base_without_pip(folder, make_base, make_recipe, log):
    require_wheel(folder)
    base = make_base("RUN mv /usr/lib/python3/dist-packages/pip /usr/lib/python3/dist-packages/pop")

    with pytest.raises(ToolError, match="has no pip"):
        image.build_image(make_recipe(base=base), build=DockerBuilder().build, log=log)


def test_base_with_instructions_that_nobody_would_run(make_base, make_recipe, log):
    base = make_base("ONBUILD RUN echo before; exit 3")

    with pytest.raises(SettingsError, match="ONBUILD") as caught:
        image.build_image(make_recipe(base=base), build=DockerBuilder().build, log=log)

    assert "exit 3" in str(caught.value)


def test_copy_that_was_changed_is_noticed(folder, make_recipe, log):
    recipe = make_recipe()
    (recipe.folder / "sums.py").write_text("a = 2\n")

    with pytest.raises(StoreError, match=r"sums\.py"):
        image.build_image(recipe, build=DockerBuilder().build, log=log)


def test_disk_that_is_full(folder, make_recipe, log):
    (folder / "big.bin").write_bytes(os.urandom(1_000_000))
    recipe = make_recipe()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))

    try:
        with pytest.raises(StoreError, match="layers cannot be written"):
            image.build_image(recipe, build=DockerBuilder().build, log=log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("event", "said"),
    [({"stream": "x\n"}, "x"), ({"error": "no space left"}, "no space left")],
)
def test_stream_that_ends_without_an_image(folder, event, said):
    class Silent:
        def inspect_image(self, _image):
            raise docker.errors.ImageNotFound("none")

        def get_image(self, _image):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as archive:
                info = tarfile.TarInfo("manifest.json")
                content = json.dumps([{"Layers": []}]).encode()
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            yield out.getvalue()

        def load_image(self, _file):
            yield event

    log = BuildLog(folder / "log", io.StringIO())
    configuration = json.dumps({"rootfs": {"diff_ids": []}}).encode()

    with pytest.raises(ToolError, match="did not load") as caught:
        assembly.load_image(Silent(), configuration, [], "sha256:0", log)

    assert said in str(caught.value)


def test_name_that_is_none_is_an_error(make_recipe, log):
    with pytest.raises(ToolError, match="Not a Name"):
        image.build_image(
            replace(make_recipe(), name="Not a Name"), build=DockerBuilder().build, log=log
        )
