"""Which endpoint is asked when, and what is said if none takes us."""

import pytest

from rig.config import Settings
from rig.endpoints import Candidate, Endpoints, endpoints_of
from rig.errors import AuthenticationRefused, ConfigError, ConnectFailed, HandshakeRefused, NoEndpoint, TlsFailed, TokenUnavailable
from rig.transport import Endpoint

A, B, C = (f"ws://127.0.0.1:{number}/socket" for number in (1, 2, 3))


class Stage:
    """Some endpoints, and a clock that is a number."""

    def __init__(self, *urls):
        self.now = 100.0
        self.endpoints = Endpoints([Candidate(Endpoint(url), object(), clock=lambda: self.now) for url in urls])

    def __getitem__(self, index):
        return self.endpoints.all[index]

    @property
    def order(self):
        return [self.endpoints.all.index(candidate) for candidate in self.endpoints.order()]


def refused(number=1):
    return ConnectFailed("127.0.0.1", number, "refused")


def test_the_order_is_that_of_the_urls():
    """Whoever writes them decides."""
    assert Stage(A, B, C).order == [0, 1, 2]


def test_one_that_failed_comes_last_for_a_while():
    """It is still asked, if the others fail too."""
    stage = Stage(A, B, C)
    stage[0].failed(refused())
    assert stage.order == [1, 2, 0]

    stage.now += 5.1
    assert stage.order == [0, 1, 2]


def test_the_while_doubles_with_each_failure_up_to_a_minute():
    """A dead server costs each attempt less and less, and its return is noticed within a minute."""
    stage, rests = Stage(A, B), []
    for _ in range(7):
        stage[0].failed(refused())
        rests.append(stage[0].rest)
        stage.now += stage[0].rest

    assert rests == [5, 10, 20, 40, 60, 60, 60]
    assert stage.order == [0, 1]


def test_of_those_that_rest_the_one_that_rested_longest_comes_first():
    """What failed a minute ago is likelier to be well than what failed just now."""
    stage = Stage(A, B)
    stage[1].failed(refused())
    stage.now += 3.0
    stage[0].failed(refused())
    assert stage.order == [1, 0]


def test_a_connection_that_lasted_makes_up_for_earlier_failures():
    """Its end is the first again; one that ends at once is one more."""
    stage = Stage(A, B)
    for _ in range(4):
        stage[0].failed(refused())
    stage[0].opened()
    assert stage.order == [0, 1]
    stage.now += 1.0
    stage[0].lost("close code 1012", 1012)
    assert stage[0].rest == 60.0

    stage[0].opened()
    stage.now += 31.0
    stage[0].lost("close code 1012", 1012)
    assert stage[0].rest == 5.0
    assert stage.order == [1, 0]


@pytest.mark.parametrize(
    ("harm", "seconds"),
    [
        (lambda candidate: candidate.failed(AuthenticationRefused(A, 403)), 60.0),
        (lambda candidate: candidate.failed(HandshakeRefused(A, 503)), 30.0),
        (lambda candidate: candidate.failed(HandshakeRefused(A, 429, retry_after=7.0)), 7.0),
        (lambda candidate: candidate.lost("", 1013), 30.0),
        (lambda candidate: candidate.lost("", 1008), 60.0),
    ],
)
def test_a_server_that_wants_to_be_left_alone_is(harm, seconds):
    """Not even if the others fail."""
    stage = Stage(A, B)
    stage[1].failed(refused(2))
    harm(stage[0])
    assert stage.order == [1]

    stage.now += seconds - 0.1
    assert stage.order == [1]
    stage.now += 0.2
    assert set(stage.order) == {0, 1}


def test_if_all_want_to_be_left_alone_the_first_that_may_be_asked_is():
    """An attempt that the core makes all the same asks one, not all."""
    stage = Stage(A, B)
    stage[0].failed(HandshakeRefused(A, 503, retry_after=50.0))
    stage[1].failed(HandshakeRefused(B, 503, retry_after=20.0))
    assert stage.order == [1]


