"""The operations users call, as functions from nodes to nodes; one module per family. See `core` for the contract."""
