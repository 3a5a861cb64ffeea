"""What check_planted.py plants: altered copies of conversations, made-up personal data in the forms that people write
it in; and figures that are nobody's, to be left alone."""

from __future__ import annotations

import dataclasses
import random
import string
from collections.abc import Callable, Iterator

from jaxchat.chat.conversation import Conversation, Message

SENTENCES = (
    "Sure, you can reach me at {} if anything changes.",
    "my details are {} thanks!",
    "I have written down {}. Is that right?",
    "{} is what I gave them last week, and they never answered",
    "Please use {}, not the old one.",
    "（{}）请记一下，谢谢。",
    "Hola, es este: {} y gracias",
    'She said "{}" twice.',
)


def digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(n))


def luhn(body: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def iban(country: str, body: str) -> str:
    letters = "".join(str(int(c, 36)) for c in body + country + "00")
    return f"{country}{98 - int(letters) % 97:02d}{body}"


def grouped(text: str, size: int = 4, by: str = " ") -> str:
    return by.join(text[i : i + size] for i in range(0, len(text), size))


def china(rng: random.Random) -> str:
    body = f"{rng.choice(['110105', '310112', '440305'])}{rng.randint(1950, 2009)}{rng.randint(1, 12):02d}"
    body += f"{rng.randint(1, 28):02d}{digits(rng, 3)}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights)) % 11]


def personal(kind: str, rng: random.Random) -> str:
    """One piece of personal data, made up, in one of the forms that people write it in."""
    name = rng.choice(["ann.lee", "j_doe99", "maria-p", "x.y.z", "li.wei", "tom+news", "Olaf.Müller"])
    base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    forms: dict[str, Callable[[], str]] = {
        "email": lambda: rng.choice(
            [
                f"{name}@{rng.choice(['example.com', 'mail.example.co.uk', 'uni-bonn.de', 'qq.com', 'a-b.io'])}",
                f"{name.upper()}@EXAMPLE.ORG",
                "ann (at) example (dot) com",
                "bob[at]example[dot]net",
            ]
        ),
        "phone": lambda: rng.choice(
            [
                f"({rng.randint(201, 989)}) {rng.randint(200, 999)}-{digits(rng, 4)}",
                f"{rng.randint(201, 989)}-{rng.randint(200, 999)}-{digits(rng, 4)}",
                f"{rng.randint(201, 989)}.{rng.randint(200, 999)}.{digits(rng, 4)}",
                f"+1 {rng.randint(201, 989)} {rng.randint(200, 999)} {digits(rng, 4)}",
                f"+1{rng.randint(201, 989)}{digits(rng, 7)}",
                f"1-800-{rng.randint(200, 999)}-{digits(rng, 4)} ext. 12",
                f"+44 20 {digits(rng, 4)} {digits(rng, 4)}",
                f"020 7{digits(rng, 3)} {digits(rng, 4)}",
                f"07{rng.choice('123457')}{digits(rng, 8)}",
                f"+49 (0)30 {digits(rng, 3)}{digits(rng, 5)}",
                f"0171/{digits(rng, 7)}",
                f"+33 6 {grouped(digits(rng, 8), 2)}",
                f"01 {grouped(digits(rng, 8), 2)}",
                f"1{rng.choice('35789')}{digits(rng, 9)}",
                f"+86 138 {digits(rng, 4)} {digits(rng, 4)}",
                f"010-{digits(rng, 4)}-{digits(rng, 4)}",
                f"+91 9{digits(rng, 4)} {digits(rng, 5)}",
                f"(11) 9{digits(rng, 4)}-{digits(rng, 4)}",
            ]
        ),
        "card": lambda: grouped(
            rng.choice(
                [luhn("4" + digits(rng, 14)), luhn("53" + digits(rng, 13)), luhn("6011" + digits(rng, 11))]
            ),
            by=rng.choice(["", " ", "-"]),
        )
        if rng.random() < 0.8
        else luhn("37" + digits(rng, 12)),
        "iban": lambda: rng.choice((grouped, lambda text: text))(
            rng.choice(
                [
                    iban("DE", digits(rng, 18)),
                    iban("GB", "NWBK" + digits(rng, 14)),
                    iban("FR", digits(rng, 23)),
                    iban("NL", "ABNA" + digits(rng, 10)),
                    iban("ES", digits(rng, 20)),
                ]
            )
        ),
        "ip": lambda: rng.choice(
            [
                ".".join(str(rng.randint(11, 223)) for _ in range(4)),
                f"192.168.{rng.randint(0, 255)}.{rng.randint(2, 254)}",
                f"2001:db8:85a3:{rng.randint(16, 9999):x}::8a2e:370:{rng.randint(16, 9999):x}",
                f"fe80::1ff:fe23:{rng.randint(4096, 65535):x}:890a",
            ]
        ),
        "wallet": lambda: rng.choice(
            [
                "0x" + "".join(rng.choice("0123456789abcdefABCDEF") for _ in range(40)),
                rng.choice("13") + "7aZ" + "".join(rng.choice(base58) for _ in range(30)),
                "bc1q" + "".join(rng.choice("023456789acdefghjklmnpqrstuvwxyz") for _ in range(38)),
                "T4nB" + "".join(rng.choice(base58) for _ in range(30)),
            ]
        ),
        "id": lambda: rng.choice(
            [
                f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
                china(rng),
                f"AB {digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)} C",
                f"RSSMRA{rng.randint(10, 99)}A{rng.randint(10, 31)}H501Z",
                (lambda n: f"{n:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}")(rng.randint(10**7, 10**8 - 1)),
                f"{rng.randint(60, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}-1{digits(rng, 6)}",
                f"ABCPE{digits(rng, 4)}F",
            ]
        ),
    }  # fmt: skip
    return forms[kind]()


# Figures of every kind that are no personal data.
CLEAN = (
    "The meeting is on 2024-03-15 at 10:30, room 4.12, and ends 11:45.",
    "It costs $1,234.56, or 1.234,56 EUR, down from 2 500 000 in 2019-2020.",
    "Version 1.2.3 came after 10.0.19041 and before v2.0.0.1.",
    "ISBN 978-3-16-148410-0, pages 100-250, vol. 12 (2003), 3rd ed.",
    "Our order number is 4839201746, please check tracking 9400110200881234567890.",
    "We need 3 x 4 = 12 and 123456789 / 3 = 41152263.",
    "The train leaves at 09:15:30 from platform 9 and arrives 12:45.",
    "Lat 51.507351, lon -0.127758; population 8,982,000 (2019).",
    "It is 1:2:3 in the ratio, std::vector<int> a; b::c(); 16:9 screens.",
    "pip install package@1.2.3 and @dataclass is a decorator; ask @someone.",
    "Call 911 in an emergency, press 0 or dial 112.",
    "Scores: 21-19, 18-21, 15-13. Dates: 01.02.2003, 1/2/03, 12-31-1999.",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "uuid 123e4567-e89b-12d3-a456-426614174000 and commit 3f2a9bc",
    "3.14159265358979 and 271828182845904 are approximations",
    "他出生于1990年3月15日，房价是3500000元，共有12345678人。",
    "The years 1914-1918 and 1939-1945; 0.05 < p < 0.10; 100 000 000 people.",
    "Resolution 1920x1080, 300 dpi, 4096 tokens, 1e-4 learning rate.",
    "127.0.0.1 is localhost, 255.255.255.0 is the mask and 0.0.0.0 is any.",
    "Zip 94103-1234, flight LH1234 seat 23A, gate B12, bus 42.",
    "I am looking at the 10 day forecast: 21, 22, 19, 18, 17, 20, 23, 25.",
    "def f(x): return x[0] + x[1] # 2024-01-01T00:00:00Z 1700000000",
    "Room 101 at night, 2 adults at 150 dollars, check in 13 March.",
    "01 02 03 are the first; 10 20 30 40 50 60 come next.",
    "Account balance is 19,051.65 and transfer 1530 to Yum.",
    "03/21/2023 12:42:18 PM Queued, 21.03.2023 12:43 done.",
    "So that leaves 60000-10800 = 49200 of them.",
    "It is only at Target dot com for members, in 108.53.0.0/16 as well.",
)


def nobodys(count: int, rng: random.Random) -> Iterator[Conversation]:
    """Conversations of such texts, with other figures in them where any will do."""
    varied = [text for text in CLEAN[6:] if not any(word in text for word in ("localhost", "03/21", "108.53"))]
    for number in range(count):
        texts = [rng.choice(varied) for _ in range(4)]
        texts = ["".join(rng.choice("123456789") if c in "23456789" else c for c in text) for text in texts]
        yield Conversation(f"clean {number}", tuple(Message("user", text) for text in texts))


def altered(conversation: Conversation, rate: float, rng: random.Random, by: str) -> Conversation:
    """A copy with about `rate` of its words, or characters, deleted, replaced or inserted."""

    def edit(text: str) -> str:
        pieces = text.split(" ") if by == "word" else list(text)
        out: list[str] = []
        for piece in pieces:
            if rng.random() >= rate:
                out.append(piece)
                continue
            new = rng.choice(pieces) if by == "word" else rng.choice("abcdefghijklmnopqrstuvwxyz ")
            out += rng.choice([[], [new], [piece, new]])
        return (" " if by == "word" else "").join(out) or text

    messages = tuple(dataclasses.replace(m, content=edit(m.content or "")) for m in conversation.messages)
    return dataclasses.replace(conversation, id=f"copy of {conversation.id}", messages=messages)
