"""Reading, tokenising, packing and splitting the user's data."""
