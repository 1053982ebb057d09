"""Redaction of texts: what they say under their escapes (`views`), JSON that stays JSON (`texts`), text that was torn
over the events of a stream (`torn`). `proxy.wire.redact` puts them together for bodies."""
