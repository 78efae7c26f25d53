"""What every other area stands on."""
