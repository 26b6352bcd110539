"""When a provider is asked, and which token is given out."""

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from rig.auth import Token, TokenSource
from rig.auth.provider import NoToken
from rig.errors import TokenMissing, TokenUnavailable

FAILURE = TokenUnavailable("the test", "it fails")


class Provider:
    """
    Answers as the test says.

    Attributes:
        answers: What each question is answered with, the last one for ever; an exception is raised.
        gate: Nothing is answered before it is set.
    """

    name = "the test"

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self):
        self.asked += 1
        await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class ReadyProvider(Provider):
    """Needs no waiting."""

    def read(self):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def fetch(self):
        return self.read()


class Time:
    """
    A clock that stands still until it is told to go on, and the timer that goes by it.

    Attributes:
        now: Seconds, the same on both clocks.
        due: When the timer rings; None without one.
    """

    def __init__(self):
        self.now, self.due, self._callback = 1000.0, None, None

    def call_later(self, delay, callback):
        assert self.due is None, "there is one timer"
        self.due, self._callback = self.now + delay, callback
        return self

    def cancel(self):
        self.due = None

    async def go_to(self, now):
        """Let the time pass, ringing on the way, and let the background do its work."""
        while self.due is not None and self.due <= now:
            self.now, self.due = self.due, None
            self._callback()
            await settle()
        self.now = now
        await settle()


async def settle():
    """Let all tasks that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def make(provider, time=None):
    time = time or Time()
    return TokenSource(provider, clock=lambda: time.now, monotonic=lambda: time.now, call_later=time.call_later), time


# --- asking


def test_the_provider_is_asked_each_time_where_nobody_knows_the_end(run):
    """A token of which nothing is known may have been replaced a moment ago."""

    async def main():
        source, _ = make(Provider(Token("one"), Token("two")))
        assert [(await source.get()).value, (await source.get()).value] == ["one", "two"]

    run(main)


def test_a_token_that_is_good_for_long_is_not_asked_for_again(run):
    """A thousand reconnects do not run a program a thousand times."""

    async def main():
        provider = Provider(Token("one", 1000 + 600), Token("two", 1000 + 1200))
        source, time = make(provider)
        assert (await source.get()).value == "one"
        time.now += 530
        assert (await source.get()).value == "one"
        assert provider.asked == 1

        time.now = 1000 + 541
        assert (await source.get()).value == "two"

    run(main)


def test_all_who_ask_at_the_same_time_share_one_answer(run):
    """A hundred connections that come back at once ask once."""

    async def main():
        provider = Provider(Token("one"), Token("two"))
        provider.gate.clear()
        source, _ = make(provider)
        asking = [asyncio.create_task(source.get()) for _ in range(100)]
        await settle()
        provider.gate.set()

        assert {token.value for token in await asyncio.gather(*asking)} == {"one"}
        assert provider.asked == 1

    run(main)


def test_whoever_stops_waiting_does_not_take_the_answer_from_the_others(run):
    """A connection that is closed meanwhile is nobody else's matter."""

    async def main():
        provider = Provider(Token("one"))
        provider.gate.clear()
        source, _ = make(provider)
        first, second = asyncio.create_task(source.get()), asyncio.create_task(source.get())
        await settle()
        first.cancel()
        await settle()
        provider.gate.set()

        assert (await second).value == "one"
        assert first.cancelled()
        assert provider.asked == 1

    run(main)


def test_a_question_that_nobody_waits_for_any_more_may_fail_silently(run):
    """asyncio does not complain of an exception that was never retrieved."""

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        provider = Provider(FAILURE)
        provider.gate.clear()
        source, _ = make(provider)
        only = asyncio.create_task(source.get())
        await settle()
        only.cancel()
        provider.gate.set()
        await settle()
        import gc

        gc.collect()
        assert complaints == []

    run(main)


def test_no_token_is_an_answer(run):
    """Not every server asks for one."""

    async def main():
        source, _ = make(NoToken())
        assert not source.gives_tokens
        assert await source.get() is None
        assert source.peek() is None
        assert make(Provider(None))[0].gives_tokens

    run(main)


# --- failing and expiring


def test_without_a_token_there_is_an_error(run):
    """The provider's own sentence."""

    async def main():
        source, _ = make(Provider(FAILURE))
        with pytest.raises(TokenUnavailable, match="no token from the test: it fails"):
            await source.get()
        with pytest.raises(TokenUnavailable, match="it fails"):
            source.peek()

    run(main)


@pytest.mark.parametrize("end", [None, 1000 + 600.0])
def test_the_last_token_goes_on_while_the_provider_fails(run, end):
    """An identity provider that is down for a minute takes no connection with it; the log tells."""

    async def main():
        source, time = make(Provider(Token("one", end), FAILURE))
        await source.get()
        time.now = 1000 + 599.0
        with capture_logs() as logs:
            assert (await source.get()).value == "one"
        [entry] = logs
        assert (entry["log_level"], entry["provider"], entry["reason"]) == ("warning", "the test", "it fails")

    run(main)


