"""What one looks at."""
