"""Tokens of an issuer, which answers over HTTP and signs with real keys."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aisandbox_access import (
    AccessSettings,
    AuthUnavailable,
    IssuerAuthenticator,
    NotAuthenticated,
    OidcSettings,
    Principal,
)
from aisandbox_process import InvalidSetting
from cryptography.hazmat.primitives.asymmetric import ec
from issuer import AUDIENCE, Issuer, serving_issuer

NEW_KEYS_SECONDS = 10.0


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving_issuer() as issuer:
        yield issuer


def settings(issuer: Issuer, **fields: Any) -> OidcSettings:
    return OidcSettings(**{"issuer": issuer.url, "audience": AUDIENCE, "leeway_seconds": 5, **fields})


async def identified(issuer: Issuer, token: str, **fields: Any) -> Principal:
    return await IssuerAuthenticator(settings(issuer, **fields)).identify(token)


async def test_token_names_who_calls_and_their_roles(issuer: Issuer) -> None:
    groups = (("rl-team", ("simulator",)), ("others", ("admin",)))
    token = issuer.token(roles=["trainer", "aisandbox-viewer", "boss"], groups=["rl-team"])
    principal = await identified(issuer, token, group_roles=groups)
    assert (principal.name, principal.roles) == ("alice", frozenset({"trainer", "viewer", "simulator"}))


async def test_claims_are_where_the_settings_say(issuer: Issuer) -> None:
    token = issuer.token(email="alice@example.com", realm_access={"roles": ["admin"]})
    principal = await identified(issuer, token, name_claim="email", roles_claim="realm_access.roles")
    assert (principal.name, principal.roles) == ("alice@example.com", frozenset({"admin"}))


async def test_clock_may_differ_a_little(issuer: Issuer) -> None:
    assert (await identified(issuer, issuer.token(exp=time.time() - 1), leeway_seconds=60)).name == "alice"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1_000_000_000}, "the token has expired"),
        ({"exp": None}, "exp"),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"aud": "other"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://other.example.com"}, "[Ii]ssuer"),
        ({"sub": ""}, "claim sub: must be a name"),
        ({"key": "x" * 32, "algorithm": "HS256"}, "signed with 'HS256', which is not accepted"),
        ({"algorithm": "none"}, "signed with 'none', which is not accepted"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "not valid for this service"),
    ],
)
async def test_token_that_breaks_a_rule_is_refused(issuer: Issuer, claims: dict[str, Any], why: str) -> None:
    with pytest.raises(NotAuthenticated, match=why):
        await identified(issuer, issuer.token(**claims))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "x" * 10_000])
async def test_what_is_no_token_is_refused(issuer: Issuer, token: str) -> None:
    with pytest.raises(NotAuthenticated, match="not valid for this service"):
        await identified(issuer, token)


async def test_token_is_checked_once_until_it_expires(issuer: Issuer) -> None:
    now = 0.0
    authenticator = IssuerAuthenticator(settings(issuer, leeway_seconds=0), lambda: now)
    token = issuer.token(exp=time.time() + 30)
    principal = await authenticator.identify(token)
    assert authenticator.known(token) == principal
    now = 31.0
    assert authenticator.known(token) is None


async def test_new_key_is_read_and_unknown_keys_do_not_make_the_issuer_busy() -> None:
    now = 0.0
    with serving_issuer() as issuer:
        authenticator = IssuerAuthenticator(settings(issuer), lambda: now)
        await authenticator.start()
        issuer.renew("second")
        for number in range(5):
            with pytest.raises(NotAuthenticated, match="a key that the issuer does not have"):
                await authenticator.identify(issuer.token(number=number))
        assert issuer.answers == 1
        now = NEW_KEYS_SECONDS + 1
        assert (await authenticator.identify(issuer.token())).name == "alice"
        assert issuer.answers == 2


async def test_many_bad_tokens_do_not_keep_good_ones_out(issuer: Issuer) -> None:
    authenticator = IssuerAuthenticator(settings(issuer), lambda: 0.0)
    await authenticator.start()
    for number in range(300):
        with pytest.raises(NotAuthenticated):
            await authenticator.identify(f"bad-{number}")
    assert (await authenticator.identify(issuer.token())).name == "alice"


async def test_token_that_comes_while_keys_are_read_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = threading.Event(), threading.Event()
    with serving_issuer() as issuer:
        authenticator = IssuerAuthenticator(settings(issuer))
        answer = issuer.answer

        def answer_later(path: str) -> dict[str, Any]:
            asked.set()
            may_answer.wait(60)
            return answer(path)

        monkeypatch.setattr(issuer, "answer", answer_later)
        first = asyncio.create_task(authenticator.identify(issuer.token(number=1)))
        await asyncio.to_thread(asked.wait, 60)
        second = asyncio.create_task(authenticator.identify(issuer.token(number=2)))
        for _ in range(20):
            await asyncio.sleep(0)  # it would have been refused by now
        may_answer.set()
        assert [(await each).name for each in (first, second)] == ["alice", "alice"]
        assert issuer.answers == 1


@pytest.mark.parametrize(
    "issuer", ["http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://[::1", "https://", "ftp://a"]
)
def test_issuer_that_others_can_answer_for_is_refused(issuer: str) -> None:
    with pytest.raises(InvalidSetting, match="OIDC_ISSUER: must be an https"):
        AccessSettings.from_environ({"AUTH": "oidc", "OIDC_ISSUER": issuer, "OIDC_AUDIENCE": "a"})


async def test_issuer_that_does_not_answer_admits_nobody_and_is_asked_again(issuer: Issuer) -> None:
    authenticator = IssuerAuthenticator(OidcSettings(f"{issuer.url}/other", AUDIENCE))
    await authenticator.start()
    with pytest.raises(AuthUnavailable, match="could not be asked for its keys: ValueError it calls itself"):
        await authenticator.identify(issuer.token())


async def test_issuer_that_does_not_answer_is_not_made_busy(issuer: Issuer) -> None:
    authenticator = IssuerAuthenticator(OidcSettings(f"{issuer.url}/other", AUDIENCE), lambda: 0.0)
    for number in range(5):
        with pytest.raises(AuthUnavailable, match="could not be asked for its keys"):
            await authenticator.identify(issuer.token(number=number))
    with pytest.raises(AuthUnavailable, match="try again in a moment"):
        await authenticator.identify(issuer.token())
