"""Fine-tuning strategies: trainable parameters or adapters. Read encoders, adapters, table."""
