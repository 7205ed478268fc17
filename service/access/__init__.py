"""Who may use the service, how often, and the record of what they did; knows nothing of HTTP."""
