"""The dosimetrist's page: plain HTML, style and script, served as they are."""
