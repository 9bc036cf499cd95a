"""Forged tokens by family and position: what is wrong, in which part, and how. Almost all are signed by the right key, so that nothing but the check
that each is made for can refuse it.

`forgeries(signer)` makes every one; `forgeries(signer, count)` makes so many of them, of every family.
"""

import base64
import hmac
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count as counting
from typing import Any

from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry

PARTS = ("header", "claims", "signature")
NOT_UTF8 = (
    *("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"),
    *("utf-32", "utf-32-le", "utf-32-be", "utf-7"),
)
OTHERS = ECKey.generate_key("P-256", {"kid": "others"})
_numbers = counting()


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@dataclass
class Signer:
    """Who may sign what is taken at one place: its key, and the header and claims of a good token."""

    place: str
    key: Any
    header: dict[str, Any]
    good: Callable[[], dict[str, Any]]
    texts: tuple[str, ...]
    """Claims that are texts and are needed."""
    times: tuple[str, ...] = ("exp", "iat", "nbf")
    needed: tuple[str, ...] = ()
    """Claims that may not be left out."""
    kept: dict[str, Any] = field(default_factory=dict)

    def sign(self, header: str | None = None, claims: str | None = None, key: Any = None) -> str:
        """A token of these two parts, in base64url already where they are given."""
        key = key or self.key
        header = b64(json.dumps(self.header).encode()) if header is None else header
        claims = b64(json.dumps(self.good()).encode()) if claims is None else claims
        signature = JWSRegistry.algorithms[self.header["alg"]].sign(f"{header}.{claims}".encode(), key)
        return f"{header}.{claims}.{b64(signature)}"

    def part(self, name: str, text: bytes) -> str:
        """A token with this text as one of its parts."""
        return self.sign(header=b64(text)) if name == "header" else self.sign(claims=b64(text))

    def headed(self, **changed: Any) -> str:
        return self.part("header", json.dumps(self.header | changed).encode())

    def claiming(self, **changed: Any) -> str:
        return self.part("claims", json.dumps(self.good() | changed).encode())

    def members(self, name: str) -> dict[str, Any]:
        return self.header if name == "header" else self.good()


Forgery = tuple[str, str]
"""What it is, and the token."""


def forgeries(signer: Signer, count: int = 0, seed: int = 11) -> list[Forgery]:
    """All of them, or so many, drawn evenly from the families."""
    families = [list(family(signer)) for family in FAMILIES]
    every = [forgery for family in families for forgery in family]
    assert len({name for name, _ in every}) == len(every)
    if not count:
        return every
    draw = random.Random(seed)
    for family in families:
        draw.shuffle(family)
    taken: list[Forgery] = []
    while len(taken) < count and any(families):
        taken += [family.pop() for family in families if family]
    return taken[:count]


def header_members(signer: Signer) -> Iterator[Forgery]:
    """What a header may not have."""
    public = OTHERS.as_dict(private=False)
    own = signer.key.as_dict(private=False)
    crits: tuple[Any, ...] = ([], ["b64"], ["exp"], ["alg"], ["kid", "kid"], ["http://example/x"], [""], [1], [[]], [None])
    for crit in (*crits, "b64", "", None, True, 0, {}, {"b64": True}):
        yield f"crit {crit!r}", signer.headed(crit=crit)
    yield "crit of what is there", signer.headed(crit=["exp"], exp=1)
    for b64_ in (False, True, None, 0, "false"):
        yield f"b64 {b64_!r}", signer.headed(b64=b64_)
        yield f"b64 {b64_!r} and crit", signer.headed(b64=b64_, crit=["b64"])
    plain = json.dumps(signer.good()).replace(".", "")
    yield (
        "b64 false, payload as it is",
        signer.sign(b64(json.dumps(signer.header | {"b64": False, "crit": ["b64"]}).encode()), plain),
    )
    urls = {"jku": "https://example.org/jwks", "x5u": "https://example.org/x5u"}
    brought = {"jwk": own, "x5c": ["MIIB"], "cty": "JWT", "zip": "DEF", "enc": "A256GCM", "epk": own, "p2c": 10**9, "nonsense": 1}
    for name, value in (urls | brought).items():
        yield f"{name} in the header", signer.headed(**{name: value})
        yield f"{name} null in the header", signer.headed(**{name: None})
    for name, value in (urls | {"jwk": public}).items():
        header = {**signer.header, "kid": "others", name: value}
        yield f"{name} of another key", signer.sign(b64(json.dumps(header).encode()), key=OTHERS if name else None)