def test_an_expired_token_is_never_given_out(run):
    """Neither to a connection nor to a join, whatever the provider says or does not say."""

    async def main():
        provider = Provider(Token("one", 1000 + 600), FAILURE)
        source, time = make(provider)
        await source.get()
        time.now = 1000 + 600.0
        with pytest.raises(TokenUnavailable, match="expired"):
            source.peek()
        with pytest.raises(TokenUnavailable, match="it fails"):
            await source.get()
        await settle()
        with pytest.raises(TokenUnavailable):
            source.peek()

    run(main)


def test_a_provider_that_gives_an_expired_token_has_none(run):
    """A cache that is not refreshed is told from a server that refuses."""

    async def main():
        source, _ = make(Provider(Token("one", 999.0)))
        with pytest.raises(TokenUnavailable, match="the token that it gave has expired"):
            await source.get()

    run(main)


def test_after_signing_out_the_last_token_is_not_sent_again(run):
    """What is gone is gone, though it has not expired: no rejoin goes on with it for ever."""

    async def main():
        source, _ = make(Provider(Token("one"), TokenMissing("the test", "nobody is signed in"), Token("two")))
        await source.get()
        with pytest.raises(TokenMissing):
            await source.get()
        with pytest.raises(TokenUnavailable, match="nobody is signed in"):
            source.peek()
        assert (await source.get()).value == "two"
        assert source.peek() == "two"

    run(main)


# --- renewing


def test_a_refused_token_is_asked_for_again_though_it_is_good_for_long(run):
    """The server knows better, for example that it was revoked."""

    async def main():
        source, _ = make(Provider(Token("one", 9999.0), Token("two", 9999.0)))
        old = await source.get()
        assert (await source.renew(old)).value == "two"
        assert (await source.get()).value == "two"

    run(main)


def test_a_refused_token_is_not_served_from_memory(run):
    """As long as the provider has no other one, it is asked each time."""

    async def main():
        provider = Provider(Token("one", 9999.0), Token("one", 9999.0), Token("two", 9999.0))
        source, _ = make(provider)
        old = await source.get()
        assert (await source.renew(old)).value == "one"
        assert (await source.get()).value == "two"
        assert provider.asked == 3

    run(main)


def test_a_question_from_before_the_refusal_does_not_count_as_a_renewal(run):
    """Its answer may be the refused token."""

    async def main():
        provider = Provider(Token("one"), Token("one"), Token("two"))
        source, _ = make(provider)
        old = await source.get()
        provider.gate.clear()
        earlier = asyncio.create_task(source.get())
        await settle()
        renewing = asyncio.create_task(source.renew(old))
        await settle()
        provider.gate.set()

        assert (await earlier).value == "one"
        assert (await renewing).value == "two"

    run(main)


def test_a_renewal_that_fails_gives_the_old_token_back(run):
    """Then the refusal is what counts, not the provider's trouble."""

    async def main():
        source, _ = make(Provider(Token("one"), FAILURE))
        old = await source.get()
        assert await source.renew(old) == old

    run(main)


# --- looking ahead


@pytest.mark.parametrize(("lifetime", "margin"), [(10, 5), (40, 5), (300, 30), (600, 60), (86_400, 60), (6, 3)])
def test_the_next_token_is_there_before_the_last_one_expires(run, lifetime, margin):
    """A tenth of the lifetime ahead, but 5 to 60 seconds; of a very short one, half of it."""

    async def main():
        provider = Provider(Token("one", 1000.0 + lifetime), Token("two", 1e9))
        source, time = make(provider)
        await source.get()
        await time.go_to(1000 + lifetime - margin - 0.1)
        assert provider.asked == 1
        await time.go_to(1000 + lifetime - margin + 0.1)
        assert provider.asked == 2
        assert source.peek() == "two"

    run(main)


def test_a_clock_that_was_put_on_is_noticed_within_an_hour(run):
    """The machine slept, or somebody set the time: a timer does not see that, the wall clock does."""

    async def main():
        provider = Provider(Token("one", 1000.0 + 86_400), Token("two", 1e9))
        time, slept = Time(), 0.0
        source = TokenSource(provider, clock=lambda: time.now + slept, monotonic=lambda: time.now, call_later=time.call_later)
        await source.get()
        await time.go_to(1000 + 3500)
        slept = 86_300.0
        await time.go_to(1000 + 3700)
        assert provider.asked == 2

    run(main)


def test_a_token_without_a_known_end_needs_no_timer(run):
    """Nothing wakes up for nothing."""

    async def main():
        source, time = make(Provider(Token("one")))
        await source.get()
        assert time.due is None

    run(main)


