"""The report of a prediction: its content, and its forms for people and programs."""
