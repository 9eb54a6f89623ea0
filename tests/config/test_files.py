"""Files in config/: what is read, and what is said about what is wrong in them."""

import traceback

import pytest

from fftasks.config import Settings, load_settings
from fftasks.errors import SettingsError
from tests.config.sample_settings import FIRST, refuse, write


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"---\n", b"# caf\xc3\xa9\n"])
def test_a_file_may_begin_with(folder, start):
    write(folder, start + FIRST.encode())

    assert load_settings(folder, environ={}).workflows == ("wf.py",)


def test_an_empty_section_has_its_defaults(folder):
    write(folder, f"{FIRST}kfp:\nimage:\n  base:\n  build_env:\n")

    first, second = load_settings(folder, environ={}), load_settings(folder, environ={})

    assert first.image == Settings().image
    assert first.image.build_env is not second.image.build_env


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["default.yaml is empty", "write `workflows: [my_workflow.py]`"]),
        ("# only a comment\n", ["default.yaml is empty"]),
        ("workflow: [wf.py]\n", ["default.yaml:1: there is no setting workflow", "workflows?"]),
        (f"{FIRST}kpf: {{}}\n", ["default.yaml:2: there is no setting kpf", "did you mean kfp?"]),
        (f"{FIRST}host: x\n", ["there is no setting host", "did you mean kfp.host?"]),
        (f"{FIRST}kfp.host: x\n", ["there is no setting kfp.host", "write `host:` below `kfp:`"]),
        (f"{FIRST}<<: {{}}\n", ["there is no setting <<", "shows them all"]),
        (
            f"{FIRST}kfp:\n  hots: x\n",
            ["default.yaml:3: there is no setting kfp.hots", "kfp.ca_cert", "you mean kfp.host?"],
        ),
        (f"{FIRST}registry:\n  host: x\n", ["there are: registry.server, registry.repository"]),
        (f"{FIRST}kfp: 3\n", ["default.yaml:2: kfp must hold `key: value` lines"]),
        ("- x\n", ["default.yaml:1: the file must hold `key: value` lines"]),
        ("wf.py\n", ["default.yaml:1: the file must hold"]),
        (f"{FIRST}? [a]\n: b\n", ["default.yaml:2: a key in the file must be a string"]),
        (f"{FIRST}{FIRST}", ["default.yaml:2: workflows is set twice", "before: config/default"]),
        (f"{FIRST}kfp: {{host: a,\n host: b}}\n", ["default.yaml:3: kfp.host is set twice"]),
        (f"{FIRST}kfp:\n  host: a\nkfp:\n", ["default.yaml:4: kfp is set twice"]),
        (
            f"{FIRST}image:\n  build_env:\n    A: x\n    A: x\n",
            ["default.yaml:5: image.build_env.A is set twice"],
        ),
        ("workflows: wf.py\n", ["workflows must be a list of strings, not 'wf.py'", "[wf.py]"]),
        ("workflows: {a: b}\n", ["default.yaml:1: workflows must be a list of strings, not a map"]),
        (
            "workflows:\n  - wf.py\n  - 1\n",
            ["default.yaml:3: workflows[1] must be a string, not 1"],
        ),
        ("workflows:\n  -\n", ["default.yaml:2: workflows[0] must be a string, not nothing"]),
        ("workflows: &a [*a]\n", ["workflows[0] must be a string, not a list"]),
        (f"{FIRST}image:\n  build_env: [a]\n", ["image.build_env must be a mapping of strings to"]),
        (
            f"{FIRST}image:\n  build_env:\n    A: 60\n",
            ["default.yaml:4: image.build_env.A must be a string", "write it in quotes"],
        ),
        (f"{FIRST}image:\n  tag: 1.10\n", ["image.tag must be a string, not 1.10", "in quotes"]),
        (f"{FIRST}image:\n  tag: 2024-02-30\n", ["image.tag must be a string, not 2024-02-30"]),
        (f"{FIRST}image:\n  tag: !!int x\n", ["image.tag must be a string, not x"]),
        (f"{FIRST}image:\n  tag: [a]\n", ["image.tag must be a string, not a list"]),
        (f"{FIRST}kfp:\n  host: !!python/name:os.system x\n", ["kfp.host must be a string, not x"]),
        (f"{FIRST}kfp:\n  caching: 1\n", ["kfp.caching must be true or false, not '1'"]),
        (f"{FIRST}kfp:\n  caching: 'true'\n", ["kfp.caching must be true or false, not 'true'"]),
        (f"{FIRST}kfp:\n  caching: {{}}\n", ["kfp.caching must be true or false, not a mapping"]),
        (f"{FIRST}kfp:\n  timeout_s: x\n", ["kfp.timeout_s must be a number, at least 0.1, not"]),
        (f"{FIRST}kfp:\n  timeout_s: true\n", ["kfp.timeout_s must be a number"]),
        (f"{FIRST}kfp:\n  timeout_s: 0\n", ["at least 0.1, not 0.0"]),
        (f"{FIRST}kfp:\n  timeout_s: .nan\n", ["kfp.timeout_s must be a number"]),
        (f"{FIRST}kfp:\n  timeout_s: {'9' * 400}\n", ["kfp.timeout_s must be a number"]),
        (f"{FIRST}local:\n  isolation: no\n", ["must be one of fork, fresh, not no"]),
        (f"{FIRST}kfp:\n  auth: x\n", ['kfp.auth must be one of "", ', "not 'x'"]),
        (f"{FIRST}local:\n  isolation: frok\n", ["one of fork, fresh, not 'frok'", "mean fork?"]),
        (f"{FIRST}kfp:\n  host: ${{NOPE}}\n", ["default.yaml:3: kfp.host needs", "NOPE"]),
        ("workflows:\n  - ${NOPE}\n", ["default.yaml:2: workflows[0] needs", "export NOPE="]),
        (f"{FIRST}kfp:\n  host: ${{A:-b}}\n", ["default.yaml:3: kfp.host has a `${`", "$${"]),
        ("a: [\n", ["invalid YAML"]),
        ("a: [b c: d\n", ["invalid YAML", "','"]),
        (f"{FIRST}kfp:\n\thost: x\n", ["default.yaml:3: invalid YAML", "indent with spaces"]),
        (f"{FIRST}kfp:\n  host: @x\n", ["default.yaml:3: invalid YAML", "into quotes"]),
        (f"{FIRST}---\n{FIRST}", ["default.yaml:2: invalid YAML"]),
        (f"{FIRST}kfp:\n  host: \a\n", ["default.yaml:3: invalid YAML", "not allowed"]),
        (f"{FIRST}{'[' * 5000}", ["invalid YAML"]),
        (FIRST.encode() + b"kfp:\n  host: \xff\n", ["default.yaml:3: invalid UTF-8"]),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(folder, text, said):
    write(folder, text)

    error = refuse(folder)

    for words in said:
        assert words in str(error)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("registry:\n  password: hunter2${NOPE}\n", "registry.password"),
        ("registry:\n  password: ${PW}${NOPE}\n", "registry.password"),
        ("kfp:\n  token: ${NOPE}\n", "kfp.token"),
        ("image:\n  build_env: {A: 'hunter2${NOPE}'}\n", "image.build_env"),
        ("object_store:\n  secret_key: ${NOPE}\n", "object_store.secret_key"),
    ],
)
def test_a_secret_that_is_not_there_is_missed_where_it_is_used(folder, text, key):
    write(folder, FIRST + text)
    section, _, name = key.partition(".")

    settings = load_settings(folder, environ={"PW": "hunter2"})

    assert settings.registry.server == ""
    for _ in range(2):
        with pytest.raises(SettingsError, match="export NOPE=") as caught:
            getattr(getattr(settings, section), name)
    assert f"default.yaml:3: {key}" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_that_is_not_there_may_be_set_elsewhere(folder):
    write(folder, f"{FIRST}registry:\n  password: ${{NOPE}}\n")

    settings = load_settings(folder, environ={"FFTASKS_REGISTRY__PASSWORD": "x"})

    assert settings.registry.password == "x"


