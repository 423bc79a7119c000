"""What a run leaves behind: how its folder is laid out, written and read."""
