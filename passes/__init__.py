"""What chooses and what changes: criteria and allocation."""
