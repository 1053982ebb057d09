"""Judges: what scores answers that nobody has voted on. `ports` says what one is, a module each knows one kind, and
`service` has finished records judged, beside the traffic."""
