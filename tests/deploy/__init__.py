"""The tests of containers and manifests."""
