"""Networks: what they compute from tensors, and nothing of schedules, samplers or patients."""
