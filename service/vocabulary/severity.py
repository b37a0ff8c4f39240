"""How bad an outcome is, comparable across domains."""

from enum import IntEnum


class Severity(IntEnum):
    """none < minor < serious < critical."""

    none = 0
    minor = 1
    serious = 2
    critical = 3
