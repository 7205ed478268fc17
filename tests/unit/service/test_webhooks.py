"""Calls back: what is sent, to whom, how often, and where they never go."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from standardwebhooks import Webhook, WebhookVerificationError

from service.errors import CallbackRefused
from service.jobs.callbacks import Receivers
from service.jobs.job import Fault, Job
from service.jobs.outbox import Delivery, DeliveryState, Outbox
from service.jobs.repository import JobRepository
from service.jobs.states import Stage
from service.jobs.tables import DeliveryRow
from service.settings import Settings, webhook_key
from service.worker.webhooks import Courier, DeliveryFailed, Sender

pytestmark = pytest.mark.every_database

SECRETS = ["whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"a", b"b")]
KEYS = [webhook_key(SecretStr(secret)) for secret in SECRETS]
AddJob = Callable[..., Job]


class Receiver:
    """A receiver on this machine that answers as it is told and remembers what came."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.location = ""
        self.drip_s = 0.0
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if receiver.drip_s:
                    self.drip()
                    return
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            def drip(self) -> None:
                for letter in "HTTP/1.1 200 OK, slowly":
                    try:
                        self.wfile.write(letter.encode())
                    except OSError:
                        return
                    time.sleep(receiver.drip_s)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/done?for=us"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def outbox(engine: Engine, clock) -> Outbox:
    return Outbox(engine, max_attempts=3, pause_s=10, attempt_s=60, clock=clock)


def receivers(*allowed: str) -> Receivers:
    return Receivers.of(Settings(webhook_allowed=",".join(allowed)))


def sender(*allowed: str, timeout_s: float = 10.0) -> Sender:
    return Sender(receivers(*allowed), KEYS, timeout_s=timeout_s)


@pytest.fixture
def courier(outbox: Outbox) -> Courier:
    return Courier(outbox, sender("127.0.0.1"))


def delivery_to(url: str) -> Delivery:
    return Delivery("msg_1", "a" * 32, url, '{"a":1}', 1)


def rows(engine: Engine) -> list[DeliveryRow]:
    with Session(engine) as session:
        return list(session.scalars(select(DeliveryRow)))


def fail(jobs: JobRepository) -> None:
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="internal", message="DOE^JOHN", stage="prepare"))


def test_the_end_of_a_job_is_told_once_and_says_nothing_of_the_patient(
    jobs: JobRepository, add_job: AddJob, outbox: Outbox, courier: Courier, receiver: Receiver, engine: Engine
) -> None:
    job = add_job(callback_url=receiver.url, structures={"Larynx": "DOE^JOHN"})
    assert outbox.take() is None
    fail(jobs)
    courier.attempt(outbox.take())
    assert outbox.take() is None
    ((headers, body),) = receiver.got
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{receiver.server.server_port}"
    ended = jobs.get(job.id)
    assert json.loads(body) == {
        "type": "job.failed",
        "timestamp": moment(ended.finished_at),
        "data": {
            "id": job.id,
            "state": "failed",
            "created_at": moment(job.created_at),
            "started_at": moment(ended.started_at),
            "finished_at": moment(ended.finished_at),
            "links": {"self": f"/v1/jobs/{job.id}"},
        },
    }
    assert rows(engine)[0].state == DeliveryState.DELIVERED
    assert outbox.counts()[DeliveryState.DELIVERED] == 1


def moment(value: datetime | None) -> str:
    return value.isoformat().replace("+00:00", "Z")


def test_every_end_is_told_and_a_success_with_links_to_its_results(
    engine: Engine, jobs: JobRepository, add_job: AddJob, outbox: Outbox, clock
) -> None:
    jobs = JobRepository(engine, clock=clock, public_url="https://dose.example/")
    job = add_job(callback_url="https://planning.example/")
    fail(jobs)
    jobs.requeue(job.id)
    for stage in Stage:
        _, lease = jobs.claim(stage, "w")
        jobs.advance(lease, stage, output="x-1")
    cancelled = add_job(callback_url="https://planning.example/")
    jobs.request_cancel(cancelled.id)
    jobs.request_cancel(add_job().id)
    told = [json.loads(outbox.take().body) for _ in range(3)]
    assert sorted(one["type"] for one in told) == ["job.cancelled", "job.failed", "job.succeeded"]
    success = next(one for one in told if one["type"] == "job.succeeded")
    base = f"https://dose.example/v1/jobs/{job.id}"
    assert success["data"]["links"] == {
        "self": base, "dose": f"{base}/dose", "plan": f"{base}/plan",
        "report": f"{base}/report", "archive": f"{base}/archive",
    }  # fmt: skip
    assert outbox.take() is None


