"""Hosted models: providers whose terms of use may forbid to train other models on what theirs answered.

A note and no more: terms change, contracts differ, and only whoever has signed them knows. The table names hosts, not
what their terms say today.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from proxy.config.model import Config

__all__ = ["PROVIDERS", "provider_of", "terms_note"]

PROVIDERS: Final = {
    "api.openai.com": "OpenAI",
    "*.api.openai.com": "OpenAI",
    "*.openai.azure.com": "Azure OpenAI",
    "*.services.ai.azure.com": "Azure AI",
    "*.models.ai.azure.com": "Azure AI",
    "*.cognitiveservices.azure.com": "Azure AI",
    "models.inference.ai.azure.com": "GitHub Models",
    "models.github.ai": "GitHub Models",
    "api.anthropic.com": "Anthropic",
    "generativelanguage.googleapis.com": "Google Gemini",
    "aiplatform.googleapis.com": "Google Vertex AI",
    "*-aiplatform.googleapis.com": "Google Vertex AI",
    "aiplatform.*.rep.googleapis.com": "Google Vertex AI",
    "bedrock-runtime.*.amazonaws.com": "Amazon Bedrock",
    "bedrock-runtime-fips.*.amazonaws.com": "Amazon Bedrock",
    "bedrock-runtime.*.amazonaws.com.cn": "Amazon Bedrock",
    "*.bedrock-runtime.*.vpce.amazonaws.com": "Amazon Bedrock",
    "api.mistral.ai": "Mistral",
    "codestral.mistral.ai": "Mistral",
    "api.cohere.com": "Cohere",
    "api.cohere.ai": "Cohere",
    "openrouter.ai": "OpenRouter",
    "api.groq.com": "Groq",
    "api.x.ai": "xAI",
    "*.api.x.ai": "xAI",
    "api.deepseek.com": "DeepSeek",
    "api.together.xyz": "Together AI",
    "api.together.ai": "Together AI",
    "api.fireworks.ai": "Fireworks AI",
    "api.perplexity.ai": "Perplexity",
    "api.cerebras.ai": "Cerebras",
    "api.sambanova.ai": "SambaNova",
    "api.ai21.com": "AI21",
    "api.moonshot.ai": "Moonshot AI",
    "api.moonshot.cn": "Moonshot AI",
    "api.minimax.io": "MiniMax",
    "api.z.ai": "Z.ai",
    "open.bigmodel.cn": "Zhipu AI",
    "dashscope.aliyuncs.com": "Alibaba Model Studio",
    "dashscope-intl.aliyuncs.com": "Alibaba Model Studio",
    "integrate.api.nvidia.com": "NVIDIA",
    "router.huggingface.co": "Hugging Face",
    "api-inference.huggingface.co": "Hugging Face",
    "api.deepinfra.com": "DeepInfra",
    "api.replicate.com": "Replicate",
    "gateway.ai.cloudflare.com": "Cloudflare AI Gateway",
    "ai-gateway.vercel.sh": "Vercel AI Gateway",
    "api.portkey.ai": "Portkey",
}
"""Host, with `*` for any labels of a name, and whose it is."""
_HOSTS: Final = [(re.compile(re.escape(host).replace(r"\*", ".+")), name) for host, name in PROVIDERS.items()]


def provider_of(url: str) -> str | None:
    """Who serves the models behind `url`, where it is a known provider; None for anybody else, and for no URL."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return None
    return next((name for pattern, name in _HOSTS if pattern.fullmatch(host)), None)


def terms_note(config: Config) -> str | None:
    """What to think about before answers of a hosted model train another one; None where there is nothing to say."""
    provider = provider_of(config.champion.url)
    if provider is None or config.trainer.kind == "none" or config.champion.terms_acknowledged:
        return None
    return (
        f"champion.url is {provider}'s, and trainer.kind is {config.trainer.kind}: the provider's terms may forbid training "
        "models on its answers; read them, then set champion.terms_acknowledged = true, and this is not said again"
    )
