"""Checkpoints on disk: safetensors weights and the manifest that says all that is needed to use them."""
