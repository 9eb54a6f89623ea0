"""The environment: what is read, and what is said about what is wrong in it."""

import traceback

import pytest

from fftasks.config import load_settings
from tests.config.sample_settings import refuse


@pytest.mark.parametrize(
    ("name", "text", "section", "value"),
    [
        ("KFP__HOST", "http://h:1", "kfp.host", "http://h:1"),
        ("KFP__TIMEOUT_S", " 5 ", "kfp.timeout_s", 5.0),
        ("KFP__CACHING", "FALSE", "kfp.caching", False),
        ("CONTEXT__IGNORE", "[a, b]", "context.ignore", ("a", "b")),
        ("CONTEXT__IGNORE", "- a\n- ${b}", "context.ignore", ("a", "${b}")),
        ("IMAGE__BUILD_ENV", "{PIP_INDEX_URL: x}", "image.build_env", {"PIP_INDEX_URL": "x"}),
        ("LOCAL__ISOLATION", "fresh", "local.isolation", "fresh"),
        ("WORKFLOWS", '["wf.py"]', "workflows", ("wf.py",)),
        # a text is taken as it is
        ("KFP__NAMESPACE", "", "kfp.namespace", ""),
        ("IMAGE__TAG", "1.10", "image.tag", "1.10"),
        ("REGISTRY__PASSWORD", "123", "registry.password", "123"),
        ("REGISTRY__PASSWORD", "*a: #${HOME}$${'", "registry.password", "*a: #${HOME}$${'"),
    ],
)
def test_the_environment_is_read_by_the_settings_type(folder, name, text, section, value):
    settings = load_settings(folder, environ={f"FFTASKS_{name}": text})

    for part in section.split("."):
        settings = getattr(settings, part)
    assert settings == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("KFP__HOTS", "x", ["there is no setting of this name", "did you mean FFTASKS_KFP__HOST?"]),
        ("KFP_HOST", "x", ["there is no setting of this name", "did you mean FFTASKS_KFP__HOST?"]),
        ("kfp__host", "x", ["there is no setting of this name", "did you mean FFTASKS_KFP__HOST?"]),
        ("WORKFLOW", "x", ["did you mean FFTASKS_WORKFLOWS?"]),
        ("X__Y", "x", ["there is no setting of this name", "there are: FFTASKS_WORKFLOWS"]),
        ("WORKFLOWS", "wf.py", ["workflows must be a list of strings, not 'wf.py'", "[wf.py]"]),
        ("CONTEXT__IGNORE", "", ["context.ignore must be a list of strings, not nothing"]),
        ("IMAGE__BUILD_ENV", "", ["image.build_env must be a mapping", "write {}"]),
        ("IMAGE__BUILD_ENV", "{A: 1}", ["image.build_env.A must be a string"]),
        ("IMAGE__BUILD_ENV", "{A: x, A: y}", ["image.build_env.A is set twice"]),
        ("CONTEXT__IGNORE", "[", ["invalid YAML"]),
        ("KFP__CACHING", "", ["kfp.caching must be true or false, not ''"]),
        ("KFP__TIMEOUT_S", "soon", ["kfp.timeout_s must be a number, at least 0.1, not 'soon'"]),
        ("LOCAL__ISOLATION", "frsh", ["must be one of fork, fresh", "did you mean fresh?"]),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_with_its_name(folder, name, text, said):
    error = refuse(folder, environ={f"FFTASKS_{name}": text})

    assert str(error).startswith(f"environment FFTASKS_{name}: ")
    for words in said:
        assert words in str(error)


@pytest.mark.parametrize("text", ["hunter2", "{A: *hunter2}", "[hunter2", "{A: {hunter2}}"])
def test_no_error_shows_a_secret_of_the_environment(folder, text):
    error = refuse(folder, environ={"FFTASKS_IMAGE__BUILD_ENV": text})

    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "name", ["PROFILE", "REQUIRE_SERVICES", "TEST_CACHE", "FOLDER", "OF_SOMEBODY_ELSE"]
)
def test_variables_that_are_no_settings_are_left_alone(folder, name):
    assert load_settings(
        folder, environ={f"FFTASKS_{name}": "", "FFFUNCTION": "x"}
    ) == load_settings(folder, environ={})
