"""Questions of a moment are put together, and are answered with what is true after they were asked."""

import asyncio
import threading
from collections.abc import Collection, Mapping

import httpx
import pytest

from service.access.caller import Scope
from service.access.keys import KeyStore
from service.api.together import Together
from service.jobs.job import Parameters
from service.jobs.repository import JobRepository

PATIENCE_S = 10


class Shelf:
    """Something that can be looked at, and changes."""

    def __init__(self) -> None:
        self.value = 0
        self.looks: list[set[str]] = []
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def look(self, questions: Collection[str]) -> Mapping[str, int]:
        self.looks.append(set(questions))
        value = self.value
        self.begun.set()
        self.may_end.wait(PATIENCE_S)
        if value < 0:
            raise OSError
        return dict.fromkeys(questions, value)


def test_those_who_ask_at_once_share_a_look() -> None:
    shelf = Shelf()

    async def ask() -> list[int]:
        together = Together(shelf.look)
        return await asyncio.gather(*(together.ask(name) for name in ("a", "b", "a")))

    assert asyncio.run(ask()) == [0, 0, 0]
    assert shelf.looks == [{"a", "b"}]


def test_who_asks_during_a_look_is_told_what_is_true_afterwards() -> None:
    shelf = Shelf()
    shelf.may_end.clear()

    async def ask() -> list[int]:
        together = Together(shelf.look)
        first = asyncio.create_task(together.ask("a"))
        await asyncio.to_thread(shelf.begun.wait, PATIENCE_S)
        shelf.value = 1
        others = [asyncio.create_task(together.ask(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        shelf.may_end.set()
        return await asyncio.gather(first, *others)

    assert asyncio.run(ask()) == [0, 1, 1]
    assert shelf.looks == [{"a"}, {"a", "b"}]


def test_a_look_answers_only_so_many(monkeypatch) -> None:
    monkeypatch.setattr("service.api.together.AT_ONCE", 2)
    shelf = Shelf()

    async def ask() -> list[int]:
        together = Together(shelf.look)
        return await asyncio.gather(*(together.ask(name) for name in "abcde"))

    assert asyncio.run(ask()) == [0] * 5
    assert shelf.looks == [{"a", "b"}, {"c", "d"}, {"e"}]


def test_an_error_is_told_to_all_and_is_over_then() -> None:
    shelf = Shelf()

    async def ask() -> int:
        together = Together(shelf.look)
        shelf.value = -1
        failed = await asyncio.gather(together.ask("a"), together.ask("b"), return_exceptions=True)
        assert [type(error) for error in failed] == [OSError, OSError]
        shelf.value = 1
        return await together.ask("a")

    assert asyncio.run(ask()) == 1


def test_who_leaves_takes_no_answer_from_others() -> None:
    shelf = Shelf()

    async def ask() -> int:
        together = Together(shelf.look)
        leaves, stays = (asyncio.create_task(together.ask(name)) for name in ("a", "b"))
        await asyncio.sleep(0)
        leaves.cancel()
        return await stays

    assert asyncio.run(ask()) == 0


@pytest.mark.every_database
def test_polls_of_all_tenants_share_questions_and_see_their_own_jobs(
    make_client, engine, jobs, examination, monkeypatch
) -> None:
    monkeypatch.setattr("service.api.together.PAUSE_S", 0.5)
    really, questions = JobRepository.look, []
    monkeypatch.setattr(JobRepository, "look", lambda self, asked: questions.append(asked) or really(self, asked))
    keys = KeyStore(engine)
    shown = [keys.create("test", tenant, {Scope.READ})[0] for tenant in ("ours", "theirs")]
    for job_id in ("kept", "purged"):
        jobs.add(job_id, Parameters(), examination, content_sha256=job_id, tenant="ours")
    jobs.purge("purged")
    app = make_client().app

    async def poll() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as other:
            headers = [{"Authorization": f"Bearer {key}"} for key in shown]
            paths = [f"/v1/jobs/{job_id}" for job_id in ("kept", "purged", "none")]
            asked = [other.get(path, headers=who) for who in headers for path in 3 * paths]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(poll()) == 3 * [200, 410, 404] + 9 * [404]
    assert len(questions) <= 3
