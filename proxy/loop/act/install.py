"""The first tick of an installation, and what a changed configuration or a restored database asks for.

The configured champion is a row like any other; it is told apart by `detail.configured`, so that a new address in
the configuration reaches it, whether or not something better has been promoted meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policies.rows import Model, ModelState
from policies.state import LoopState
from policies.transition import installed
from proxy.config.serving import ChampionConfig
from proxy.store.store import Store

__all__ = ["BaseModel", "configured_model", "first_model", "first_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The champion of the configuration."""

    name: str
    url: str
    model: str | None = None
    credential: str | None = None
    """Name of the credential that replaces the client's; None passes the client's through."""

    @classmethod
    def of(cls, champion: ChampionConfig) -> BaseModel:
        """From the table `[champion]`."""
        credential = "champion" if champion.api_key or champion.api_key_file else None
        return cls(name=champion.name, url=champion.url, model=champion.model, credential=credential)


async def first_model(store: Store, base: BaseModel) -> Model:
    """The configured champion's row, made where there is none: by the loop's first tick or the first record,
    whichever comes first. Raises TemporaryError."""
    rows = [row for row in await store.models.list() if row.detail.get("configured")]
    if rows:
        return rows[0]
    return await store.models.add(
        base.name,
        url=base.url,
        model=base.model,
        credential=base.credential,
        state=ModelState.CHAMPION,
        detail={"configured": True},
    )


async def first_state(store: Store, base: BaseModel, now: float, routes_version: int, config_id: int = 0) -> LoopState:
    """The state of a new installation at `now` (Unix seconds): the configured champion serves, by a newer route table
    than the file's of `routes_version`. Raises TemporaryError."""
    model = await first_model(store, base)
    return installed(model.id, now, routes_version + 1, config_id)


async def configured_model(store: Store, base: BaseModel) -> Model | None:
    """The configured champion's row as it should be now; None where it is so already."""
    rows = [row for row in await store.models.list() if row.detail.get("configured")]
    if not rows:
        return None
    wanted = replace(rows[0], name=base.name, url=base.url, model=base.model, credential=base.credential)
    return None if wanted == rows[0] else wanted
