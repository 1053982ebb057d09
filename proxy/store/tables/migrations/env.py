"""Alembic's entry point: runs on the connection and in the transaction that `proxy.store.tables.migrate` hands over."""

from __future__ import annotations

from alembic import context

from proxy.store.tables.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
