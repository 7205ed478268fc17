"""Bearer tokens against an issuer that serves its description and its keys, as any OpenID Connect provider does."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi.testclient import TestClient
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from service.access.tokens import FRESH_S, PAUSE_S, USABLE_S, IssuerKeys
from service.errors import IssuerUnavailable
from tests.problems import problem

AUDIENCE = "diffdp"


@cache
def rsa_key(kid: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key(kid: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def published(kid: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, **more: str) -> dict[str, str]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


class Issuer:
    """An issuer of tokens, by HTTP."""

    def __init__(self) -> None:
        self.keys = [published("first", rsa_key("first"))]
        self.asked = 0
        self.is_down = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers = {
                    "/realm/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                    "/realm/keys": {"keys": issuer.keys},
                }
                issuer.asked += self.path.endswith("/keys")
                self.send_response(503 if issuer.is_down else 200 if self.path in answers else 404)
                self.end_headers()
                self.wfile.write(json.dumps(answers.get(self.path)).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realm"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def token(
        self, *, key: object = None, kid: str | None = "first", algorithm: str = "RS256", **claims: object
    ) -> str:
        now = time.time()
        said = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "u1",
            "iat": now,
            "exp": now + 300,
            "tenant": "clinic",
            "scope": "openid diffdp:read",
        }
        said = {name: value for name, value in {**said, **claims}.items() if value is not None}
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(said, key or rsa_key("first"), algorithm, headers=headers)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def running() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def issuer(running: Issuer) -> Issuer:
    running.keys, running.asked, running.is_down = [published("first", rsa_key("first"))], 0, False
    return running


@pytest.fixture
def client(make_client, issuer: Issuer) -> TestClient:
    return make_client(oidc_issuer=issuer.url, oidc_audience=AUDIENCE)


def look(client: TestClient, token: str, path: str = "/v1/jobs"):
    return client.get(path, headers={"Authorization": f"Bearer {token}"})


def test_a_token_lets_its_tenant_in_with_its_scopes(client: TestClient, issuer: Issuer, jobs, add_job) -> None:
    assert look(client, issuer.token()).json()["jobs"] == []
    add_job()
    assert look(client, issuer.token()).json()["jobs"] == []
    assert len(look(client, issuer.token(tenant="default")).json()["jobs"]) == 1
    problem(client.post("/v1/jobs", headers={"Authorization": f"Bearer {issuer.token()}"}), 403, "forbidden")
    assert look(client, issuer.token(scope=["diffdp:read"])).status_code == 200
    assert issuer.asked == 1
    problem(client.get("/v1/jobs"), 401, "unauthorised")


def test_claims_may_be_named_otherwise(make_client, issuer: Issuer) -> None:
    names = {"oidc_tenant_claim": "https://clinic.example/tenant", "oidc_scope_claim": "access.roles"}
    client = make_client(oidc_issuer=issuer.url, oidc_audience=AUDIENCE, oidc_scope_prefix="", **names)
    token = issuer.token(**{"https://clinic.example/tenant": "a"}, access={"roles": ["read"]})
    assert look(client, token).status_code == 200
    problem(look(client, issuer.token(access={"roles": ["read"]})), 403, "forbidden")


def unsigned(token: str, header: bytes = b'{"alg":"none","kid":"first"}') -> str:
    return f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{token.split('.')[1]}."


def by_the_public_key(issuer: Issuer) -> str:
    """What a service takes for good that lets the token choose between signatures and shared secrets."""
    modulus = issuer.keys[0]["n"]
    return issuer.token(key=modulus.encode(), algorithm="HS256")


def other_payload(token: str, other: str) -> str:
    return ".".join((token.split(".", maxsplit=1)[0], other.split(".")[1], token.split(".")[2]))


WRONG: dict[str, Callable[[Issuer], str]] = {
    "expired": lambda issuer: issuer.token(exp=time.time() - 60),
    "not yet valid": lambda issuer: issuer.token(nbf=time.time() + 60),
    "without an end": lambda issuer: issuer.token(exp=None),
    "for another service": lambda issuer: issuer.token(aud="other"),
    "for no service": lambda issuer: issuer.token(aud=None),
    "of another issuer": lambda issuer: issuer.token(iss="https://login.example"),
    "of nobody": lambda issuer: issuer.token(sub=None),
    "of a name that cannot be written": lambda issuer: issuer.token(sub="u\0"),
    "of a very long name": lambda issuer: issuer.token(sub="x" * 256),
    "with an unknown key": lambda issuer: issuer.token(key=rsa_key("other"), kid="other"),
    "with another's key": lambda issuer: issuer.token(key=rsa_key("other")),
    "by an algorithm that is not allowed": lambda issuer: issuer.token(algorithm="RS512"),
    "with a shared secret": by_the_public_key,
    "unsigned": lambda issuer: unsigned(issuer.token()),
    "without an algorithm": lambda issuer: unsigned(issuer.token(), b'{"kid":"first"}'),
    "put together": lambda issuer: other_payload(issuer.token(), issuer.token(tenant="other")),
    "broken": lambda issuer: "a.b.c",
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("wrong", WRONG)
def test_tokens_that_are_not_good_here(client: TestClient, issuer: Issuer, wrong: str) -> None:
    problem(look(client, WRONG[wrong](issuer)), 401, "unauthorised")


@pytest.mark.parametrize("tenant", [None, "", "a b", ["a"], "../x", 7])
def test_a_token_must_name_one_tenant(client: TestClient, issuer: Issuer, tenant: object) -> None:
    problem(look(client, issuer.token(tenant=tenant)), 403, "forbidden")


def test_clocks_may_differ_a_little(client: TestClient, issuer: Issuer) -> None:
    now = time.time()
    assert look(client, issuer.token(exp=now - 10, nbf=now + 10, iat=now + 10)).status_code == 200


def test_the_issuer_may_change_its_keys(client: TestClient, issuer: Issuer, monkeypatch) -> None:
    assert look(client, issuer.token()).status_code == 200
    issuer.keys = [published("second", ec_key("second"))]
    changed = issuer.token(key=ec_key("second"), kid="second", algorithm="ES256")
    # Not at once: tokens with invented keys must not become questions to the issuer
    problem(look(client, changed), 401, "unauthorised")
    assert issuer.asked == 1
    monkeypatch.setattr("service.access.tokens.PAUSE_S", 0.0)
    assert look(client, changed).status_code == 200
    problem(look(client, issuer.token(sub="u2")), 401, "unauthorised")


def test_a_token_that_names_no_key_takes_the_only_one(client: TestClient, issuer: Issuer) -> None:
    assert look(client, issuer.token(kid=None)).status_code == 200


def test_a_key_is_used_for_what_the_issuer_says_only(client: TestClient, issuer: Issuer, monkeypatch) -> None:
    monkeypatch.setattr("service.access.tokens.PAUSE_S", 0.0)
    issuer.keys = [published("first", rsa_key("first"), alg="PS256")]
    problem(look(client, issuer.token()), 401, "unauthorised")
    assert look(client, issuer.token(algorithm="PS256")).status_code == 200
    issuer.keys = [published("encrypting", rsa_key("first"), use="enc")]
    problem(look(client, issuer.token(kid="encrypting")), 401, "unauthorised")


def test_an_issuer_that_is_away(client: TestClient, issuer: Issuer) -> None:
    issuer.is_down = True
    answer = look(client, issuer.token())
    problem(answer, 503, "issuer-unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_keys_are_asked_for_again_and_used_while_the_issuer_is_away() -> None:
    now, answers = [0.0], [{"issuer": "https://i", "jwks_uri": "https://i/k"}, {"keys": [{"kid": "a"}]}]
    asked: list[str] = []

    def fetch(address: str) -> object:
        asked.append(address)
        if not answers:
            raise ValueError("away")
        return answers[address.endswith("/k")]

    keys = IssuerKeys("https://i", fetch, lambda: now[0])
    assert keys.find("a") == keys.find("a") == {"kid": "a"}
    assert len(asked) == 2
    answers[1] = {"keys": [{"kid": "b"}]}
    now[0] = FRESH_S + 1
    assert keys.find("a") is None
    answers.clear()
    now[0] += FRESH_S + 1
    assert keys.find("b") == keys.find("b") == {"kid": "b"}
    assert len(asked) == 5
    now[0] += PAUSE_S + 1
    assert keys.find("b") == {"kid": "b"}
    assert len(asked) == 6
    now[0] += USABLE_S
    with pytest.raises(IssuerUnavailable):
        keys.find("b")


def test_an_issuer_that_describes_another_is_not_believed() -> None:
    keys = IssuerKeys("https://i", lambda _: {"issuer": "https://j", "jwks_uri": "https://i/k", "keys": [{"kid": "a"}]})
    with pytest.raises(IssuerUnavailable):
        keys.find("a")
