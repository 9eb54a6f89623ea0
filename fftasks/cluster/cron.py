"""When a schedule fires: cron with six fields, as Kubeflow Pipelines reads it.

    second  minute  hour  day of the month  month  day of the week

It takes five fields as well, and reads the first one as the second: "0 6 * * *", six o'clock to everybody
else, is each hour at minute 6 there. So five fields are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fftasks.errors import SettingsError

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_DAYS = "SUN MON TUE WED THU FRI SAT".split()
_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every (\d+(\.\d+)?(h|m|s))+")
_USUAL = 5
_TIP = '"0 0 6 * * *" is each day at 6:00:00 UTC; fields: second minute hour day month weekday'


def check_cron(text: str) -> str:
    """Return a schedule with single blanks; raise SettingsError for what KFP would not read as meant."""
    fields = text.split()
    cron = " ".join(fields)
    if cron in _WORDS or _EVERY.fullmatch(cron):
        return cron
    attempted = f"schedule: {text!r} is not a time that Kubeflow Pipelines understands as meant"
    if len(fields) == _USUAL:
        found = ["it has 5 fields; here there are 6, and the first one is the second"]
        raise SettingsError(attempted, found=found, tip=f'write "0 {cron}"')
    if len(fields) != len(_FIELDS):
        found = [f"it has {len(fields)} fields, not 6"]
        raise SettingsError(attempted, found=found, tip=_TIP)
    for field, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _is_valid(part.upper(), least, most, words):
                found = [f"{part!r} is no {name}: {least} to {most}, *, ranges a-b, steps */n"]
                raise SettingsError(attempted, found=found, tip=_TIP)
    return cron


def _is_valid(part: str, least: int, most: int, words: Sequence[str]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdecimal() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return True
    ends = span.split("-")
    numbers = [_read(end, least, words) for end in ends]
    if len(ends) > 2 or None in numbers:  # noqa: PLR2004 - a range has two ends
        return False
    known = [number for number in numbers if number is not None]
    return least <= known[0] <= known[-1] <= most


def _read(word: str, least: int, words: Sequence[str]) -> int | None:
    if word in words:
        return words.index(word) + least
    return int(word) if word.isascii() and word.isdecimal() else None
