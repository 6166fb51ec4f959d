"""What the service does under load while something fails."""
