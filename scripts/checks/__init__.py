"""Parts of doctor.py."""
