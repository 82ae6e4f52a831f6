"""Random responses of hostile servers: any part of a good response may be missing, doubled or broken."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from random import Random

JSON = b"application/json"

STATUS_LINES = (
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1  200  OK",
    b"HTTP/1.1 200 \xff\x00",
    b"HTTP/2 200 OK",
    b"HTTP/0.9 200",
    b"HTTP/1.1200 OK",
    b"HTTP/1.1 2OO OK",
    b"HTTP/1.1 -200 OK",
    b"HTTP/1.1 99999 OK",
    b"HTTP/1.x 200 OK",
    b"http/1.1 200 OK",
    b"ICY 200 OK",
    b"",
    b"\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 200 " + b"x" * 70_000,
    b"\x15\x03\x03\x00\x02\x02\x46",
    b"SSH-2.0-x",
)
STATUSES = (
    *(101, 201, 204, 206, 300, 301, 302, 304, 307, 308),
    *(400, 401, 403, 404, 405, 407, 408, 409, 413, 421, 422, 425, 429, 431, 451, 499),
    *(500, 502, 503, 504, 520, 999),
)
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\nx: y\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\n\r\n",
    b"HTTP/1.1 199 Odd\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.0 100\n\n",
    b"HTTP/1.1 103 Early Hints\r\nno colon\r\n\r\n",
)
HEADERS = (
    b"location: \xff\xfe",
    b"location: http://[x/",
    b"set-cookie: \xff=\xfe; domain=[; expires=x",
    b"date: 99 Foo 9999999999",
    b"date: Wed, 25 Nov 2026 03:55:27 +99999999",
    b"retry-after: 99999999999999",
    b"retry-after: -1",
    b"age: 60",
    b"age: 0, " + b"9" * 5000,
    b"x-cache: HIT from \xff",
    b"cache-status: \xff; hit",
    b"connection: close",
    b"connection: keep-alive",
    b"connection: upgrade",
    b"keep-alive: timeout=5",
    b"no colon",
    b" folded",
    b": empty",
    b"x y: z",
    b"x: " + b"y" * 9000,
    b"x: " + b"y" * 70_000,
    b"content-encoding: br",
    b"content-encoding: x, gzip",
    b"content-length: 5",
    b"content-length: -1",
    b"content-length: 1, 2",
    b"content-length: " + b"9" * 30,
    b"content-length: 0x5",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: identity",
    b"transfer-encoding: \xff",
    b"content-type: multipart/mixed; boundary=x",
    b"content-type: \xff",
    b"content-type: text/html",
    b"allow: \xff",
    b"\r\n".join(b"x-%d: y" % number for number in range(110)),
)
BODIES = (
    b"",
    b"<html>Sign in</html>",
    b"null",
    b"[]",
    b"{",
    b'{"error": "Pipeline not found"}',
    b'{"data": {}}',
    b"\xff\xfe",
    b"[" * 100_000,
)


@dataclass(frozen=True)
class RandomResponse:
    """What a server sends, in pieces, and whether it then closes the connection."""

    pieces: tuple[bytes, ...]
    closes: bool


def random_response(rng: Random, body: bytes, other_response: bytes) -> RandomResponse:
    """Return a response with a body, usually broken in one or more ways.

    :param body: the right body for the request.
    :param other_response: the right body for another request, which may follow unasked.
    """

    def now_and_then(probability: float = 0.15) -> bool:
        return rng.random() < probability

    status = b"HTTP/1.1 200 OK"
    if now_and_then():
        status = rng.choice(STATUS_LINES)
    elif now_and_then():
        status = b"HTTP/1.1 %d X" % rng.choice(STATUSES)
    if now_and_then():
        body = rng.choice(BODIES)
    if now_and_then(0.1):
        body = body[: rng.randrange(len(body) + 1)]
    headers = [b"content-type: " + JSON]
    headers += [rng.choice(HEADERS) for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))]
    if now_and_then():
        headers, body = _encoded(rng, headers, body)
    headers, content = _framed(rng, headers, body)
    rng.shuffle(headers)
    end = b"\n" if now_and_then(0.05) else b"\r\n"
    head = end.join([status, *headers, b"", b""])
    if now_and_then(0.1):
        head = _mutated(rng, head)
    sent = b"".join(rng.choice(INTERIM) for _ in range(rng.choice((0, 0, 0, 1, 1, 3)))) + head + content
    if now_and_then():
        sent += rng.choice(
            (
                other_response,
                other_response[: rng.randrange(60)],
                b"\r\n",
                b"0\r\n\r\n",
                INTERIM[0],
                b"\0" * 3,
            )
        )
    if now_and_then():
        sent = sent[: rng.randrange(len(sent) + 1)]
    cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    pieces = tuple(sent[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True))
    return RandomResponse(pieces, closes=now_and_then(0.7))


def _encoded(rng: Random, headers: list[bytes], body: bytes) -> tuple[list[bytes], bytes]:
    name, encoded = rng.choice(
        (
            (b"gzip", gzip.compress(body)),
            (b"x-gzip", gzip.compress(body)),
            (b"deflate", zlib.compress(body)),
            (b"gzip, gzip", gzip.compress(gzip.compress(body))),
            (b"gzip", body),
            (b"deflate", body),
            (b"zstd", body),
            (b"gzip", gzip.compress(body)[:-9]),
            (b"gzip", gzip.compress(body) + b"x"),
            (b"gzip", gzip.compress(b"")),
            (b"gzip", b""),
        )
    )
    return [*headers, b"content-encoding: " + name], encoded


def _framed(rng: Random, headers: list[bytes], body: bytes) -> tuple[list[bytes], bytes]:
    right, chunked = b"content-length: %d" % len(body), b"transfer-encoding: chunked"
    match rng.randrange(12):
        case 0:
            return headers, body
        case 1:
            return [*headers, b"content-length: %d" % max(0, len(body) + rng.randint(-9, 9))], body
        case 2:
            return [*headers, right, right], body
        case 3:
            return [*headers, right, chunked], rng.choice((body, _chunks(rng, body)))
        case 4 | 5 | 6:
            return [*headers, chunked], _chunks(rng, body)
        case 7:
            return [*headers, chunked], _mutated(rng, _chunks(rng, body), keeps_text=True)
        case _:
            return [*headers, right], body


def _chunks(rng: Random, body: bytes) -> bytes:
    content, at = b"", 0
    while at < len(body):
        size = rng.randint(1, len(body))
        chunk = body[at : at + size]
        at += size
        extension = rng.choice((b"", b"", b"", b";x=y", b"; " + b"z" * 300))
        size = len(chunk) + (rng.randint(-3, 3) if rng.random() < 0.03 else 0)
        content += b"%x%b\r\n%b\r\n" % (max(0, size), extension, chunk)
    return content + b"0\r\n" + rng.choice((b"", b"", b"x: y\r\n", b"no colon\r\n")) + b"\r\n"


def _mutated(rng: Random, text: bytes, *, keeps_text: bool = False) -> bytes:
    """Return the text with one or two bytes removed, doubled or changed.

    :param keeps_text: change no letters or digits, which could produce a valid body.
    """
    changed = bytearray(text)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(changed))
        is_text = bytes(changed[at : at + 1]).isalnum()
        if is_text and keeps_text:
            continue
        if is_text or rng.random() < 0.3:
            del changed[at]
        elif rng.random() < 0.5:
            changed.insert(at, changed[at])
        else:
            changed[at] = rng.choice(b"\0\t\n\r :;\xff")
    return bytes(changed)
