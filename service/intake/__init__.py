"""From an upload to a study that is known to be usable; knows nothing of the transport that brought it."""
