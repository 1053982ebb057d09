"""Votes in the words of other systems' clients: a module for each, all on the one way of votes (`ballot_box`)."""
