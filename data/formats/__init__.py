"""Reading images from files, one module per family of formats."""
