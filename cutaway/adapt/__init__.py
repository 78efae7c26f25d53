"""Parameter-efficient adaptation by module surgery."""