def header_values(signer: Signer) -> Iterator[Forgery]:
    """What the members of a header may not be."""
    algs = (
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "es256",
        "ES256 ",
        "HS256",
        "HS512",
        "ES384",
        "ES512",
        "ES256K",
        "Ed448",
        "dir",
        "RSA1_5",
    )
    for value in (*algs, None, True, 5, [], ["ES256"], {}, {"ES256": 1}):
        yield f"alg {value!r}", signer.headed(alg=value)
    for value in (
        "",
        "unknown",
        signer.key.kid + " ",
        signer.key.kid.swapcase(),
        None,
        True,
        5,
        [],
        [signer.key.kid],
        {},
        "k" * 400,
        "../../etc",
    ):
        yield f"kid {value!r}", signer.headed(kid=value)
    for value in ("", "at+jwt ", "JWT+at", "text/plain", "dpop+jwt", "JWE", "ａt+jwt", None, True, 5, [], ["at+jwt"], {}):
        yield f"typ {value!r}", signer.headed(typ=value)
    for name in ("alg", "kid"):
        yield f"no {name}", signer.part("header", json.dumps({n: v for n, v in signer.header.items() if n != name}).encode())


def texts(signer: Signer) -> Iterator[Forgery]:
    """Header and claims that are not one JSON object in UTF-8, each member once."""
    for name in PARTS[:2]:
        text = json.dumps(signer.members(name))
        for coding in NOT_UTF8:
            changed = text.replace('"', "+ACI-").encode() if coding == "utf-7" else text.encode(coding)
            yield f"{name} in {coding}", signer.part(name, changed)
        for what, changed in {
            "in Latin-1": text.replace("{", '{"é": 1, ', 1).encode("latin-1"),
            "an overlong encoding": text.encode().replace(b"{", b'{"x": "\xc0\xaf", ', 1),
            "a surrogate in UTF-8": text.encode().replace(b"{", b'{"x": "\xed\xa0\x80", ', 1),
            "two marks": b"\xef\xbb\xbf\xef\xbb\xbf" + text.encode(),
            "NUL after": text.encode() + b"\0",
            "a control character": text.encode().replace(b"{", b'{"x": "\n", ', 1),
            "two objects": text.encode() * 2,
            "in an array": f"[{text}]".encode(),
            "in a text": json.dumps(text).encode(),
            "a comma too many": (text[:-1] + ",}").encode(),
            "a comment": text.replace("{", "{/**/", 1).encode(),
            "single quotes": text.replace('"', "'").encode(),
            "cut": text[:-1].encode(),
            "preceded": b"x" + text.encode(),
            "a number with a leading zero": text.replace("{", '{"x": 01, ', 1).encode(),
            "Infinity somewhere": text.replace("{", '{"x": [-Infinity], ', 1).encode(),
            "NaN somewhere": text.replace("{", '{"x": {"y": NaN}, ', 1).encode(),
            "a number of 5,000 digits": text.replace("{", f'{{"x": {"9" * 5000}, ', 1).encode(),
            "deep": text.replace("{", '{"x": ' + "[" * 2500 + "]" * 2500 + ", ", 1).encode(),
            "empty": b"",
            "blank": b"  ",
            **{f"{value}": value.encode() for value in ("null", "true", "0", '""', "[]", "{}", "NaN")},
        }.items():
            yield f"{name}: {what}", signer.part(name, changed)
        for member, value in signer.members(name).items():
            again, escaped = json.dumps(member), json.dumps("".join(f"\\u{ord(c):04x}" for c in member)).replace("\\\\", "\\")
            for what, key in (("", again), (", escaped", escaped)):
                yield f"{name}: {member} twice{what}", signer.part(name, (text[:-1] + f", {key}: {json.dumps(value)}}}").encode())
                yield (
                    f"{name}: {member} null, and again{what}",
                    signer.part(name, text.replace("{", f"{{{key}: null, ", 1).encode()),
                )
        yield f"{name}: a nested member twice", signer.part(name, text.replace("{", '{"x": {"y": 1, "y": 1}, ', 1).encode())


