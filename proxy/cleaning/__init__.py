"""The cleaning of captured copies beside the traffic: what takes longer than a moment is done by a process apart."""
