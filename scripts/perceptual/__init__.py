"""Parts of real_or_fake.py."""
