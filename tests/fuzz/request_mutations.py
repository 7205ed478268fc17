"""Requests that are wrong around the study: HTTP, MIME and parameters."""

import gzip
from random import Random
from urllib.parse import quote

from tests.fuzz.mutation import of_request
from tests.fuzz.posts import BOUNDARY, FORM, RELATED, ZIP, Post, form_parts, join, wrap
from tests.fuzz.studies import CANARY, Files

NO_PARAMETERS = (
    b"", b" ", b"{", b"[]", b"null", b"1", b'"x"', b"{}{}", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"\0" * 100,
    b"{'seed': 1}", '{"seed": 1}'.encode("utf-16"), b'{"seed": 1,}', b'{"seed": 1, "seed": 2}',
    b'{"seed": 1' + b" " * 70_000 + b"}",
    b"[" * 30_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
)  # fmt: skip
NAMES = (
    b"seed", b"prescription_gy", b"fractions", b"steps", b"samples", b"sampler", b"model", b"priority", b"structures",
    b"ct_series", b"structure_set", b"dose_grid_mm", b"dvh_in_dose", b"callback_url", b"unknown", b"__proto__", b"",
    b"\\ud800", b"\\u0000", b"structures[Larynx]",
)  # fmt: skip
VALUES = (
    b"0", b"-1", b"1.5", b"101", b"2147483648", b"9" * 5000, b"1e9", b"1e308", b"1e400", b"1e-320", b"NaN", b"Infinity",
    b"-Infinity", b"true", b"null", b"[]", b"[1]", b"{}", b'""', b'"1"', b'"NaN"', b'"inf"', b'"perhaps"', b'"1.2.3"',
    b'"\\ud800"', b'"\\u0000"', b'"../../etc/passwd"', b'"' + b"m" * 60_000 + b'"', b'"' + b"1" * 65 + b'"',
    b'{"PTV_7000": 1e999}', b'{"PTV_7000": 70}', b'{"": 70}', b'{"PTV_7000": {"a": 1}}', b'{"Larynx": null}',
    b'{"Larynx": "nothing"}', b'{"Larynx": "\\ud800"}', b'{"\\ud800": "x"}',
    b'{"Larynx": "<img src=x onerror=alert(1)>"}', b'"{\\"PTV_7000\\": 1e999}"', b'"' + b"[" * 20_000 + b'"',
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'"ancestral"', b"{" + b",".join(b'"s%d": "x"' % n for n in range(4000)) + b"}",
    b'"http://127.0.0.1:1/"', b'"https://[::1"', b'"https://\\u0000@x:99999999/"', b'"http://169.254.169.254/"',
    b'"https://xn--/"', b'"' + b"h" * 2001 + b'"',
)  # fmt: skip
NO_QUERY = (
    b"=", b"&&&", b"?", b"%", b"%zz", b"seed", b"seed=%00", b"seed=%FF%FE", b"seed=1#x", b"seed=0x10", b"seed=1_0",
    b"seed=+1", b"seed=%D9%A3", b"%73eed=5", b"seed=5;x=1", b"x=1&" * 5000, b"model=%F0%9F%A6%9C", b"seed=1&seed=2",
)  # fmt: skip
CONTENT_TYPES: tuple[bytes | None, ...] = (
    None, b"", b" ", b"text/plain", b"application/octet-stream", b"application/dicom", b"application/json", b"zip",
    b"/", b"application/", b"application/zip; charset=utf-8", b"APPLICATION/ZIP", b"application/x-zip-compressed",
    b"application/zip, application/zip", b"image/png", b"multipart/mixed; boundary=cut-here",
    b"multipart/related; boundary=cut-here", b"multipart/related; type=application/dicom",
    *(b"multipart/related; boundary=cut-here; type" + rest for rest in (
        b"=text/plain", b"*0=a; type*=b", b"*=utf-8''application%2Fdicom",
    )),
    b"multipart/form-data;;;;boundary=cut-here", b"=?utf-8?q?multipart/form-data?=; boundary=cut-here", ZIP, FORM,
    RELATED,
    *(b"multipart/form-data; boundary" + rest for rest in (
        b"", b"=", b'=""', b'="cut-here', b"=cut-here; boundary=x", b"=" + b"x" * 300, b"=" + b"x" * 30_000,
        b"=\xff\xfe", b"*=utf-8''%E2%82%AC", b"*=utf-8''cut-here", b"*0=cut-; boundary*1=here",
        b"*=utf-8''a; boundary*0=b",
        b"*" + b"9" * 5000 + b"=cut-here", b"*=rot13''phg", b"*=nonsense''cut-here", b"*=utf-8'en", b"=cut\there",
        b"=cut-here" + b"; a=b" * 2000, b'="cut\\-here"', b"=cut-here;", b"=\"'()+_,-./:=?",
        b"*0*=utf-8''a; boundary*2=b",
    )),
)  # fmt: skip
DISPOSITIONS = (
    b"", b"form-data", b'attachment; name="files"', b'name="files"', b'; name="files"',
    *(b"form-data; name" + rest for rest in (
        b"", b"=", b'=""', b'="file"', b'="FILES"', b'="files', b"=files; name=parameters", b"*=utf-8''files",
        b"*0=fi; name*1=les", b"*=utf-8''a; name*0=files", b"*0=x; name*=y", b"*" + b"9" * 4100 + b"=files",
        b"=\xff\xfe", b"=files;" + b" a=b;" * 500, b'="fi\\les"', b'="=?utf-8?q?files?="', b"*=rot13''svyrf",
        b"*=utf-16''files",
        b"*='''files",
    )),
    *(b'form-data; name="files"; filename' + rest for rest in (
        b"*=utf-8''%0d%0aX-Injected:%20yes", b'="a\rb"', b'="../../../etc/passwd"', b'="\0"',
        b'="' + b"n" * 4000 + b'"',
        b'="' + b"n" * 100_000 + b'"', b'="%0d%0aSet-Cookie: a=b"',
    )),
)  # fmt: skip
HEADERS = (
    [(b"Idempotency-Key", b"")], [(b"Idempotency-Key", b"k" * 256)], [(b"Idempotency-Key", b"k" * 10_000)],
    [(b"Idempotency-Key", b"\xff\xfe#")], [(b"Idempotency-Key", b"#")] * 2, [(b"Content-Encoding", b"gzip")],
    [(b"Accept", b"text/html, */*;q=" + b"9" * 1000)], [(b"Authorization", b"Bearer")],
    [(b"Authorization", b"Bearer \xff")], [(b"Authorization", b"Basic " + b"x" * 5000)],
    [(b"Cookie", b"a=b; " * 2000)], [(b"Range", b"bytes=0-1")], [(b"X-Forwarded-For", CANARY.encode())],
    [(b"Expect", b"100-continue")], [(b"Origin", b"http://evil.example")],
    [(b"User-Agent", CANARY.encode() + b" ${jndi:ldap://x}")],
)  # fmt: skip
HOSTS = (
    b"evil.example", b"", b"127.0.0.1:99999", b"localhost:x", b"[::1", b"a b", b"localhost.", b"x" * 5000, b"\xff",
)  # fmt: skip
BROKEN = (
    *([(b"Content-Length", length)] for length in (b"x", b"-1", b"1e3", b"9" * 30, b"", b"0x10")),
    [(b"Content-Length", b"10"), (b"Content-Length", b"20")], [(b"X", b"y" * 200_000)],
    *([(name, b"y")] for name in (b"X Y", b"X\0", b"\xff", b"")), *([(b"X", v)] for v in (b"a\0b", b"a\rb", b"\x7f")),
)  # fmt: skip
BROKEN_CHUNKS = (b"zz\r\nx\r\n0\r\n\r\n", b"-1\r\n", b"f" * 30 + b"\r\n", b"5\r\nab\r\n0\r\n\r\n")
CHUNKED: list[tuple[bytes, bytes | None]] = [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", None)]
PART_HEADERS = (
    *([(b"X", b"y")] * count for count in (7, 9, 5000)), *([(b"X" * size, b"y")] for size in (1000, 5000, 200_000)),
    *([(b"X", b"y" * size)] for size in (1000, 5000, 1_000_000)), [(b"", b"")], [(b"X y", b"z")], [(b"X\0", b"\0")],
    [(b"\xff", b"\xff")], [(b"Content-Transfer-Encoding", b"base64")], [(b"Content-Encoding", b"gzip")],
    [(b"Content-Disposition", b'form-data; name="parameters"')], [(b"Content-Length", b"1")],
    [(b"X", b"a\r\n folded")],
)  # fmt: skip
TAILS = (b"", b"--", b"\r\n--" + BOUNDARY, b"\r\n--" + BOUNDARY + b"-", b"\r\n--" + BOUNDARY + b"\r\n")


@of_request("parameters of the form malformed")
def form_parameters(files: Files, random: Random) -> Post:
    given = b'{"%b": %b}' % (random.choice(NAMES), random.choice(VALUES))
    parts = form_parts(files.items(), random.choice(NO_PARAMETERS) if random.random() < 0.3 else given)
    if random.random() < 0.1:
        parts.append(([(b"Content-Disposition", b'form-data; name="parameters"')], b"{}"))
    if random.random() < 0.3:
        random.shuffle(parts)
    return Post(join(parts), FORM)


@of_request("parameters of the query malformed")
def query(files: Files, random: Random) -> Post:
    post = wrap(files, random)
    given = [b"%b=%b" % (name, quote(random.choice(VALUES).strip(b'"')).encode()) for name in random.sample(NAMES, 2)]
    post.query = b"&".join(
        random.choice((given, given[:1], [*given, random.choice(NO_QUERY)], [random.choice(NO_QUERY)]))
    )
    return post


@of_request("content type wrong")
def content_type(files: Files, random: Random) -> Post:
    post = wrap(files, random) if random.random() < 0.5 else Post(join(form_parts(files.items())), FORM)
    post.content_type = random.choice(CONTENT_TYPES)
    return post


@of_request("boundary other or in the content")
def boundary(files: Files, random: Random) -> Post:
    parts = form_parts(files.items())
    match random.randrange(4):
        case 0:
            return Post(join(parts, b"other"), FORM)
        case 1:
            number = random.randrange(len(parts))
            headers, content = parts[number]
            place = random.randrange(len(content) + 1)
            parts[number] = headers, content[:place] + random.choice(TAILS) + content[place:]
        case 2:
            # Content that is nearly, but never quite, a boundary
            parts.append((parts[0][0], (b"\r\n--" + BOUNDARY[:-1]) * 20_000))
        case _:
            return Post(join(parts)[: -len(BOUNDARY) - 8] + random.choice(TAILS), FORM)
    return Post(join(parts), FORM)


@of_request("line ends of the parts wrong")
def line_ends(files: Files, random: Random) -> Post:
    head, _, rest = join(form_parts([("a", b"x"), *files.items()])).partition(b"\r\n\r\n")
    with_lf, with_cr = head.replace(b"\r\n", b"\n") + b"\n\n", head.replace(b"\r\n", b"\r") + b"\r\n\r\n"
    return Post(random.choice((with_lf, with_cr, head + b"\r\n")) + rest, FORM)


@of_request("disposition of a part wrong")
def disposition(files: Files, random: Random) -> Post:
    parts = form_parts(files.items())
    for number in random.sample(range(len(parts)), random.choice((1, 1, len(parts)))):
        parts[number] = ([(b"Content-Disposition", random.choice(DISPOSITIONS))], parts[number][1])
    return Post(join(parts), FORM)


@of_request("headers of a part wrong")
def part_headers(files: Files, random: Random) -> Post:
    parts = form_parts(files.items())
    number = random.randrange(len(parts))
    headers, content = parts[number]
    extra = random.choice(PART_HEADERS)
    parts[number] = random.choice((headers + extra, extra + headers, [], extra)), content
    return Post(join(parts), random.choice((FORM, RELATED)))


@of_request("parts without content")
def empty_parts(files: Files, random: Random) -> Post:
    nothing = form_parts([(f"{n}", b"") for n in range(random.choice((1, 100, 5001)))])
    return Post(join(nothing if random.random() < 0.5 else nothing + form_parts(files.items())), FORM)


@of_request("body empty or tiny")
def tiny_body(files: Files, random: Random) -> Post:
    bodies = (b"", b"P", b"PK", b"\0", b"--", b"--" + BOUNDARY + b"--\r\n", b"{}")
    return Post(random.choice(bodies), random.choice((ZIP, FORM, RELATED)))


@of_request("headers of the request odd")
def odd_headers(files: Files, random: Random) -> Post:
    post = wrap(files, random)
    headers, new = random.choice((*HEADERS, [(b"Host", random.choice(HOSTS))])), b"%d" % random.getrandbits(40)
    post.headers = [(name, value.replace(b"#", new)) for name, value in headers]
    if post.headers[0][0] == b"Content-Encoding":
        post.body = gzip.compress(post.body, 1)
    return post


@of_request("body in chunks")
def chunks(files: Files, random: Random) -> Post:
    post = wrap(files, random)
    size = random.choice((1000, 65_536, 10**6))
    blocks = [post.body[start : start + size] for start in range(0, len(post.body), size)]
    post.body = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"
    post.headers = list(CHUNKED)
    return post


@of_request("HTTP itself broken")
def broken_http(files: Files, random: Random) -> Post:
    post = wrap(files, random)
    post.breaks_http = True
    too_short = [(b"Content-Length", b"%d" % random.randrange(len(post.body)))]
    post.headers = list(random.choice((*BROKEN, too_short, CHUNKED)))
    if post.headers == CHUNKED:
        post.body = random.choice(BROKEN_CHUNKS)
    return post


@of_request("caller leaves before the end")
def leave(files: Files, random: Random) -> Post:
    post = wrap(files, random)
    post.headers = [(b"Content-Length", b"%d" % (len(post.body) + random.choice((1, 1000, 10**8))))]
    post.leaves = True
    return post
