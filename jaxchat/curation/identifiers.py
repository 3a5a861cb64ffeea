"""Personal data in running text: what it looks like, and the check digits that tell it from other figures.

Each recogniser yields the spans (start, end) of one kind. Where a form alone is no proof (ten figures in a row may be
an order), the figures must pass the number's own check (by python-stdnum) or stand behind words that say what they are.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

Span = tuple[int, int]

# Letters and figures of scripts that put spaces between words: an address in Chinese text stands directly behind it.
_L = r"A-Za-z0-9À-ɏͰ-ӿ"
_NOT_AFTER = rf"(?<![{_L}_])"
_NOT_BEFORE = rf"(?![{_L}_])"

_EMAIL = re.compile(
    rf"(?<![{_L}._%+-])[{_L}][{_L}._%+'-]{{0,63}}@(?:[{_L}](?:[{_L}-]{{0,61}}[{_L}])?\.)+"
    rf"(?:xn--[a-z0-9-]+|[A-Za-zÀ-ɏͰ-ӿ]{{2,24}})|"
    rf"(?<![{_L}._%+-])[{_L}][{_L}._%+-]{{0,63}}＠(?:[{_L}-]+[.．])+[A-Za-z]{{2,24}}",
    re.IGNORECASE,
)
# Written so that no program finds it: name (at) place (dot) com.
_AT = re.compile(r"[\[({<]at[\])}>]|\bat \S+ dot ", re.IGNORECASE)
_HIDDEN_EMAIL = re.compile(
    rf"(?<![{_L}._%+-])[{_L}][{_L}._%+-]{{1,63}} ?(?:\[at\]|\(at\)|\{{at\}}|<at>) ?[{_L}-]+"
    rf"(?:(?:\.| ?(?:\[dot\]|\(dot\)|\{{dot\}}|<dot>) ?)[{_L}-]+){{1,3}}|"
    rf"(?<![{_L}._%+-])[{_L}][{_L}._%+-]{{1,63}} at (?-i:[a-z0-9-]{{2,63}}) dot "
    r"(?:com|net|org|edu|gov|io|co|de|fr|uk|cn)\b",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[Span]:
    if "@" in text or "＠" in text:
        for match in _EMAIL.finditer(text):
            yield match.span()
    if _AT.search(text):
        for match in _HIDDEN_EMAIL.finditer(text):
            yield match.span()


_IPV4 = re.compile(
    r"(?<![\d.])(?<![vV])(?<!ersion )(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\d|\.\d|/\d)"
)
_IPV6 = re.compile(r"(?<![:.\w])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![:\w])")
# Of no person: this machine, no machine, the masks of networks (and, with a slash behind them, networks).
_NOBODYS = re.compile(r"127\.|0\.0\.0\.0|255\.|1\.2\.3\.4$")


def ips(text: str) -> Iterator[Span]:
    if "." in text:
        for match in _IPV4.finditer(text):
            if not _NOBODYS.match(match.group()):
                yield match.span()
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            found = match.group()
            if sum(map(str.isalnum, found)) >= 5 and any(map(str.isdigit, found)) and _is_ipv6(found):
                yield match.span()


def _is_ipv6(text: str) -> bool:
    try:
        return not ipaddress.IPv6Address(text).is_loopback
    except ValueError:
        return False


_CARD = re.compile(r"(?<![\d\w.+/-])\d(?:[ -]?\d){11,18}(?![\d\w]|[.,/-]\d)")
# Length and first figures by which the card schemes issue (ISO/IEC 7812; the schemes' published ranges).
_ISSUED = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|2720\d{12}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,13}|"
    r"6(?:011|5\d\d|4[4-9]\d)\d{12,15}|62\d{14,17}|35(?:2[89]|[3-8]\d)\d{12,15}|(?:5[06-8]|6[37])\d{10,17}|220[0-4]\d{12,15}"
)


def cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        figures = re.sub(r"\D", "", match.group())
        if _ISSUED.fullmatch(figures) and len(set(figures)) > 1 and _valid("luhn", figures):
            yield match.span()


_IBAN = re.compile(rf"{_NOT_AFTER}[A-Z]{{2}}\d{{2}}(?:[ -]?[A-Z0-9]){{11,30}}", re.IGNORECASE)


def ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        found = match.group()
        # The words behind it look like more of it: the longest beginning that is one is taken.
        for end in range(len(found), 14, -1):
            part = found[:end]
            whole_word = part[-1].isalnum() and not found[end : end + 1].isalnum()
            if whole_word and _valid("iban", part, check_country=False):
                yield match.start(), match.start() + end
                break


_BASE58 = "1-9A-HJ-NP-Za-km-z"
_WALLET = re.compile(
    rf"{_NOT_AFTER}(?:0x[0-9a-fA-F]{{40}}|(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{{11,71}}|(?:BC1|LTC1)[02-9AC-HJ-NP-Z]{{11,71}}|"
    rf"addr1[0-9a-z]{{40,110}}|cosmos1[0-9a-z]{{38}}|[48][0-9AB][{_BASE58}]{{93}}|[13LMDTX][{_BASE58}]{{25,34}}|r[{_BASE58}]{{24,34}}|"
    rf"bitcoincash:[qp][0-9a-z]{{41}})(?![{_L}])"
)
_WALLET_SAID = re.compile(
    rf"(?:\b(?:solana|phantom|wallet|sol address)\b|钱包)[^\n]{{0,30}}?(?<![{_L}])([{_BASE58}]{{32,44}})(?![{_L}])",
    re.I,
)


def wallets(text: str) -> Iterator[Span]:
    for match in _WALLET.finditer(text):
        found = match.group()
        # Mixed letters and figures, as a random number in base 58 is, and as no word or product is.
        if (
            found[:2] == "0x"
            or found[:3].lower() in ("bc1", "tb1", "ltc")
            or (
                any(map(str.isdigit, found[1:]))
                and any(map(str.islower, found))
                and (any(map(str.isupper, found)) or len(found) > 40)
            )
        ):
            yield match.span()
    for match in _WALLET_SAID.finditer(text):
        if any(map(str.isdigit, match.group(1))) and any(map(str.isupper, match.group(1))):
            yield match.span(1)


_Form = tuple[re.Pattern[str], str | None]


def _forms(*forms: tuple[str, str | None]) -> tuple[_Form, ...]:
    """(form, python-stdnum's module for its check). The form is strict where the check is weak."""
    return tuple((re.compile(rf"(?<![{_L}_.+/-])(?:{form})(?![{_L}_]|[-.]\d)"), check) for form, check in forms)


# Of fewer than seven figures, and of more.
_SHORT_IDS = _forms(
    (r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", None),  # Britain, national insurance
    (r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", None),  # India, PAN
)
_IDS = _SHORT_IDS + _forms(
    (r"(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}", None),  # United States, SSN
    (r"9\d\d-(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])-\d{4}", None),  # United States, ITIN
    (
        r"[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]",
        None,
    ),  # China, identity card
    (r"\d{8}-?[A-HJ-NP-TV-Z]", "es.dni"),
    (r"[XYZ]-?\d{7}-?[A-Z]", "es.nie"),
    (r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]", None),  # Italy, codice fiscale
    (r"[12378] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}", "fr.nir"),
    (r"\d{3}\.\d{3}\.\d{3}-\d{2}", "br.cpf"),
    (r"[2-9]\d{3}([ -])\d{4}\1\d{4}", "in_.aadhaar"),
    (r"\d{6}-[1-8]\d{6}", None),  # Korea, resident registration
    (r"\d{6}[-+]\d{4}", "se.personnummer"),
    (r"(?:19|20)\d{6}[-+]?\d{4}", "se.personnummer"),
    (r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}[-+ABCDEFYXWVU]\d{3}[0-9A-FHJ-NPR-Y]", "fi.hetu"),
    (r"[A-Z][AEIOUX][A-Z]{2}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", None),  # Mexico, CURP
    (r"\d{1,2}\.\d{3}\.\d{3}-[\dkK]", "cl.rut"),
    (r"[A-Z][12]\d{8}", "tw_id"),
    (r"[STFGM]\d{7}[A-Z]", None),  # Singapore, NRIC
    (r"[A-Z]{1,2}\d{6}\([0-9A]\)", None),  # Hong Kong, identity card
    (r"\d{3}-\d{3}-\d{3}[ -]\d{2}", "ru.snils"),
    (r"756\.\d{4}\.\d{4}\.\d{2}", "ch.ssn"),
    (r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", "be.nn"),
    (r"\d{6}/\d{4}", "cz.rc"),
    (r"\d{3}-\d{3}-\d{3}", "ca.sin"),
)
_FIGURE = re.compile(r"\d")
_ID_SAID = re.compile(
    r"(?:\b(?:ssn|social (?:security|insurance)|national (?:id|identity|identification|insurance)|"
    r"(?:id|identity) (?:card|number|no\b)|"
    r"identification (?:number|no\b)|personal (?:id|number|code)|"
    r"tax(?:payer)? (?:id|identification|number|no\b|file number)|"
    r"passport|(?:driver'?s?|driving) licen[cs]e|aadhaar|nhs (?:number|no\b)|"
    r"pesel|bsn|cpf|cnp|dni|nie|nif|nino|curp|rut|sin number|"
    r"personnummer|fødselsnummer|steuer-?id\w*|steuernummer|sozialversicherungsnummer|personalausweis\w*|reisepass\w*|"
    r"sécurité sociale|passeport|pasaporte|codice fiscale|rijbewijs|itin|medicare (?:number|no\b))\b"
    r"|身份证|护照|社保|证件号|驾驶证|マイナンバー|パスポート|주민등록|여권|паспорт|СНИЛС|ИНН)"
    rf"[^\d\n]{{0,30}}?(?<![{_L}])((?=[A-Z \-.]{{0,6}}\d)[A-Z]{{0,3}}[ -]?\d[0-9A-Z]*"
    rf"(?:[ .\-/][0-9A-Z]*\d[0-9A-Z]*){{0,6}})(?![{_L}])",
    re.IGNORECASE,
)


def national_ids(text: str) -> Iterator[Span]:
    figures = len(_FIGURE.findall(text))
    for form, check in _IDS if figures >= 7 else _SHORT_IDS:
        for match in form.finditer(text):
            found = match.group()
            if check == "tw_id" and not _taiwan(found):
                continue
            if check in (None, "tw_id") or _valid(str(check), found):
                yield match.span()
    for match in _ID_SAID.finditer(text) if figures >= 6 else ():
        figures = sum(map(str.isdigit, match.group(1)))
        if 6 <= figures <= 18 and not _DATE.fullmatch(match.group(1)):
            yield match.span(1)


def _taiwan(number: str) -> bool:
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(number[0]) + 10
    weighted = first // 10 + first % 10 * 9 + sum(int(d) * w for d, w in zip(number[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1)))
    return weighted % 10 == 0


_DATE = re.compile(
    r"(?:19|20)\d{2}[-./ ]\d{1,2}[-./ ]\d{1,2}(?:[ T]?\d{1,2})?|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d{2}(?: \d{1,2})?|"
    r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|(?:19|20)\d{2} ?[-–/] ?(?:19|20)\d{2}"
)
_EXTENSION = r"(?: ?(?:x|ext\.?|extension|доб\.?|转) ?\d{1,6})?"
_PHONE = re.compile(
    rf"(?<![{_L}_.,/=#$€£¥+-])(?<![\d] )(?:"
    # With the country's prefix.
    rf"\+[1-9]\d{{0,2}}[ .\-/]?(?:\(0?\d{{1,4}}\)[ .\-/]?)?\d{{1,5}}(?:[ .\-/]?\d{{2,5}}){{1,5}}{_EXTENSION}|"
    rf"00[1-9]\d{{0,2}}[ .\-/](?:\(0?\d{{1,4}}\)[ .\-/]?)?\d{{1,5}}(?:[ .\-/]?\d{{2,5}}){{1,5}}{_EXTENSION}|"
    # North America.
    rf"(?:1[ .\-])?(?:\([2-9]\d{{2}}\) ?|[2-9]\d{{2}}(?P<sep>[-. ]))\d{{3}}[-. ]\d{{4}}{_EXTENSION}|"
    # An area code in brackets.
    rf"\(0?\d{{1,5}}\) ?\d{{2,5}}(?:[ -]?\d{{2,5}}){{1,3}}|"
    # A trunk zero, and its number in groups.
    rf"0\d{{1,4}}(?:[ \-/.]\d{{2,8}}){{1,4}}|"
    # Mobile numbers: China; India; the United Kingdom and Germany in one run.
    rf"(?:86[- ]?)?1[3-9]\d[- ]?\d{{4}}[- ]?\d{{4}}|[6-9]\d{{4}}[ -]\d{{5}}|07[1-57-9]\d{{8}}|01[5-7]\d{{8,9}}"
    rf")(?![{_L}_]|[-.,/:]\d| \d| ?[=*])"
)
_PHONE_SAID = re.compile(
    r"(?:\b(?:tele?phone|phones?|tel|call(?:ed|ing)?|cell(?:phone)?|mobile|text|sms|fax|whats ?app|"
    r"signal|telegram|dial|ring|reach|contact|"
    r"hotline|my number|his number|her number|their number|handy|telefon\w*|mobil\w*|rufnummer|"
    r"téléphone|portable|appel\w*|"
    r"teléfono|móvil|celular|llám\w*|telefone|telemóvel|cellulare|telefono|numéro|тел|телефон|звоните)\b|"
    r"电话|手机|号码|联系方式|致电|拨打|電話|携帯|전화|휴대폰|連絡)"
    rf"[^\d\n+(]{{0,30}}?(?<![{_L}$€£¥])(\+?\(?\d(?:[ .\-/()]{{0,2}}\d){{6,14}}{_EXTENSION})(?![{_L}]|[-.,/]\d)",
    re.IGNORECASE,
)
_NO_PHONE = re.compile(
    r"(?:order|invoice|ticket|tracking|confirmation|reference|account|isbn|serial|model|part|case|订单|快递|单号)\b[^.\n]{0,20}$",
    re.I,
)


def phones(text: str) -> Iterator[Span]:
    for match in _PHONE.finditer(text):
        found = match.group()
        figures = sum(map(str.isdigit, re.split(r"x|ext|доб|转", found)[0]))
        least = 8 if found[0] == "+" or found[:2] == "00" else 9
        if (
            least <= figures <= 15
            and not _DATE.fullmatch(found)
            and not _NO_PHONE.search(text[max(0, match.start() - 40) : match.start()])
        ):
            yield match.span()
    for match in _PHONE_SAID.finditer(text):
        found = match.group(1)
        if (
            not _DATE.match(found)
            and len(set(re.sub(r"\D", "", found))) > 1
            and not _NO_PHONE.search(text[: match.start(1)][-40:])
        ):
            yield match.span(1)


@cache
def _module(name: str) -> Any:
    return importlib.import_module(f"stdnum.{name}")


def _valid(check: str, number: str, **options: Any) -> bool:
    return bool(_module(check).is_valid(number, **options))


@dataclass(frozen=True)
class Recogniser:
    spans: Callable[[str], Iterator[Span]]
    figures: int
    """What has fewer figures than this holds none."""


RECOGNISERS: dict[str, Recogniser] = {
    "email": Recogniser(emails, 0),
    "wallet": Recogniser(wallets, 1),
    "iban": Recogniser(ibans, 6),
    "ip": Recogniser(ips, 2),
    "card": Recogniser(cards, 12),
    "id": Recogniser(national_ids, 4),
    "phone": Recogniser(phones, 7),
}
"""By kind, in the order in which they look: what one has found no other sees."""
