"""What authors of resources use."""