def claims(signer: Signer) -> Iterator[Forgery]:
    """Claims of another type than theirs, or that say something else."""
    odd: tuple[Any, ...] = (None, True, False, [], {}, float("nan"), float("inf"), -float("inf"))
    for name in signer.times:
        good = int(time.time()) + (60 if name == "exp" else -1)
        for value in (*odd, str(good), "", "soon", [good], {"value": good}):
            yield f"{name} {value!r}", signer.claiming(**{name: value})
        for value in (10**12, 10**400, 1e308, 2**63, 2**64):
            yield f"{name} {str(value)[:30]}", signer.claiming(**{name: value})
    for value in (1, -1, 0, -(10**400), -1e308, int(time.time()) - 3600):
        yield f"exp {str(value)[:30]}", signer.claiming(exp=value)
    for name in signer.texts:
        good = signer.good()[name]
        lists = () if name == "aud" else ([good],)
        for value in (*odd, 0, 5, 1.5, 10**400, "", *lists, [good, good], [[good]], {"value": good}):
            yield f"{name} {str(value)[:60]!r}", signer.claiming(**{name: value})
        for what, value in (
            ("with a blank", good + " "),
            ("with NUL", good + "\0"),
            ("half a surrogate", good + "\ud800"),
            ("a line", good + "\n"),
        ):
            yield f"{name} {what}", signer.claiming(**{name: value})
        if name != "scope":
            yield f"{name} in capitals", signer.claiming(**{name: good.upper()})
            yield f"{name} of another", signer.claiming(**{name: "https://elsewhere.example"})
    for value in (
        [signer.good()["aud"], "https://elsewhere.example"],
        ["https://elsewhere.example", signer.good()["aud"]],
        [signer.good()["aud"], 5],
    ):
        yield f"aud {value}", signer.claiming(aud=value)
    for value in (None, True, 5, [], ["x"], {}, float("nan")):
        yield f"jti {value!r}", signer.claiming(jti=value)
    for name in signer.needed:
        yield f"no {name}", signer.part("claims", json.dumps({n: v for n, v in signer.good().items() if n != name}).encode())
    yield "sub of another client", signer.claiming(sub="01890000-0000-7014-8000-000000000000")
    yield "all claims null", signer.claiming(**dict.fromkeys(signer.good()))


def encodings(signer: Signer) -> Iterator[Forgery]:
    """Parts that are not base64url as it is written (RFC 7515 section 2), the signature being of what is written."""
    ways: dict[str, Callable[[str], str]] = {
        "padded": lambda part: part + "=" * (-len(part) % 4 or 4),
        "one = after": lambda part: part + "=",
        "a blank after": lambda part: part + " ",
        "a blank before": lambda part: " " + part,
        "a blank within": lambda part: part[:4] + " " + part[4:],
        "a line within": lambda part: part[:4] + "\n" + part[4:],
        "a tab within": lambda part: part[:4] + "\t" + part[4:],
        "= within": lambda part: part[:4] + "====" + part[4:],
        "! within": lambda part: part[:4] + "!!!!" + part[4:],
        "! after": lambda part: part + "!!!!",
        "a character more": lambda part: part + "A" * (1 + (3 - len(part)) % 4),
        "NUL after": lambda part: part + "\0",
        "é after": lambda part: part + "é",
        "percent-encoded": lambda part: "%" + f"{ord(part[0]):02X}" + part[1:],
        "wide": lambda part: chr(ord(part[0]) + 0xFEE0) + part[1:],
        "empty": lambda part: "",
        "standard base64": lambda part: base64.b64encode(base64.urlsafe_b64decode(part + "==") + b"\xfb\xff\xfe").decode(),
    }
    for what, way in ways.items():
        header, claims, signature = signer.sign().split(".")
        yield f"header {what}", _unchecked(signer, way(header), claims)
        yield f"claims {what}", _unchecked(signer, header, way(claims))
        yield f"signature {what}", f"{header}.{claims}.{way(signature)}"
    yield from (trailing_bits(signer, part) for part in PARTS)


