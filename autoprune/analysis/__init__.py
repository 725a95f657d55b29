"""What can be read off the axis types: groups, guarantees and costs."""
