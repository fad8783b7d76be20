"""The balanced allocation: experts stay where they are placed; only tokens that would finish too late move."""
