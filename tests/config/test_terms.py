"""A champion on a hosted API and a trainer: the provider's terms may forbid that, which is said until acknowledged."""

from dataclasses import replace

import pytest

from proxy.config import Config, parse_config
from proxy.config.terms import PROVIDERS, provider_of, terms_note


def config(url: str, trainer: str = "callable") -> Config:
    return parse_config({"champion": {"url": url}, "trainer": {"kind": trainer, "callable": "json:dumps"}})


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com", "OpenAI"),
        ("https://API.OpenAI.com:443/v1", "OpenAI"),
        ("https://eu.api.openai.com/v1", "OpenAI"),
        ("https://our-name.openai.azure.com/openai", "Azure OpenAI"),
        ("https://api.anthropic.com", "Anthropic"),
        ("https://generativelanguage.googleapis.com", "Google Gemini"),
        ("https://europe-west4-aiplatform.googleapis.com/v1", "Google Vertex AI"),
        ("https://aiplatform.googleapis.com", "Google Vertex AI"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "Amazon Bedrock"),
        ("https://api.mistral.ai", "Mistral"),
        ("https://api.cohere.com", "Cohere"),
        ("https://openrouter.ai/api", "OpenRouter"),
        ("https://api.groq.com/openai", "Groq"),
        ("https://api.x.ai", "xAI"),
        ("https://api.deepseek.com", "DeepSeek"),
        ("https://api.together.xyz", "Together AI"),
        ("https://api.fireworks.ai/inference", "Fireworks AI"),
        ("https://api.openai.com./v1", "OpenAI"),
    ],
)
def test_a_hosted_champion_is_known_by_its_host(url: str, provider: str) -> None:
    note = terms_note(config(url))
    assert provider_of(url) == provider
    assert note is not None
    assert provider in note
    assert "champion.terms_acknowledged = true" in note


@pytest.mark.parametrize(
    "url",
    ["", "http://127.0.0.1:8000", "https://api.openai.com.example.org", "https://notapi.openai.com.evil", "http://[::1",
     "https://my-api.openai.company", "https://s3.us-east-1.amazonaws.com", "https://vllm.internal/api.openai.com"],
)  # fmt: skip
def test_anybody_else_is_not(url: str) -> None:
    assert provider_of(url) is None


def test_it_is_silent_without_a_trainer_and_once_acknowledged() -> None:
    hosted = config("https://api.openai.com")
    assert terms_note(replace(hosted, trainer=replace(hosted.trainer, kind="none"))) is None
    assert terms_note(replace(hosted, champion=replace(hosted.champion, terms_acknowledged=True))) is None
    assert terms_note(config("http://127.0.0.1:8000")) is None


def test_every_host_of_the_table_is_found() -> None:
    for host, name in PROVIDERS.items():
        assert provider_of(f"https://{host.replace('*', 'a')}/v1") == name
