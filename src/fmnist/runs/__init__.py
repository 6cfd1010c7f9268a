"""The run folder and the ledger."""