def trailing_bits(signer: Signer, name: str) -> Forgery:
    """A part whose last character has bits that decode to nothing."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spaced = [json.dumps(signer.members(part)).encode() for part in PARTS[:2]]
    header, claims = (
        b64(text + b" " * (-(len(text) + 1) % 3)) for text in spaced
    )  # JSON may end in blanks: 3n + 2 bytes, 2 bits over
    signature = signer.sign(header, claims).split(".")[2]
    parts = dict(zip(PARTS, (header, claims, signature), strict=True))
    last = parts[name][-1]
    parts[name] = parts[name][:-1] + letters[letters.index(last) + 1]
    if name == "signature":
        return "signature: trailing bits", ".".join(parts.values())
    return f"{name}: trailing bits", signer.sign(parts["header"], parts["claims"])


def _unchecked(signer: Signer, header: str, claims: str) -> str:
    signature = JWSRegistry.algorithms[signer.header["alg"]].sign(f"{header}.{claims}".encode(), signer.key)
    return f"{header}.{claims}.{b64(signature)}"


def shapes(signer: Signer) -> Iterator[Forgery]:
    """Other serialisations, and other numbers of parts."""
    token = signer.sign()
    header, claims, signature = token.split(".")
    yield "nothing", ""
    yield "one part", claims
    yield "two parts", f"{header}.{claims}"
    yield "four parts", f"{token}.{signature}"
    yield "five parts", f"{header}.{signature}.{signature}.{claims}.{signature}"
    jwe = b64(json.dumps({"alg": "dir", "enc": "A256GCM"}).encode())
    yield "JWE", f"{jwe}..{b64(bytes(12))}.{claims}.{b64(bytes(16))}"
    yield "detached", f"{header}..{signature}"
    yield "dots alone", ".."
    yield "many dots", "." * 4000
    yield "a dot before", "." + token
    yield "a dot after", token + "."
    flattened = {"protected": header, "payload": claims, "signature": signature}
    yield "flattened", json.dumps(flattened)
    yield "flattened, compact", json.dumps(flattened, separators=(",", ":"))
    yield "flattened, unprotected header", json.dumps({"header": signer.header, "payload": claims, "signature": signature})
    yield "general", json.dumps({"payload": claims, "signatures": [{"protected": header, "signature": signature}]})
    yield "quoted", f'"{token}"'
    yield "twice", f"{token},{token}"
    yield "twice, with a blank", f"{signer.sign()} {token}"
    yield "a word before", f"Bearer {token}"
    yield "encoded", b64(token.encode())
    yield "a token as claims", signer.part("claims", token.encode())
    yield "a token as claims, said so", signer.sign(b64(json.dumps(signer.header | {"cty": "JWT"}).encode()), b64(token.encode()))
    yield "parts exchanged", f"{claims}.{header}.{signature}"
    yield "long header", signer.headed(kid=signer.key.kid, x5t="x" * 600)
    yield "blanks in the header", signer.part("header", b" " * 600 + json.dumps(signer.header).encode())
    yield "long claims", signer.claiming(x="x" * 9000)
    yield "long signature", f"{header}.{claims}.{b64(bytes(1500))}"
    yield "long nonsense", "A" * 12_000


def signatures(signer: Signer) -> Iterator[Forgery]:
    """Signatures that another key made, or none."""
    header, claims, signature = signer.sign().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    whole = order.to_bytes(32, "big")
    for what, made in {
        "of zeros": bytes(64),
        "of the order": whole * 2,
        "of the order and 1": whole + (1).to_bytes(32, "big"),
        "of ones": b"\xff" * 64,
        "cut": raw[:-1],
        "longer": raw + b"\0",
        "with zeros before": b"\0" + raw[:32] + b"\0" + raw[32:],
        "of one byte": b"\0",
        "turned round": raw[32:] + raw[:32],
        "with a bit changed": raw[:-1] + bytes([raw[-1] ^ 1]),
        "in DER": b"\x30\x44\x02\x20" + raw[:32] + b"\x02\x20" + raw[32:],
    }.items():
        yield f"signature {what}", f"{header}.{claims}.{b64(made)}"
    yield "signature of another key", signer.sign(key=OTHERS)
    yield "signature of another token", ".".join([*signer.sign().split(".")[:2], signature])
    public = signer.key.as_dict(private=False)
    for alg, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512"), ("ES256", "sha256")):
        keyed = b64(json.dumps(signer.header | {"alg": alg}).encode())
        for what, secret in {
            "PEM": signer.key.as_pem(private=False),
            "DER": signer.key.as_der(private=False),
            "JWK": json.dumps(public).encode(),
            "x": base64.urlsafe_b64decode(public["x"] + "=="),
            "nothing": b"",
        }.items():
            yield (
                f"{alg} keyed with {what}",
                f"{keyed}.{claims}.{b64(hmac.new(secret, f'{keyed}.{claims}'.encode(), digest).digest())}",
            )
    for alg in ("none", "None", "NONE"):
        bare = b64(json.dumps(signer.header | {"alg": alg}).encode())
        yield f"alg {alg}, no signature", f"{bare}.{claims}."
        yield f"alg {alg}, a signature", f"{bare}.{claims}.{signature}"
    for alg in ("RS256", "PS256", "EdDSA", "Ed25519"):
        other = b64(json.dumps(signer.header | {"alg": alg}).encode())
        yield f"{alg} by a key for ES256", _unchecked(signer, other, claims)


FAMILIES = (header_members, header_values, texts, claims, encodings, shapes, signatures)
