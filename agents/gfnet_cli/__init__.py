"""The command ``gfnet``. Nothing is imported before it is known what to do."""
