"""The balanced allocation: experts stay where they are placed, and tokens move that would end too late."""
