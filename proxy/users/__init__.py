"""Whose request it is: the user and the conversation that its head or its body names."""
