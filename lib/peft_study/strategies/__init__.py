"""How a strategy fine-tunes an encoder: what trains, or which adapter is added. Read encoders, adapters, table."""
