"""From tables to what is read: figures, tables as printed, sentences, numbers."""