@pytest.mark.parametrize("profile", [None, "prod"])
def test_a_missing_file_says_what_to_do(tmp_path, profile):
    (tmp_path / "config").mkdir()
    write(tmp_path, FIRST, "prod")

    error = refuse(tmp_path, profile)

    assert f"there is no config/default.yaml in {tmp_path}" in str(error)
    assert "fftasks init" in str(error)


def test_a_file_with_another_ending_is_pointed_at(folder):
    (folder / "config" / "default.yaml").rename(folder / "config" / "default.yml")

    assert "config/default.yml is not read: it must end in .yaml" in str(refuse(folder))


@pytest.mark.parametrize(
    ("profile", "variables", "said"),
    [
        ("prdo", {}, ["no profile 'prdo':", "profiles: dev, prod", "did you mean prod?"]),
        ("x", {}, ["no profile 'x': config/x.yaml does not exist", "profiles: dev, prod"]),
        (None, {"FFTASKS_PROFILE": "x"}, ["no profile 'x' of FFTASKS_PROFILE:"]),
        ("../config/prod", {}, ["no profile '../config/prod'"]),
        ("test", {}, ["config/test.yml is not read"]),
    ],
)
def test_a_missing_profile_lists_those_there_are(folder, profile, variables, said):
    write(folder, "kfp: {host: x}", "prod")
    write(folder, "kfp: {host: x}", "dev")
    (folder / "config" / "test.yml").touch()

    error = refuse(folder, profile, variables)

    for words in said:
        assert words in str(error)


def test_an_empty_profile_is_refused(folder):
    write(folder, "# kfp:\n", "prod")

    assert "config/prod.yaml is empty" in str(refuse(folder, "prod"))


def test_a_file_that_cannot_be_read_is_no_traceback(folder):
    (folder / "config" / "prod.yaml").mkdir()

    assert "config/prod.yaml cannot be read" in str(refuse(folder, "prod"))
