"""Reading what a caller says: is a thing affirmed, or denied, past, or only asked about?"""

import re

_SENTENCE = re.compile(r"(?<=[.!?;\n])\s+|\n+|\s+\b(?:but|however|although|though|except|yet)\b\s+", re.IGNORECASE)
_NO_SUCH = (
    r"no|non|denies|denied|denying|without|nor|neither|free of|negative for|ruled out|absence of|rather than|instead of"
)
_NOT_SO = r"not|never|don'?t|doesn'?t|didn'?t|isn'?t|aren'?t|wasn'?t|hasn'?t|haven'?t"
_DENIAL = re.compile(rf"\b((?P<thing>{_NO_SUCH})|(?P<verb>{_NOT_SO}))\b", re.IGNORECASE)
# Where a denial stops: "no sleep since her face dropped"; "not well and his speech is slurred".
_STOP = re.compile(r"\b(since|because|while|after|when|then|so|now|started|until|unless)\b", re.IGNORECASE)
_STOP_VERB = re.compile(r"\b(and|with|has|have|is|are)\b", re.IGNORECASE)
_DENIED_AFTER = re.compile(
    r"^\W{0,3}\s*(is |was |are |were |has |have )?(no|none|absent|denied|negative|ruled out|excluded|not present|nil)\b",
    re.IGNORECASE,
)
_OTHER_TIME = re.compile(
    r"\b(history of|hx of|previous(ly)?|in the past|carries \w+ for|in case of|risk of|(worried|afraid|scared) (about|of)"
    r"|if (you|he|she|it|there|any|they))(\W+\w+){0,2}\W*$",
    re.IGNORECASE,
)
_AGO = re.compile(r"^[^,]{0,25}\b((years?|months?) ago|last year|in (19|20)\d\d)\b", re.IGNORECASE)
_LIST_OR = re.compile(r"\b(or|nor)\b", re.IGNORECASE)
# "no doubt", "not only", "not sure if", "no relief": the words of denial without one.
_NOT_A_DENIAL = re.compile(
    r"\b(no doubt|not only|not just|no relief|no better|not better|not improving|no idea|no reason|no known|no previous"
    r"|no improvement|no change|no sleep|no appetite|no energy|not (feeling )?(well|right|good)|not waking"
    r"|not getting better|not going away|not stopping|never had|never felt|not sure|no longer (able|responding))\b",
    re.IGNORECASE,
)


def affirmed(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the text says that it is so, now. A denial reaches to the next comma, or through a list joined by "or"."""
    return any(_affirmed_in(pattern, sentence) for sentence in _SENTENCE.split(text.replace("’", "'")))


def _affirmed_in(pattern: re.Pattern[str], sentence: str) -> bool:
    return any(not _denied(sentence, match) for match in pattern.finditer(sentence))


def _denied(sentence: str, match: re.Match[str]) -> bool:
    before, after = _NOT_A_DENIAL.sub(" ", sentence[: match.start()]), sentence[match.end() :]
    return _DENIED_AFTER.match(after) is not None or _elsewhen(before, after) or _denied_before(before, after)


def _elsewhen(before: str, after: str) -> bool:
    return _OTHER_TIME.search(before) is not None or _AGO.match(after) is not None


def _denied_before(before: str, after: str) -> bool:
    denials = list(_DENIAL.finditer(before))
    if not denials:
        return False
    between = before[denials[-1].end() :]
    if _STOP.search(between) or (denials[-1]["verb"] and _STOP_VERB.search(between)):
        return False
    return "," not in between or _LIST_OR.search(between + after) is not None
