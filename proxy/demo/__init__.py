"""`ratchet demo`: a small real model that improves itself in front of you.

Everything is real but the users: the gateway, the store, the loop, the trainer, the deployer and the model, a
text classifier that answers a web shop's customers over an OpenAI-style API. The users are simulated: they know
what they meant, are lazy and sometimes wrong when they vote, and now and then pick the right topic from a menu.
"""
