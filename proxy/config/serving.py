"""Settings of the serving path: listeners, the model behind us, the gateway's limits, capture and spool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.intervals import Interval
from proxy.config import forms

__all__ = ["MAX_TAGS", "AdminConfig", "BreakerConfig", "CaptureConfig", "ChampionConfig", "GatewayConfig",
           "RedactionConfig", "ServerConfig", "SpoolConfig", "StickyConfig", "key_in_header"]  # fmt: skip


TASK_PATTERNS: Final = (
    r"\A\s*### Task:\s[\s\S]*<chat_history>",
    r'\A\s*### Task:\s[\s\S]*### Output:\s*(?:Strictly return in )?JSON format:\s*\{\s*"(?:title|tags|follow_ups|queries|prompt)"',
    r"\A\s*Your task is to reflect the speaker.s likely facial expression through a fitting emoji",
    r"\A\s*Available Tools: [\s\S]*Your task is to choose and return the correct tool\(s\) from the list",
    r"\A\s*Here is the query:[\s\S]*Create a concise, 3-5 word phrase",
    r"\A\s*(?:Please )?(?:[Aa]naly[sz]e|[Pp]rovide|[Gg]enerate|[Ww]rite|[Cc]reate|[Gg]ive)\b(?i:(?=[\s\S]{0,400}\btitle\b)(?=[\s\S]{0,400}\b(?:5|five)[- ]words?[- ]or[- ]less\b)[\s\S]{0,400}\bconversation\b[\s\S]*\n\s*(?:User|Conversation):)",
)
"""The built-in templates of Open WebUI, and LibreChat's for titles: beginning and further marks, each in linear time."""


HASHED_ALIAS: Final = "#sha256"
"""Behind a header of `capture.alias_headers`: a hash of its value is the name."""
MAX_TAGS: Final = 8
"""Of one record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The public listener, where clients point instead of at the model."""

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 or :: for every interface."""
    port: Annotated[int, Interval("[0, 65535]", "a TCP port, 0 for a free one")] = 8080
    """TCP port; 0 picks a free one and prints it."""
    public_url: Annotated[str | None, forms.base_url] = None
    """Where clients reach the public port, e.g. https://llm.example.com, where a balancer is in front: the console shows it, and presigned URLs (LangSmith) begin with it. None: host and port as they are, and the Host of the request that asks for a presigned URL."""
    workers: Annotated[int, Interval("[1, 256]", "a number of processes")] = 1
    """Gateway processes sharing the port. One handles about 25,000 small requests a second; more need more cores."""
    data_dir: str = "ratchet-data"
    """Directory for spool, SQLite database, route table, keys, training data and logs. Relative to the working directory."""
    keys_file: str | None = None
    """File with the keys that sign record ids, shared by several hosts. None: keys.json in the data directory, which hosts on one PostgreSQL share through it."""
    drain_seconds: Annotated[float, Interval("[0, inf)", "seconds")] = 30.0
    """On SIGTERM, seconds that open requests and streams get to finish before they are cut."""
    controller_nice: Annotated[int, Interval("[0, 19]", "a nice value")] = 10
    """By how much the controller's priority is lower than the workers' (nice, 0 to 19), so that storing records and deciding never slow a request down. Trainings and model servers keep the workers' priority."""
    tls_cert_file: str | None = None
    """PEM certificate chain; with tls_key_file the public port speaks HTTPS."""
    tls_key_file: str | None = None
    """PEM private key of tls_cert_file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """The admin listener: metrics, status, console and control actions. Never exposed to users."""

    enabled: bool = True
    """Serve the admin port."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs a token."""
    port: Annotated[int, Interval("[0, 65535]", "a TCP port, 0 for a free one")] = 8081
    """TCP port; 0 picks a free one and prints it."""
    token: Annotated[str | None, forms.secret] = field(default=None, repr=False, metadata={"secret": True})
    """Bearer token for every admin URL but /metrics. Required on a non-loopback address, and then of 16 characters or more."""
    token_file: str | None = None
    """File that holds the token, as an alternative to `token`."""
    metrics_need_token: bool = False
    """Ask for the token on /metrics, too."""
    grafana_url: Annotated[str | None, forms.base_url] = None
    """Base URL of the Grafana that has our dashboards, e.g. https://grafana.example.com: the console links to them, at the time that is looked at. None: no links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionConfig:
    """The model that serves until something better is promoted."""

    url: Annotated[str, forms.base_url] = ""
    """Base URL of the model's server, e.g. http://127.0.0.1:8000 or https://api.openai.com. Required to serve."""
    name: str = "champion"
    """What this model is called in metrics, pages and training data."""
    model: str | None = None
    """Rewrite the JSON `model` field of requests to this; None leaves the client's."""
    api_key: Annotated[str | None, forms.secret] = field(default=None, repr=False, metadata={"secret": True})
    """Replaces the client's credential upstream; None passes the client's through."""
    api_key_file: str | None = None
    """File that holds api_key."""
    api_key_header: Annotated[str, forms.key_header] = "authorization"
    """Header that carries api_key; `authorization` gets the prefix `Bearer `, any other header the bare key."""
    ca_file: str | None = None
    """PEM file with certificates of authorities that are trusted beside the system's wherever we call a server: the models', whoever serves them, their probes and checks, the judge, deployers and trainers. Read at the start."""
    terms_acknowledged: bool = False
    """You know what the terms of a hosted champion's provider say about training on its answers; `check-config` no longer mentions them."""

    def credential_header(self) -> tuple[str, str] | None:
        """Name and value of the header that carries `api_key`; None without one."""
        return None if self.api_key is None else key_in_header(self.api_key_header, self.api_key)


