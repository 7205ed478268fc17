"""The science of DiffDP: from a patient's CT and structures to a predicted dose. Knows nothing of services."""
