"""The isolation that every test has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.isolation import NetworkClosedError, close_environment


@pytest.mark.parametrize("name", ["HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"])
def test_home_is_a_folder_of_the_test(name, tmp_path_factory):
    assert Path(os.environ[name]).is_relative_to(tmp_path_factory.getbasetemp())


def test_home_of_a_child_process_is_a_folder_of_the_test(tmp_path_factory):
    command = [sys.executable, "-c", "import pathlib; print(pathlib.Path.home())"]
    home = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert Path(home).is_relative_to(tmp_path_factory.getbasetemp())


def test_kfp_writes_its_context_into_the_test_home(kfp_server, capsys):
    kfp_server.connect().set_user_namespace("mine")

    assert Path(os.environ["HOME"], ".config/kfp/context.json").exists()


def test_kfp_does_not_see_the_context_of_an_earlier_test(kfp_server):
    assert kfp_server.connect().get_user_namespace() == ""


@pytest.mark.parametrize(
    "name",
    [
        "FFTASKS_REQUIRE_SERVICES",
        "FFTASKS_KFP__HOST",
        "FFFUNCTION",
        "KF_PIPELINES_ENDPOINT",
        "https_proxy",
    ],
)
def test_settings_of_the_machine_are_gone(name, monkeypatch):
    monkeypatch.setenv(name, "1")

    close_environment(monkeypatch)

    assert name not in os.environ


def test_no_setting_of_fftasks_is_left():
    assert not [name for name in os.environ if name.startswith("FFTASKS_")]


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
@pytest.mark.parametrize("call", ["connect", "connect_ex"])
def test_network_is_closed(address, call):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    with socket.socket(family) as connection, pytest.raises(NetworkClosedError):
        getattr(connection, call)(address)


def test_datagrams_do_not_leave_the_machine():
    with socket.socket(type=socket.SOCK_DGRAM) as connection, pytest.raises(NetworkClosedError):
        connection.sendto(b"", ("192.0.2.1", 53))


def test_names_are_not_looked_up():
    with pytest.raises(NetworkClosedError):
        socket.create_connection(("example.com", 80))


def test_a_name_that_cannot_exist_is_not_found():
    with pytest.raises(socket.gaierror):
        socket.create_connection(("registry.invalid", 80))


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        connection = socket.create_connection(("localhost", address[1]))
        connection.close()
