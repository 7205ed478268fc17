"""Training: data sets, pre-training of the structure encoder, training of the diffusion model."""
