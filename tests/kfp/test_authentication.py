"""Access to KFP: settings that cannot work are named, and no secret is told."""

import pytest

from fftasks.config.tree import KFPSettings
from fftasks.errors import SettingsError
from fftasks.kfp.authentication import make_headers, make_tls_context, read_access


def make_settings(**changes):
    return KFPSettings(**{"host": "https://kfp.test:8443/pipeline/", **changes})


def test_slash_at_the_end_does_not_matter():
    assert read_access(make_settings()).host == "https://kfp.test:8443/pipeline"


@pytest.mark.parametrize(
    "host",
    ["", "localhost:8080", "ftp://x", "http://", "http://x:y", "http://x:0", "http://[x", "//x"],
)
def test_host_that_is_no_address_is_refused(host):
    with pytest.raises(SettingsError, match=r"kfp\.host: .* is not a valid address"):
        read_access(make_settings(host=host))


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"ca_cert": "nowhere.pem"}, "ca_cert"),
        ({"ca_cert": "/"}, "ca_cert"),
        ({"token_file": "nowhere"}, "token_file"),
        ({"token_file": "/"}, "token_file"),
        ({"token": "s3c\nret"}, "token"),
        ({"cookies": "s3cr\u00e8t"}, "cookies"),
        ({"host": "https://me:s3cret@kfp.test"}, "host"),
    ],
)
def test_unusable_setting_is_named_without_its_secret(changes, setting):
    with pytest.raises(SettingsError, match=rf"kfp\.{setting}") as caught:
        read_access(make_settings(**changes))

    assert "s3c" not in str(caught.value)


def test_token_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "token").write_bytes(b"\xff")

    with pytest.raises(SettingsError, match=r"kfp\.token_file") as caught:
        read_access(make_settings(token_file=str(tmp_path / "token")))

    assert "not a text file" in str(caught.value)


def test_token_beats_its_file(tmp_path):
    (tmp_path / "token").write_text("of the file\n")

    access = read_access(make_settings(token="own", token_file=str(tmp_path / "token")))

    assert access.token == "own"


def test_file_of_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("s3cret\n")

    assert read_access(make_settings(token_file="~/token")).token == "s3cret"


def test_secrets_are_in_the_headers_and_not_in_the_repr():
    access = read_access(make_settings(token="s3cret", cookies="c00kie=1"))

    assert make_headers(access)["Authorization"] == "Bearer s3cret"
    assert make_headers(access)["Cookie"] == "c00kie=1"
    assert "s3cret" not in repr(access)
    assert "c00kie" not in repr(access)


def test_nobody_is_sent_no_secrets():
    assert make_headers(read_access(make_settings())) == {"Accept": "application/json"}


@pytest.mark.parametrize("verify", [True, False])
def test_host_is_verified_as_the_settings_say(verify):
    context = make_tls_context(read_access(make_settings(verify_ssl=verify)))

    assert context.check_hostname is verify
