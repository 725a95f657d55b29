"""What is found out about operators by running them."""