@pytest.mark.parametrize("secret", SECRETS)
def test_another_implementation_accepts_the_signature_of_each_secret(receiver: Receiver, secret: str) -> None:
    sender("127.0.0.0/8").send(delivery_to(receiver.url))
    headers, body = receiver.got[0]
    assert Webhook(secret).verify(body, headers) == {"a": 1}
    assert headers["webhook-id"] == "msg_1"
    for changed in (body + b" ", body.replace(b"1", b"2")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(changed, headers)


def test_a_receiver_that_fails_at_first_is_called_again(
    jobs, add_job, outbox, courier, receiver: Receiver, engine, clock
) -> None:
    receiver.answers = [500, 302]
    add_job(callback_url=receiver.url)
    fail(jobs)
    for pause_s in (10, 20):
        courier.attempt(outbox.take())
        assert outbox.take() is None
        # Half of the pause is left to chance
        clock.advance(pause_s / 2 - 0.1)
        assert outbox.take() is None
        clock.advance(pause_s / 2 + 0.2)
    courier.attempt(outbox.take())
    clock.advance(10_000)
    assert outbox.take() is None
    assert len(receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert rows(engine)[0].state == DeliveryState.DELIVERED


@pytest.mark.parametrize(("answers", "attempts"), [([500] * 9, 3), ([410], 1)])
def test_a_receiver_that_never_takes_it_is_given_up(
    jobs, add_job, outbox, courier, receiver: Receiver, engine, clock, answers, attempts
) -> None:
    receiver.answers = list(answers)
    add_job(callback_url=receiver.url)
    fail(jobs)
    while delivery := outbox.take():
        courier.attempt(delivery)
        clock.advance(10_000)
    assert len(receiver.got) == attempts
    (row,) = rows(engine)
    assert (row.state, row.attempts) == (DeliveryState.GIVEN_UP, attempts)
    assert row.last_reason.startswith("the receiver answered")


def test_an_attempt_whose_courier_was_killed_is_made_again_but_not_for_ever(
    jobs, add_job, outbox: Outbox, engine, clock
) -> None:
    add_job(callback_url="https://planning.example/")
    fail(jobs)
    killed = outbox.take()
    clock.advance(59)
    assert outbox.take() is None
    for attempt in (2, 3):
        clock.advance(10_000)
        assert outbox.take().attempt == attempt
    # What the one believed dead says late does not count
    assert not outbox.failed(killed, "late", final=True)
    clock.advance(10_000)
    assert outbox.take() is None
    assert rows(engine)[0].state == DeliveryState.GIVEN_UP


def test_a_deleted_job_calls_nobody(jobs, add_job, outbox: Outbox, engine) -> None:
    job = add_job(callback_url="https://planning.example/")
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.purge(job.id)
    jobs.stop(lease)
    other = add_job(callback_url="https://planning.example/")
    jobs.request_cancel(other.id)
    jobs.purge(other.id)
    assert outbox.take() is None
    assert rows(engine) == []


def test_couriers_share_the_work(jobs, add_job, engine, receiver: Receiver) -> None:
    outbox = Outbox(engine, max_attempts=3, pause_s=10, attempt_s=60)
    for _ in range(12):
        jobs.request_cancel(add_job(callback_url=receiver.url).id)
    couriers = [Courier(outbox, sender("127.0.0.1")) for _ in range(2)]
    threads = [threading.Thread(target=courier.look) for courier in couriers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 30
    while outbox.counts()[DeliveryState.DELIVERED] < 12:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(receiver.got) == 12


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.answers, receiver.location = [307], receiver.url
    with pytest.raises(DeliveryFailed, match="307"):
        sender("127.0.0.1").send(delivery_to(receiver.url))
    assert len(receiver.got) == 1


def test_a_receiver_that_drips_is_left_at_the_deadline(receiver: Receiver) -> None:
    receiver.drip_s = 0.5
    begun = time.monotonic()
    with pytest.raises(DeliveryFailed, match="Timeout"):
        sender("127.0.0.1", timeout_s=1.5).send(delivery_to(receiver.url))
    # Letter by letter the whole answer takes twelve seconds
    assert time.monotonic() - begun < 8


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="ConnectError"):
        sender("127.0.0.1").send(delivery_to(f"http://127.0.0.1:{port}/"))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host not in known and not host[0].isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known.get(host, [host])]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["::1"],
        ["fe80::1"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        # Public and private: the second try would hit
        ["93.184.215.14", "192.168.0.1"],
    ],
)
def test_names_of_private_addresses_are_not_called(names, receiver: Receiver, addresses: list[str]) -> None:
    names["inner.example"] = addresses
    with pytest.raises(DeliveryFailed, match="not public"):
        sender().send(delivery_to(f"https://inner.example:{receiver.server.server_port}/"))
    assert receiver.got == []


def test_the_address_that_was_checked_is_the_one_that_is_called(names, receiver: Receiver, monkeypatch) -> None:
    names["planning.local"] = ["127.0.0.1"]
    asked: list[str] = []
    check = Receivers.check

    def changing(self, host, address) -> None:
        check(self, host, address)
        asked.append(str(address))
        # From now on the name resolves to something else
        names["planning.local"] = ["192.0.2.1"]

    monkeypatch.setattr(Receivers, "check", changing)
    sender("planning.local").send(delivery_to(f"http://planning.local:{receiver.server.server_port}/"))
    assert asked == ["127.0.0.1"]
    assert receiver.got[0][0]["host"] == f"planning.local:{receiver.server.server_port}"


def test_a_name_that_is_unknown_may_be_known_later(names) -> None:
    with pytest.raises(DeliveryFailed, match="gaierror"):
        sender().send(delivery_to("https://planning.example/"))


def test_public_addresses_and_allowed_networks_pass() -> None:
    for address in ("93.184.215.14", "2606:2800:220:1::1", "::ffff:93.184.215.14"):
        receivers().check("planning.example", ip_address(address))
    receivers("10.0.0.0/8").check("planning.example", ip_address("10.255.0.1"))
    with pytest.raises(CallbackRefused):
        receivers("10.0.0.0/8").check("planning.example", ip_address("192.168.0.1"))


def test_the_timestamp_is_that_of_the_attempt(receiver: Receiver) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    Sender(receivers("127.0.0.1"), KEYS, timeout_s=10, clock=lambda: at).send(delivery_to(receiver.url))
    assert receiver.got[0][0]["webhook-timestamp"] == str(int(at))