def key_in_header(header: str, api_key: str) -> tuple[str, str]:
    """Name and value of the header that carries an API key: `authorization` has it as a bearer token."""
    return header, f"Bearer {api_key}" if header.lower() == "authorization" else api_key


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyConfig:
    """Which part of a request names its user. The first source that is present wins."""

    headers: Annotated[tuple[str, ...], forms.header_member] = (
        "x-openwebui-user-id",
        "x-litellm-user_api_key_end_user_id",
        "x-user-id",
        "helicone-user-id",
        "x-openwebui-user-jwt#sub",
        "x-portkey-metadata#_user",
        "x-codex-turn-metadata#installation_id",
    )
    """Request headers, tried in order after x-ratchet-user; `name#member` takes one member of the JSON or JWT in a header."""
    cookie: str | None = None
    """Name of a cookie, tried after the headers."""
    body_fields: tuple[str, ...] = (
        "safety_identifier",
        "user",
        "user.id",
        "metadata.user_id",
        "client_metadata.x-codex-installation-id",
        "metadata.trace_user_id",
    )
    """Fields of a JSON body, dotted, tried after the cookie; wherever they stand, however long the body is."""
    conversation_headers: Annotated[tuple[str, ...], forms.header_member] = (
        "x-openwebui-chat-id",
        "x-conversation-id",
        "x-claude-code-session-id",
        "helicone-session-id",
        "x-litellm-session-id",
        "session-id",
        "thread-id",
    )
    """Headers that name the conversation, written like `headers`. It is recorded, and the sticky key where nobody names the user."""
    conversation_fields: tuple[str, ...] = (
        "conversation",
        "conversation.id",
        "conversation_id",
        "metadata.session_id",
        "client_metadata.session_id",
        "prompt_cache_key",
    )
    """Fields of a JSON body, dotted, that name the conversation where no header does; after them the session within a user's id."""
    first_message: bool = True
    """Last resort before random: hash of the first user message, which keeps a conversation together. Also of a body too long to keep."""
    trust: Literal["networks", "token", "all"] = "networks"
    """Whom to believe when they name a user: requests from trusted_networks, only such with the token, or `all`. Elsewhere a name is only claimed: it keeps its user on one model, and evidence is counted by cluster."""
    trusted_networks: Annotated[tuple[str, ...], forms.network] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
    """Networks of your backends and balancers. Behind one of them, the right-most other address in Forwarded or X-Forwarded-For is who asks."""
    token: Annotated[str | None, forms.secret] = field(default=None, repr=False, metadata={"secret": True})
    """Whoever sends it as x-ratchet-token is believed, from wherever it comes. It is not forwarded."""
    token_file: str | None = None
    """File that holds the token, as an alternative to `token`."""
    cluster_by: Literal["credential", "network"] = "credential"
    """What tells claimed users apart: the credential of their request, else the network (/24, /64). `network` where the model's server does not check credentials; it is always so where champion.api_key replaces them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """Circuit breaker on the challenger, and in the watch on the old champion: a broken model costs nobody an answer."""

    consecutive_failures: Annotated[int, Interval("[1, inf)", "a count")] = 5
    """Failures in a row (no connection, time-out before the first byte, 502/503/504, gateway.fallback_statuses) that open it."""
    open_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 10.0
    """Seconds before one request probes again; doubles up to ten times that while probes fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Limits and time-outs of forwarding. Each limit has its own status code."""

    connect_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 5.0
    """For a connection to the model, TLS included; 502 after it."""
    first_byte_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 600.0
    """From the end of the request to the first byte of the answer; 504 after it. Long, because a model may think."""
    idle_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 300.0
    """Silence in the middle of an answer before it is given up."""
    head_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 30.0
    """For a client to send a whole request head; 408 after it."""
    client_idle_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 75.0
    """Keep-alive connections of clients are closed after this silence."""
    body_idle_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 60.0
    """Silence in the middle of a request body before 408."""
    max_head_bytes: Annotated[int, Interval("[1024, 16777216]", "bytes of a request head")] = 65536
    """Request line and headers; 431 (414 for the target alone) over it."""
    max_headers: Annotated[int, Interval("[1, inf)", "a count")] = 200
    """Number of request headers; 431 over it."""
    max_body_bytes: Annotated[int, Interval("[0, inf)", "bytes")] = 0
    """Request body; 413 over it. 0: no limit, bodies stream through."""
    max_connections: Annotated[int, Interval("[1, inf)", "a count")] = 10000
    """Client connections that a worker serves at a time; more are accepted, and wait unread until there is room."""
    upstream_keepalive: Annotated[int, Interval("[0, inf)", "a count")] = 256
    """Idle connections kept per model and worker."""
    upstream_idle_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 30.0
    """Idle connections to the model are closed after this; keep it below the model server's own limit."""
    forwarded_headers: bool = False
    """Add X-Forwarded-For, -Proto and -Host. Off: requests go out as they came."""
    via: bool = False
    """Add a Via header to requests and responses. In requests it names this install, so that a loop is found out at once (508)."""
    expose_arm: bool = False
    """Add x-ratchet-arm to responses. Off: users should not know which model they got."""
    fallback_statuses: Annotated[tuple[int, ...], forms.refusal] = (401, 403, 404, 408, 429)
    """Refusals of the challenger (400 to 499) that the champion answers instead; where it answers well, they count like the 502, 503 and 504 that always do. What it refuses, too, was the client's own fault."""
    rewrite_locations: bool = True
    """Rewrite Location, Content-Location and Refresh that name the model's own address, so that clients stay with us."""
    shadow_concurrency: Annotated[int, Interval("[1, 1024]", "a count")] = 4
    """Copies of requests that a worker has at a challenger at a time while it is shadowed (ab_test_config.shadow_share); further ones are dropped, not queued. Few, for they share the challenger's machine, and often the champion's."""
    shadow_timeout_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 120.0
    """For the whole answer to a copy; after it the copy counts as failed. Nobody waits for it, but it holds one of the few places."""
    breaker: BreakerConfig = field(default_factory=BreakerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionConfig:
    """Cleaning of the captured copy before it reaches the disk. What is forwarded is never touched."""

    patterns: tuple[str, ...] = ()
    """Regular expressions in Python's syntax; each match becomes `[redacted]`."""
    engine: Literal["re2", "python"] = "re2"
    """What runs the patterns: re2 in linear time, without look-around and back-references; python with them, at the risk that a hostile text takes up to deadline_seconds."""
    deadline_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 2.0
    """Longest cleaning of one body, by a process apart; what takes longer is not recorded."""
    callable: Annotated[str | None, forms.import_path] = None
    """`package.module:function` taking and returning text, applied after the patterns."""

    @property
    def cleans(self) -> bool:
        """Whether there is anything to clean with."""
        return bool(self.patterns) or self.callable is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """What of an exchange is written down."""

    enabled: bool = True
    """Keep bodies. Off: metadata only."""
    max_request_bytes: Annotated[int, Interval("[0, inf)", "bytes")] = 262144
    """Kept of a request body; the rest streams on, counted and hashed."""
    max_response_bytes: Annotated[int, Interval("[0, inf)", "bytes")] = 1048576
    """Kept of a response body; the rest streams on, counted and hashed."""
    max_decoded_bytes: Annotated[int, Interval("[65536, 268435456]", "bytes of one body")] = 4194304
    """Undone of one compressed body, all its codings together (three at most), so that a few kilobytes of a stranger's cannot fill the memory. What is beyond reads as cut."""
    skip_paths: Annotated[tuple[str, ...], forms.path] = ("/health", "/healthz", "/metrics", "/ping", "/favicon.ico")
    """Exact paths that are forwarded but not recorded."""
    no_train_header: Annotated[str, forms.header_name] = "x-ratchet-no-train"
    """Requests with this header (any value but 0 or false), or with a JSON `store: false`, never become training data."""
    query_pointers: Annotated[tuple[str, ...], forms.pointer] = ()
    """JSON pointers (RFC 6901) to the query in a request body of unknown shape; the first that exists wins."""
    response_pointers: Annotated[tuple[str, ...], forms.pointer] = ()
    """JSON pointers to the answer in a response body of unknown shape."""
    user_pointers: Annotated[tuple[str, ...], forms.pointer] = ()
    """JSON pointers to the user in a request body, after the sticky sources. For the record only, not for assignment."""
    quality_pointers: Annotated[tuple[str, ...], forms.pointer] = ()
    """JSON pointers to a quality score in [0, 1] in a response body."""
    task_headers: Annotated[tuple[str, ...], forms.header_name] = ("x-openwebui-task",)
    """Request headers by which a chat UI says that it asks for itself (a title, tags): any value but an empty one or an unfilled `{{TASK}}`. Such requests have the kind `task`: never training data, never evidence."""
    task_models: tuple[str, ...] = ()
    """Names that requests give as `model` only when a UI asks for itself, such as LibreChat's titleModel."""
    task_patterns: tuple[str, ...] = TASK_PATTERNS
    """Regular expressions, run in linear time (no look-around, no back-references), that tell a UI's own request by its only user message, or by the system prompt before it; never a streamed one. An empty list leaves it to headers, metadata and model names."""
    alias_headers: Annotated[tuple[str, ...], forms.alias_header] = (
        "x-openwebui-message-id",
        "x-message-id",
        "x-message-id#sha256",
        "x-portkey-trace-id",
        "helicone-request-id",
        "langsmith-trace",
        "traceparent",
    )
    """Request headers that hold a name by which votes may know the answer: a message, a trace, a run (`traceparent` and `langsmith-trace` hold two each). `name#sha256`: the first 32 hex digits of the value's SHA-256, as LibreChat's Langfuse scores have it. Empty values name nothing; one of fewer than 8 characters names an answer as long as it is of one conversation. Read besides these: the answer's own id, x-request-id, and the ids in the answers of LiteLLM, Helicone, Portkey and Bedrock."""
    tag_headers: Annotated[tuple[str, ...], forms.header_name] = ()
    """Request headers whose values are tags of the record, such as a plan, a region or a feature. Effects are shown by tag, and harm that is proven in a tag with 5 % of the traffic blocks a promotion. At most 8 together with tag_fields. Have your own backend set them: a client that may choose its tags chooses where it is counted."""
    tag_fields: Annotated[tuple[str, ...], forms.pointer] = ()
    """JSON pointers into the request body to such values, e.g. /metadata/feature; cut after 64 characters."""
    redaction: RedactionConfig = field(default_factory=RedactionConfig)

    @property
    def recorded_headers(self) -> tuple[str, ...]:
        """Request headers that are written down by setting, in lower case, each once."""
        aliases = (name.removesuffix(HASHED_ALIAS) for name in self.alias_headers)
        return tuple(dict.fromkeys(map(str.lower, (*self.task_headers, *self.tag_headers, *aliases))))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolConfig:
    """The write-ahead log between the gateway and the store."""

    fsync: Literal["interval", "always", "never"] = "interval"
    """A killed process loses nothing either way; this bounds what a power cut can take."""
    fsync_interval_seconds: Annotated[float, Interval("(0, inf)", "seconds")] = 1.0
    """How much a power cut may take with fsync = "interval"."""
    segment_bytes: Annotated[int, Interval("[65536, inf)", "bytes; smaller files cost more than they hold")] = 67108864
    """A segment file is closed at this size; ingested segments are deleted whole."""
    max_bytes: Annotated[int, Interval("[65536, inf)", "bytes; smaller files cost more than they hold")] = 4294967296
    """Cap over all segments of this host: what an outage of the store may pile up."""
    keep_seconds: Annotated[float, Interval("[0, inf)", "seconds")] = 900.0
    """How long segments are kept once they are stored, so that a database that goes back (a restored copy, a standby that lagged) is fed again. They go first where the spool reaches half its cap or the disk is short. 0 deletes them at once."""
    when_full: Literal["drop_new", "refuse"] = "drop_new"
    """At the cap: serve on and count what is not recorded, or answer 503."""
