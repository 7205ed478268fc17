"""The diffusion itself: schedule, forward process, reverse process. It knows a noise predictor only as a function."""
