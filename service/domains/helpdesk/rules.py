"""Rules that no simulation overrides: few, certain, each with whose rule it is."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from service.domains.helpdesk.state import TicketState
from service.vocabulary.proposal import Action, Proposal
from service.vocabulary.verdict import RuleHit

IC = re.IGNORECASE
REACH = 160
TRIES = 50
QUIET = frozenset({"ask", "look_up", "hand_over", "follow_up"})
CLAUSE = re.compile(r"[;\n]|[.!?](?=\s|$)|,\s*(?:but|then|and then)\b|\bbut\b|\binstead\b(?!\s+of)|\band then\b", IC)
UNDOES = re.compile(
    r"\b(?:not|never|no|without|cannot|can't|don't|doesn't|won't|isn't|mustn't|shouldn't|avoid\w*|instead of|rather than|"
    r"remov(?:e|es|ed|ing)|block\w*|revok\w*|disabl\w*|prevent\w*|stop\w*|den(?:y|ies|ied)|delet\w*|replac\w*|"
    r"turn\w* off|switch\w* off|forbid\w*|reject\w*|refus\w*|close\w*|ends?)\W{1,4}(?:(?!and\b|so\b)[^\s,]+\s+){0,5}$|\bfrom\W{1,4}$",
    IC,
)
UNDONE = re.compile(
    r"^\W*(?:is |are |stays? |switched |turned )?off\b|^[^,]{0,40}\b(?:removed|blocked|denied|forbidden|rejected|not allowed|stays? off)\b",
    IC,
)
NEGATED = re.compile(
    r"(?:\b(?:not|never|no|without|cannot|avoid\w*|instead of|rather than|refus\w*)|n't|nobody(?:'s| is)?)\W{1,4}(?:\S+\s+){0,4}$",
    IC)  # fmt: skip
NARROWING = re.compile(r"SourceIp|SourceVpc|PrincipalOrg|SourceAccount|SourceArn|PrincipalArn|PrincipalAccount", IC)
PUBLIC_TEXT = re.compile(
    r"\ballUsers\b|\ballAuthenticatedUsers\b|\bpublic-read(?:-write)?\b|"
    r"[\"']?\bprincipal[\"']?\s*(?:[:=]|\bis|\bto|\bset to|\bas|\bof)?\s*(?:\{\s*[\"']?AWS[\"']?\s*:\s*)?\[?\s*[\"'`]?\*|"
    r"\banonymous (?:read |public |blob )?(?:access|reads?|downloads?|users?)\b|\bworld[- ]readable\b|"
    r"\bany principal\b|\bopen\w*\b[^.,;]{0,40}\bto (?:everyone|anyone|all) on the internet\b|"
    r"\bpublicly (?:accessible|readable|available)\b|"
    r"\b(?:make|making|set|open|turn|switch|mark|flip|put)\b[^.,;]{0,60}\b(?:bucket|container|blob|share|folder|object|storage|"
    r"policy|acl|it)s?\b[^.,;]{0,30}\b(?:public|open to (?:everyone|anyone|the world|the internet))\b",
    IC,
)
UNBLOCKS = re.compile(
    r"\b(?:disabl\w*|turn\w* off|switch\w* off|remov\w*|delet\w*|lift\w*)\b[^.;]{0,25}\b(?:block(?:ing)?|prevent\w*|prohibit\w*)"
    r"[- ](?:of )?(?:all )?public[- ]access",
    IC,
)
FACTOR = r"(?:mfa|2fa|two[- ]?factor|multi[- ]?factor|second factor|two[- ]step)"
DROPS_FACTOR = re.compile(
    rf"\b(?:(?:disabl|bypass|deactivat|suspend|waiv|skip|exempt|exclud)\w*|(?:turn|switch)\w* (?:off|mfa off))\b"
    rf"(?:\s+\S+){{0,6}}?\s+\W{{0,3}}"
    rf"{FACTOR}\b(?!\W{{1,3}}(?:device|method|registration|token|phone|fatigue))|\bremov\w* (?:the |his |her |their |all )?{FACTOR}\b"
    rf"(?!\W{{1,3}}(?:device|method|registration|token|phone))|"
    rf"\b{FACTOR}(?: (?:is|to|be|set|turned|switched|must|should|requirement|enforcement|gets))* (?:off|disabled)\b", IC)  # fmt: skip
SECRET = r"(?:passwords?|passphrase|client secret|secret|api key|access key|private key|credentials?)"
SECRET += r"\b(?! (?:reset|polic|portal|manager|expir|change|link|rotation|vault|store|hint|field|prompt|page))"
PLAIN_PLACE = (
    r"(?:plain ?-?text|unencrypted|in clear|(?:in|into|to) (?:the |a |our |this )?(?:public )?(?:\w+ )?(?:ticket|chat|slack|teams|channel|"
    r"wiki|repo\w*|group|whole team|everyone)|(?:by|via|over|in an?|through) (?:e-?mail|sms|text message|chat|the phone))"
)
SHARES_SECRET = re.compile(
    rf"\b(?:send\w*|shar\w*|post\w*|past\w*|e?-?mail\w*|tell|giv\w*|writ\w*|put\w*|stor\w*|commit\w*|read)\b[^.;]{{0,40}}\b{SECRET}"
    rf"[^.;]{{0,60}}\b{PLAIN_PLACE}\b|"
    rf"\b(?:ask|have|get)\b[^.;]{{0,30}}\b(?:for|tell|give|send|share)\b[^.;]{{0,12}}\b(?:your|his|her|their|current|the user's) "
    rf"(?:current )?passwords?\b(?! reset)|\bhard-?cod\w*\b[^.;]{{0,30}}\b{SECRET}", IC)  # fmt: skip
ERASES = re.compile(r"\b(?:delet|purg|wip|drop|eras|destroy|truncat|remov|clear|shred)\w*", IC)
RECORDS = re.compile(r"\b(?:back-?ups?|snapshots?|logs?|mailbox\w*|archives?|records?|e-?mails?|files?|data)\b", IC)
HELD = re.compile(r"\b(?:legal|litigation|preservation) hold\b|\bon hold for legal\b|\bsubpoena\w*|\be-?discovery\b|"
                  r"\bunder (?:a )?(?:\w+ ){0,2}retention\b|\bwithin (?:the |its )?retention\b|\bretention lock\b", IC)  # fmt: skip
AUDIT = re.compile(
    r"\b(?:delet|purg|wip|eras|destroy|disabl|stop|truncat|turn\w* off|switch\w* off)\w*\b(?:\s+\S+){0,3}?\s+\W{0,3}"
    r"(?:audit (?:logs?|trails?|logging)|cloudtrail|security logs?)\b",
    IC,
)
TOP_ROLE = re.compile(
    r"\b(?:global|domain|enterprise|tenant|org(?:anization)?|super|full)[- ]?admin\w*|\bsuperuser\b|\broot (?:access|rights)\b|"
    r"\bowner (?:role|rights|access|permission\w*)\b|\badministratoraccess\b|\"(?:role|level)\": \"(?:owner|admin\w*)\"",
    IC,
)
GIVES = re.compile(r"\b(?:grant|giv|add|assign|mak|promot|elevat|provid)\w*", IC)
UNPROVEN = re.compile(
    r"\b(?:un-?verified|not (?:been )?verified|(?:can ?not|could not|couldn't|can't) (?:be )?verif\w+)", IC
)


def kind_of(action: Action) -> str:
    return action.kind.strip().lower().replace("-", "_").replace(" ", "_")


def _clauses(action: Action) -> Iterator[str]:
    """The action's text in clauses; a quiet action may still ask about what it must not do."""
    text = action.text.replace("’", "'")
    if kind_of(action) in QUIET:
        text = re.sub(r"[^.!?;\n]{0,400}\?", "", text)
    yield from (" ".join(clause.split()) for clause in CLAUSE.split(text) if clause.strip())


