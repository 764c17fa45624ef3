"""Documents that are generated, and the code that generates them."""
