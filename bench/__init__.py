"""Benches: ours and the peer, side by side in one run. `python -m bench NAME… [--json]`; see README.md here."""