def _affirmed(pattern: re.Pattern[str], action: Action, undoes: re.Pattern[str] = NEGATED) -> bool:
    return any(
        not undoes.search(clause[max(0, match.start() - REACH) : match.start()])
        and not UNDONE.search(clause[match.end() : match.end() + REACH])
        for clause in _clauses(action)
        for match in pattern.finditer(clause)
    )


def _documents(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every JSON object inside arguments, those written as a string included."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if depth < 12 and isinstance(value, dict):
        yield value
    if depth < 12 and isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _documents(part, depth + 1)


def _written_documents(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), text.find("{")
    for _ in range(TRIES):
        if at < 0:
            return
        try:
            value, end = decoder.raw_decode(text, at)
            yield from _documents(value)
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [name for part in value.values() for name in _names(part)]
    return [name for part in value for name in _names(part)] if isinstance(value, list) else [str(value)]


def _lowered(document: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in document.items()}


def _principals(document: dict[str, Any]) -> list[str]:
    fields = _lowered(document)
    return [
        name.strip()
        for key in ("principal", "principals", "member", "members", "grantee")
        for name in _names(fields.get(key, []))
    ]


PUBLIC_NAMES = {"*", "allusers", "allauthenticatedusers", "anonymous", "everyone", "public"}
PUBLIC_ACLS = {"public-read", "public-read-write", "publicread", "container", "blob"}


def _public(document: dict[str, Any]) -> bool:
    fields = _lowered(document)
    if str(fields.get("effect", "allow")).lower() == "deny" or NARROWING.search(
        json.dumps(fields.get("condition", ""))
    ):
        return False
    acl = str(fields.get("acl", fields.get("public_access", ""))).lower()
    return acl in PUBLIC_ACLS or any(name.lower() in PUBLIC_NAMES for name in _principals(document))


def principal_in(arguments: dict[str, Any]) -> str:
    """ "*" if the arguments let anyone in, "named" if they name someone, else empty."""
    documents = list(_documents(arguments))
    if any(map(_public, documents)):
        return "*"
    return "named" if any(_principals(document) for document in documents) else ""


def _opens_storage(state: TicketState, action: Action) -> bool:
    written = list(_written_documents(action.text))
    if principal_in(action.arguments) == "*" or any(map(_public, written)) or _affirmed(UNBLOCKS, action):
        return True
    prose = (
        action
        if not written
        else action.model_copy(update={"text": re.sub(r"\{.*\}", " ", action.text, flags=re.DOTALL)})
    )
    return _affirmed(PUBLIC_TEXT, prose, UNDOES)


def _drops_factor(state: TicketState, action: Action) -> bool:
    pairs = ((key.lower(), value) for document in _documents(action.arguments) for key, value in document.items())
    off = {"false", "off", "disabled", "0", "none"}
    return _affirmed(DROPS_FACTOR, action) or any(
        re.search(FACTOR, key.replace("_", " ")) and str(value).lower() in off for key, value in pairs
    )


def _shares_secret(state: TicketState, action: Action) -> bool:
    return _affirmed(SHARES_SECRET, action)


def _erases_held(state: TicketState, action: Action) -> bool:
    if _affirmed(AUDIT, action):
        return True
    target = action.model_copy(update={"text": f"{action.text} {json.dumps(action.arguments)}"})
    erasing = kind_of(action) == "delete" or _affirmed(ERASES, action)
    told = Action(
        kind="told", text=f"{action.text}. {state.description}. {'. '.join(state.information_gathered)}"[:8_000]
    )
    held = state.environment.legal_hold is True or _affirmed(HELD, told)
    return held and erasing and RECORDS.search(target.text) is not None


def _crowns_stranger(state: TicketState, action: Action) -> bool:
    text = f"{action.text} {json.dumps(action.arguments)}"
    gives = kind_of(action) == "grant_access" or GIVES.search(action.text)
    unproven = state.requester.verified is False or (state.requester.verified is None and UNPROVEN.search(text))
    asked = action.model_copy(update={"text": text})
    return bool(gives and unproven) and _affirmed(TOP_ROLE, asked, UNDOES)


RULES: tuple[tuple[str, str, str, Callable[[TicketState, Action], bool]], ...] = (
    ("public-storage", "Storage may not be opened to everyone (principal *, anonymous or public-read).",
     "CIS AWS Foundations 2.1.4; AWS S3 Block Public Access", _opens_storage),
    ("mfa-off", "Multi-factor authentication may not be switched off or bypassed.",
     "CIS Controls v8 6.3-6.5; NIST SP 800-63B", _drops_factor),
    ("secret-in-plain-text", "Passwords and secrets may not be asked for, or shared in plain text.",
     "NIST SP 800-63B 5.1.1.2; NIST SP 800-53 IA-5(7)", _shares_secret),
    ("held-records", "Audit logs, and records under retention or legal hold, may not be deleted.",
     "NIST SP 800-53 AU-11; FRCP 37(e)", _erases_held),
    ("admin-for-unverified", "Top administrative roles may not go to someone whose identity is not verified.",
     "NIST SP 800-53 AC-2, IA-12; CIS Controls v8 5.4", _crowns_stranger),
)  # fmt: skip


def hard_rules(proposal: Proposal) -> tuple[RuleHit, ...]:
    return tuple(
        RuleHit(name, text, source) for name, text, source, broken in RULES if broken(proposal.state, proposal.action)
    )
