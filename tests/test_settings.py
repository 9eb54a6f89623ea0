"""Settings: where they come from, and what is said about wrong ones."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from fftasks.errors import SettingsError
from fftasks.settings import Settings, format_default, list_settings, load

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "wf.py").touch()
    write(tmp_path, "workflows: [wf.py]\n")
    return tmp_path


def write(folder, text, profile="default"):
    (folder / "config" / f"{profile}.yaml").write_text(text)


def test_the_file_with_workflows_is_enough(folder):
    settings = load(folder, environ={})

    assert settings == dataclasses.replace(Settings(), workflows=("wf.py",))


def test_later_ones_win_and_know_where_they_came_from(folder):
    write(folder, "workflows: [wf.py]\nkfp:\n  host: a\n  namespace: b\n  experiment: c\n")
    write(folder, "kfp:\n  namespace: B\n  experiment: C\n", "prod")

    settings = load(folder, "prod", {"FFTASKS_KFP__EXPERIMENT": "E"})

    assert (settings.kfp.host, settings.kfp.namespace, settings.kfp.experiment) == ("a", "B", "E")
    assert settings.origin("kfp.host") == "config/default.yaml:3"
    assert settings.origin("kfp.namespace") == "config/prod.yaml:2"
    assert settings.origin("kfp.experiment") == "environment FFTASKS_KFP__EXPERIMENT"
    assert settings.origin("kfp.token") == "default"


def test_the_profile_may_come_from_the_environment(folder):
    write(folder, "kfp: {host: there}", "prod")

    assert load(folder, environ={"FFTASKS_PROFILE": "prod"}).kfp.host == "there"


@pytest.mark.parametrize(
    ("name", "text", "section", "value"),
    [
        ("KFP__TIMEOUT_S", "5", "kfp.timeout_s", 5.0),
        ("KFP__CACHING", "false", "kfp.caching", False),
        ("CONTEXT__IGNORE", "[a, b]", "context.ignore", ("a", "b")),
        ("IMAGE__BUILD_ENV", "{PIP_INDEX_URL: x}", "image.build_env", {"PIP_INDEX_URL": "x"}),
        ("REGISTRY__PASSWORD", "123", "registry.password", "123"),
        ("WORKFLOWS", '["wf.py"]', "workflows", ("wf.py",)),
    ],
)
def test_the_environment_is_parsed_by_the_settings_type(folder, name, text, section, value):
    settings = load(folder, environ={f"FFTASKS_{name}": text})

    for part in section.split("."):
        settings = getattr(settings, part)
    assert settings == value


def test_without_a_file_the_environment_is_enough(tmp_path):
    (tmp_path / "wf.py").touch()

    assert load(tmp_path, environ={"FFTASKS_WORKFLOWS": "[wf.py]"}).workflows == ("wf.py",)


def test_variables_are_taken_from_the_environment(folder):
    write(folder, "workflows: [wf.py]\nregistry:\n  password: ${PW}\n  username: a-${U}-$${x}\n")

    settings = load(folder, environ={"PW": "secret", "U": "b"})

    assert settings.registry.password == "secret"
    assert settings.registry.username == "a-b-${x}"
    assert settings.warnings == ()


def test_a_password_in_the_file_works_with_a_warning(folder):
    write(folder, "workflows: [wf.py]\nregistry:\n  password: hunter2\n")

    settings = load(folder, environ={})

    assert settings.registry.password == "hunter2"
    (warning,) = settings.warnings
    assert warning.startswith("config/default.yaml:3: registry.password stands in the file")


def test_no_secret_is_shown(folder):
    environ = {"FFTASKS_REGISTRY__PASSWORD": "hunter2", "FFTASKS_KFP__TOKEN": "hunter2"}

    assert "hunter2" not in repr(load(folder, environ=environ))
    with pytest.raises(SettingsError) as caught:
        load(folder, environ={"FFTASKS_IMAGE__BUILD_ENV": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "workflows: [wf.py]\nkpf: {}\n",
            ["default.yaml:2: there is no setting kpf", "did you mean kfp"],
        ),
        (
            "workflows: [wf.py]\nkfp:\n  hots: x\n",
            ["default.yaml:3: there is no setting kfp.hots", "kfp.host", "did you mean kfp.host?"],
        ),
        ("workflows: [wf.py]\nkfp: 3\n", ["default.yaml:2: kfp must hold"]),
        ("workflows: wf.py\n", ["default.yaml:1: workflows must be a list of texts, not 'wf.py'"]),
        ("workflows: [1]\n", ["must be a list of texts"]),
        ("workflows: []\n", ["names no workflows"]),
        ("", ["names no workflows"]),
        ("- x\n", ["default.yaml:1: the file must hold"]),
        ("a: [\n", ["this is no YAML"]),
        ("workflows: [wf.py]\nworkflows: [wf.py]\n", ["default.yaml:2: workflows is set twice"]),
        ("workflows: [wg.py]\n", ["'wg.py' does not exist", "did you mean wf.py?"]),
        ("workflows: [../wf.py]\n", ["outside the project's folder"]),
        ("workflows: [wf.txt]\n", ["is no Python file"]),
        ("workflows: [wf.py]\nkfp:\n  caching: 1\n", ["kfp.caching must be true or false, not 1"]),
        ("workflows: [wf.py]\nkfp:\n  timeout_s: x\n", ["must be a number"]),
        ("workflows: [wf.py]\nlocal:\n  isolation: no\n", ["must be a text, not False"]),
        ("workflows: [wf.py]\nlocal:\n  isolation: x\n", ["must be one of fork, fresh"]),
        ("workflows: [wf.py]\nkfp:\n  host: ${NOPE}\n", ["default.yaml:3: kfp.host needs", "NOPE"]),
        ("workflows: [wf.py]\nkfp:\n  host: !!python/name:os.system x\n", ["this is no value"]),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(folder, text, said):
    write(folder, text)

    with pytest.raises(SettingsError) as caught:
        load(folder, environ={})

    for words in said:
        assert words in str(caught.value)


def test_an_unknown_variable_is_an_error(folder):
    with pytest.raises(SettingsError, match="environment FFTASKS_KFP__HOTS: there is no setting"):
        load(folder, environ={"FFTASKS_KFP__HOTS": "x"})


def test_variables_of_the_tools_themselves_are_none(folder):
    load(folder, environ={"FFTASKS_REQUIRE_SERVICES": "1", "FFTASKS_TEST_CACHE": "x"})


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match="fftasks init"):
        load(tmp_path, environ={})


def test_a_missing_profile_lists_those_there_are(folder):
    write(folder, "", "prod")

    with pytest.raises(SettingsError, match="profiles: prod"):
        load(folder, "dev", {})


def test_an_empty_section_has_its_defaults(folder):
    write(folder, "workflows: [wf.py]\nkfp:\nimage:\n  base:\n")

    assert load(folder, environ={}).image == Settings().image


def test_the_repositorys_file_shows_every_setting():
    text = (REPOSITORY / "config" / "default.yaml").read_text()
    workflows = tuple(yaml.safe_load(text)["workflows"])

    assert text == format_default(workflows)
    assert all(f"{key.partition('.')[2] or key}:" in text for key, _ in list_settings())


def test_the_default_file_can_be_uncommented(folder):
    lines = format_default(("wf.py",)).splitlines()
    sections = [line.removeprefix("# ") for line in lines if line.startswith("#") and ":" in line]
    text = "\n".join(
        ["workflows: [wf.py]", *(line for line in sections if "  # " in line or line[-1] == ":")]
    )
    write(folder, text)

    assert load(folder, environ={}) == dataclasses.replace(Settings(), workflows=("wf.py",))