def test_a_single_endpoint_is_always_asked_and_its_error_is_its_own():
    """There is nothing to choose, and when to try again is the core's to decide."""
    stage = Stage(A)
    error = HandshakeRefused(A, 503, retry_after=50.0)
    stage[0].failed(error)
    assert stage.order == [0]
    assert stage.endpoints.failure() is error


def test_the_error_of_several_names_each():
    """Whoever reads the log sees what is wrong with every one."""
    stage = Stage(A, B)
    stage[0].failed(refused(1))
    stage[1].failed(TlsFailed("127.0.0.1", "self-signed certificate"))
    error = stage.endpoints.failure()

    assert isinstance(error, NoEndpoint)
    assert f"{Endpoint(A).display}: cannot reach 127.0.0.1:1 (refused)" in str(error)
    assert f"{Endpoint(B).display}: TLS with 127.0.0.1 failed (self-signed certificate)" in str(error)
    assert error.decisive is stage[0].error
    assert error.retry_after is None


@pytest.mark.parametrize("error", [AuthenticationRefused(B, 401), TokenUnavailable("the test", "gone")])
def test_a_refused_token_is_not_hidden_behind_a_server_that_is_down(error):
    """It decides what follows, and what the command line ends with."""
    stage = Stage(A, B)
    stage[0].failed(refused(1))
    stage[1].failed(error)
    failure = stage.endpoints.failure()
    assert failure.decisive is error
    assert failure.exit_code == 4


def test_the_next_attempt_waits_for_the_endpoint_that_may_be_asked_first():
    """A server that refuses the token does not hold up the return of one that is down, nor is it asked with each attempt."""
    stage = Stage(A, B)
    stage[0].failed(AuthenticationRefused(A, 403))
    stage[1].failed(refused(2))
    assert stage.endpoints.failure().retry_after == 0.0

    stage[1].failed(HandshakeRefused(B, 503, retry_after=20.0))
    assert stage.endpoints.failure().retry_after == 20.0


def test_an_endpoint_that_is_left_alone_is_named_too():
    """With what it said the last time."""
    stage = Stage(A, B)
    stage[0].lost("close code 1013", 1013)
    stage[1].failed(refused(2))
    assert f"{Endpoint(A).display}: close code 1013" in str(stage.endpoints.failure())


def test_the_health_tells_what_a_user_wants_to_know():
    """How often it failed, why, and how long the others come first."""
    stage = Stage("ws://127.0.0.1:1/socket?token=hunter2", B)
    stage[0].failed(HandshakeRefused(A, 503, retry_after=20.0))
    stage[0].failed(refused(1))
    health = stage[0].health
    assert (health.failures, health.rest, health.barred) == (2, 10.0, False)
    assert "refused" in health.reason
    assert "hunter2" not in health.url

    stage[0].opened()
    assert (stage[0].health.failures, stage[0].health.reason, stage[0].health.rest) == (0, "", 0.0)


def test_those_before_an_endpoint_are_better():
    """For the way back."""
    stage = Stage(A, B, C)
    assert stage.endpoints.better_than(stage[2]) == [stage[0], stage[1]]
    assert stage.endpoints.better_than(stage[0]) == []


def test_settings_without_a_url_are_refused_with_a_sentence():
    """It says which option is missing."""
    with pytest.raises(ConfigError, match="--url"):
        endpoints_of(Settings())


def test_each_url_is_checked_by_itself():
    """A pin needs TLS everywhere, a secret stays off what others can read, and a URL that is named twice counts once."""
    with pytest.raises(ConfigError, match="write wss:// instead"):
        endpoints_of(Settings(url=("wss://a.example/socket", "ws://b.example/socket"), pin=("aa" * 32,)))
    with pytest.raises(ConfigError, match=r"unencrypted to b\.example"):
        endpoints_of(Settings(url=("wss://a.example/socket", "ws://b.example/socket"), param={"token": "x"}))
    assert [endpoint.url for endpoint in endpoints_of(Settings(url=(A, B, A)))] == [A, B]
