"""What a long study will take on this machine, before it starts: time, memory and disk, from a few measured steps."""
