"""A real browser: Debian's Chromium without a window, steered through its driver."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.missing import ServiceMissingError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --force-color-profile=srgb"
)


class Browser:
    """A window; `driver` is Selenium's."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str, width: int = 1400, height: int = 1000) -> None:
        """Open a page in a window of some size, and forget what the console said before."""
        self.read_console()
        self.driver.set_window_size(width, height)
        self.driver.get("about:blank")  # an address that differs in its hash alone loads nothing
        self.driver.get(address)

    def find(self, selector: str):
        """Return the first element that fits."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str):
        """Return all elements that fit."""
        return self.driver.find_elements("css selector", selector)

    def run(self, script: str):
        """Return what a script gives; console errors of it count as well."""
        return self.driver.execute_script(script)

    def read_console(self) -> list[str]:
        """Return errors and warnings of the console since it was read last."""
        lines = self.driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def use_media(self, **features: str) -> None:
        """Pretend to be a medium: use_media(scheme="dark"), use_media(media="print")."""
        schemes = [{"name": "prefers-color-scheme", "value": features.get("scheme", "light")}]
        arguments = {"media": features.get("media", ""), "features": schemes}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", arguments)

    def take_picture(self, path: Path) -> Path:
        """Write what is seen as PNG."""
        self.driver.save_screenshot(str(path))
        return path


def start_browser(folder: Path) -> Browser:
    """Start Chromium with an empty profile in a folder; raise ServiceMissingError where there is none."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in programs.items():
        if path is None:
            raise ServiceMissingError(f"no {name}: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for flag in (*_FLAGS.split(), f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=programs["chromedriver"])
    return Browser(webdriver.Chrome(options=options, service=service))
