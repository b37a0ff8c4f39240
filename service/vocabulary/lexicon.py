"""The words by which a thing is said, as a field lists them."""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

Lexicon = Mapping[str, Mapping[str, re.Pattern[str]]]


def lexicon(path: Path) -> Lexicon:
    """By section and name: a pattern of whole words, any of those listed, in any case. An entry is a regular expression."""
    listed = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {
        section: {name: re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) for name, words in names.items()}
        for section, names in listed.items()
    }
