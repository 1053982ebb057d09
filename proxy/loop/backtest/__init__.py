"""What other settings would have decided, on the records that are stored. Nothing is touched."""
