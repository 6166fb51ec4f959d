"""Measurements of the model and the service, and the records they left."""
