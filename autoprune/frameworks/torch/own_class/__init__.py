"""A cut network as an instance of the class it had."""