@pytest.mark.parametrize("answer", [Token("one", 1000.0 + 600), FAILURE], ids=["the same token", "a failure"])
def test_a_provider_that_has_no_new_one_yet_is_asked_now_and_then_until_the_end(run, answer):
    """More often towards the end, at most every five seconds, and not any more after it."""

    async def main():
        provider = Provider(Token("one", 1000.0 + 600), answer)
        source, time = make(provider)
        await source.get()
        asked_at, asked = [], provider.asked
        with capture_logs() as logs:
            for now in range(1000, 1700):
                await time.go_to(float(now))
                if provider.asked > asked:
                    asked_at.append(now - 1000)
                    asked = provider.asked
        assert asked_at[0] == 540
        assert 4 <= len(asked_at) <= 10
        assert all(later - earlier >= 5 for earlier, later in itertools.pairwise(asked_at))
        assert asked_at[-1] <= 606
        assert time.due is None
        assert any(entry["log_level"] == "warning" for entry in logs)
        assert source.name not in ("", None)

    run(main)


def test_a_very_short_lived_token_is_not_asked_for_without_a_pause(run):
    """A provider that gives tokens for a hundredth of a second is asked once a second at most."""

    async def main():
        time = Time()

        class Fleeting(Provider):
            async def fetch(self):
                self.asked += 1
                return Token(f"t{self.asked}", time.now + 0.01)

        provider = Fleeting(None)
        source, _ = make(provider, time)
        await source.get()
        await time.go_to(1010.0)
        assert 5 <= provider.asked <= 11

    run(main)


def test_a_provider_that_is_broken_is_reported_though_nobody_waits(run):
    """An exception in the background is not lost."""

    async def main():
        source, time = make(Provider(Token("one", 1100.0), ZeroDivisionError("oh")))
        await source.get()
        with capture_logs() as logs:
            await time.go_to(1095.0)
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert isinstance(logs[0]["exc_info"], ZeroDivisionError)

    run(main)


def test_closing_ends_all_that_goes_on(run):
    """The timer, and a question that is being asked."""

    async def main():
        provider = Provider(Token("one", 1600.0))
        source, time = make(provider)
        await source.get()
        assert time.due is not None
        provider.gate.clear()
        source.ask(refused=True)
        await settle()
        assert provider.asked == 2

        await source.close()

        assert time.due is None
        assert {task.get_name() for task in asyncio.all_tasks()} & {"fetch-token"} == set()
        source.ask(refused=True)
        await settle()
        assert provider.asked == 2

    run(main)


def test_the_running_loop_keeps_the_time_by_default(run):
    """Without a clock of its own, a source looks ahead for real."""

    async def main():
        import time

        provider = Provider(Token("one", time.time() + 2.0), Token("two", time.time() + 3600))
        source = TokenSource(provider)
        await source.get()
        async with asyncio.timeout(5):
            while source._latest.value == "one":  # noqa: ASYNC110 - the loop's timer is what is tested
                await asyncio.sleep(0.02)
        assert source.peek() == "two"
        await source.close()

    run(main)


# --- without waiting


def test_peeking_gives_the_latest_token(run):
    """For a join, which cannot wait."""

    async def main():
        source, _ = make(Provider(Token("one", 9999.0)))
        with pytest.raises(TokenUnavailable, match="has not answered yet"):
            source.peek()
        await settle()
        assert source.peek() == "one"

    run(main)


def test_peeking_asks_anew_a_provider_that_needs_no_waiting(run):
    """Each join carries what is in the variable or the file now."""

    async def main():
        source, _ = make(ReadyProvider(Token("one"), Token("two"), TokenMissing("the test", "gone")))
        assert [source.peek(), source.peek()] == ["one", "two"]
        with pytest.raises(TokenMissing, match="gone"):
            source.peek()

    run(main)


def test_peeking_has_other_providers_asked_for_the_next_time(run):
    """A join that is refused for an old token is followed by one with a new token."""

    async def main():
        provider = Provider(Token("one"), Token("two"))
        source, time = make(provider)
        await source.get()
        time.now += 10
        assert source.peek() == "one"
        await settle()
        assert source.peek() == "two"

    run(main)


def test_many_joins_ask_once(run):
    """A thousand topics that are joined in one second are one question."""

    async def main():
        provider = Provider(Token("one"), Token("two"))
        source, time = make(provider)
        await source.get()
        for _ in range(1000):
            source.peek()
            await settle()
            time.now += 0.001
        assert provider.asked == 1

    run(main)


def test_many_refusals_of_one_token_are_one_renewal(run):
    """The first refusal renews at once, the others find it done."""

    async def main():
        provider = Provider(Token("one", 9999.0), Token("two", 9999.0), Token("three", 9999.0))
        source, time = make(provider)
        await source.get()
        for _ in range(100):
            source.ask(refused=True)
            await settle()
            time.now += 0.01
        assert provider.asked == 2
        assert source.peek() == "two"

        time.now += 10
        source.ask(refused=True)
        await settle()
        assert source.peek() == "three"

    run(main)
