"""Whose key goes where: a challenger's own, nobody's, the client's."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.serving import ChampionConfig
from proxy.credentials import Credential, CredentialFile, write_credentials
from proxy.routes import Target
from tests.gateway.test_arms import post
from tests.harness.gateway import config, open_gateway
from tests.harness.upstream import Upstream, serve_upstream

MINE = b"Authorization: Bearer client\r\nX-Api-Key: client\r\nX-Corp: client\r\n"


@pytest.mark.parametrize(
    ("credential", "sent"),
    [
        ("given", [b"authorization: Bearer sk-new"]),
        ("none", []),
        ("champion", []),
        (None, [b"Authorization: Bearer client", b"X-Api-Key: client", b"X-Corp: client"]),
    ],
)
async def test_a_challenger_elsewhere_gets_its_own_key_and_no_other(
    upstream: Upstream, tmp_path: Path, credential: str | None, sent: list[bytes]
) -> None:
    champion = {"url": upstream.url, "api_key": "sk-champion", "api_key_header": "x-corp"}
    async with serve_upstream() as new:
        write_credentials(tmp_path / "c.json", {"given": Credential.of(new.url, "sk-new")})
        keys = CredentialFile(tmp_path / "c.json", ChampionConfig(**champion))
        keys.refresh()
        target = Target(model_id=2, name="new", url=new.url, credential=credential)
        async with open_gateway(
            tmp_path, upstream.url, challenger=target, settings=config(champion=champion), credentials=keys.header
        ) as door:
            await door.ask(post(b"{}", MINE))
            door.route(share=0.0)
            await door.ask(post(b"{}", MINE))
        said = [line for line in new.seen[0].lines if line.lower().startswith((b"auth", b"x-api", b"x-corp"))]
        assert said == sent
        own = [line for line in upstream.seen[0].lines if line.lower().startswith((b"auth", b"x-api", b"x-corp"))]
        assert own == [b"x-corp: sk-champion"]


@pytest.mark.parametrize(
    "known", [{}, {"given": Credential.of("http://elsewhere", "sk-new")}], ids=["unknown", "other"]
)
async def test_a_challenger_without_its_key_gets_no_users_until_it_comes(
    upstream: Upstream, tmp_path: Path, known: dict[str, Credential], caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_upstream() as new:
        keys = CredentialFile(tmp_path / "c.json", ChampionConfig())
        write_credentials(tmp_path / "c.json", known)
        keys.refresh()
        target = Target(model_id=2, name="new", url=new.url, credential="given")
        async with open_gateway(tmp_path, upstream.url, challenger=target, credentials=keys.header) as door:
            await door.ask(post(b"{}", MINE))
            assert new.seen == []
            assert (await door.frame()).meta["exp"] is None
            assert "new gets no users here: the API key" in caplog.text
            write_credentials(tmp_path / "c.json", {"given": Credential.of(new.url, "sk-new")})
            keys.refresh()
            door.route()
            await door.ask(post(b"{}", MINE))
            assert new.seen[0].header("authorization") == b"Bearer sk-new"
            assert (await door.frame(2)).meta["exp"] == 7


async def test_a_champion_without_its_key_is_asked_without_any(
    upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says 401, which people can understand; the clients' keys are not for it."""
    async with open_gateway(tmp_path, upstream.url) as door:
        door.route(champion=Target(model_id=1, name="old", url=upstream.url, credential="gone"))
        await door.ask(post(b"{}", MINE))
    assert upstream.seen[0].header("authorization") is None
    assert "old is asked without an API key: the API key gone is not on this host" in caplog.text


@pytest.mark.parametrize("path", ["/\N{LATIN SMALL LETTER U WITH DIAERESIS}", ":port"])
async def test_a_challenger_whose_url_is_no_good_leaves_the_champion_serving(
    upstream: Upstream, tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target(model_id=2, name="new", url=f"http://127.0.0.1{path}")
    async with open_gateway(tmp_path, upstream.url, challenger=target) as door:
        await door.ask(post(b"{}", MINE))
        assert len(upstream.seen) == 1
        assert (await door.frame()).meta["exp"] is None
        assert "new gets no users here" in caplog.text
