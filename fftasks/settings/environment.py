"""What the environment sets: FFTASKS_<SECTION>__<KEY>. The value of a secret is in no message."""

from __future__ import annotations

from collections.abc import Mapping

from fftasks.errors import SettingsError, find_near
from fftasks.settings.document import compose, read_value
from fftasks.settings.rule import Rules, Spot, Value

_PREFIX = "FFTASKS_"


def read_environment(environ: Mapping[str, str], rules: Rules) -> dict[str, Value]:
    """Return what FFTASKS_<SECTION>__<KEY> set, by dotted key.

    A text is taken as it is: nobody should have to quote a password for YAML. Lists and mappings are
    YAML. Raises SettingsError for a name that is none, or is nearly one.
    """
    names = {name_variable(key): key for key in rules}
    values = {}
    for name in sorted(environ):
        if name in names:
            origin = f"environment {name}"
            values[names[name]] = _read_variable(
                Spot(names[name], rules[names[name]], origin), environ[name]
            )
        elif name.startswith(_PREFIX):
            _check_variable(name, list(names))
    return values


def name_variable(key: str) -> str:
    """Return the environment variable of a setting: FFTASKS_KFP__HOST for "kfp.host"."""
    return _PREFIX + key.upper().replace(".", "__")


def _check_variable(name: str, names: list[str]) -> None:
    """Raise SettingsError if a variable seems to be meant as a setting; others are not ours to judge."""
    shorts = [known.removeprefix(_PREFIX) for known in names]
    # without "__" it may belong to somebody else, unless it is nearly a setting's
    cutoff = 0.5 if "__" in name else 0.85
    near = find_near(name.removeprefix(_PREFIX).upper(), shorts, cutoff=cutoff)
    if near or "__" in name:
        raise SettingsError(
            f"environment {name}: there is no setting of this name",
            found=[] if near else [f"there are: {', '.join(names)}"],
            tip=f"did you mean {_PREFIX}{near}?" if near else "unset it",
        )


def _read_variable(spot: Spot, text: str) -> Value:
    kind = type(spot.rule.default)
    if kind is str:
        return Value(spot.check(text), spot.origin)
    if kind not in (tuple, dict):
        return Value(spot.check(spot.parse(text)), spot.origin)
    node = compose(text, spot.origin)
    if node is None:
        raise spot.refuse("nothing", "write []" if kind is tuple else "write {}")
    return read_value(spot, node)
