"""When a recurring run is due, after robfig/cron v1.

KFP uses it (backend/src/crd/controller/scheduledworkflow, 2.17.0).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_RANGES = {  # name -> lowest and highest value, in the order of the fields
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (0, 6),
}
_NAMES = {
    name: str(number)
    for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
_NAMES |= {
    name: str(number)
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_UNITS = {"s": 1, "m": 60, "h": 3600}


class CronError(ValueError):
    """A schedule is not understood; the text is that of robfig/cron."""


class Cron:
    """A schedule with five or six fields; the first of six is the second."""

    def __init__(self, text: str) -> None:
        self.every_s = 0
        self.fields: list[frozenset[int]] = []
        if text.startswith("@every "):
            pieces = re.findall(r"(\d+)([smh])", text)
            self.every_s = sum(int(number) * _UNITS[unit] for number, unit in pieces)
            if not self.every_s:
                raise CronError(f"Failed to parse duration {text}")
            return
        if text.startswith("@") and text not in _DESCRIPTORS:
            raise CronError(f"Unrecognized descriptor: {text}")
        parts = _DESCRIPTORS.get(text, text).split()
        if len(parts) not in (5, 6):
            raise CronError(f"Expected 5 to 6 fields, found {len(parts)}: {text}")
        if len(parts) == 5:
            # robfig/cron v1 takes five fields for those from second to month; the day of week is open
            parts.append("*")
        self.fields = [
            _read_field(part, *ends) for part, ends in zip(parts, _RANGES.values(), strict=True)
        ]

    def find_next(self, after: float) -> float:
        """Return the first second (since 1970) behind a time at which it is due."""
        if self.every_s:
            return int(after) + self.every_s
        moment = datetime.fromtimestamp(int(after) + 1, timezone.utc)
        for _ in range(366 * 5):
            if self._is_day(moment):
                found = self._find_in_day(moment)
                if found is not None:
                    return found.timestamp()
            moment = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0)
        return float("inf")

    def _is_day(self, moment: datetime) -> bool:
        _, _, _, days, months, weekdays = self.fields
        if moment.month not in months:
            return False
        is_day, is_weekday = moment.day in days, moment.isoweekday() % 7 in weekdays
        # a star leaves it to the other one; else one of them is enough
        if len(days) == 31 or len(weekdays) == 7:
            return is_day and is_weekday
        return is_day or is_weekday

    def _find_in_day(self, moment: datetime) -> datetime | None:
        seconds, minutes, hours = self.fields[:3]
        for hour in sorted(hours):
            for minute in sorted(minutes):
                for second in sorted(seconds):
                    found = moment.replace(hour=hour, minute=minute, second=second)
                    if found >= moment:
                        return found
        return None


def _read_field(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if first in ("*", "?"):
            begin, end = low, high
        else:
            begin = _read_number(first)
            end = _read_number(last) if last else (high if step else begin)
        if begin < low:
            raise CronError(f"Beginning of range ({begin}) below minimum ({low}): {part}")
        if end > high:
            raise CronError(f"End of range ({end}) above maximum ({high}): {part}")
        if begin > end:
            raise CronError(f"Beginning of range ({begin}) beyond end of range ({end}): {part}")
        found.update(range(begin, end + 1, _read_number(step) if step else 1))
    return frozenset(found)


def _read_number(text: str) -> int:
    try:
        return int(_NAMES.get(text.lower(), text))
    except ValueError:
        raise CronError(f"Failed to parse int from {text}: strconv.Atoi: invalid syntax") from None
